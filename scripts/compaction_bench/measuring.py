"""How much of what an agent needs later survives a compaction.

A session is split in halves. The tool calls of the second half name values (ids, dates, amounts) as their arguments;
those that the first half has told already are the needed ones. The first half is then compacted to a fraction of its
size, and the needed values that the result still spells are counted. No model judges, so the figure is the same
for everybody.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from workers.compaction.extractive import bytes_of, extract

Message: TypeAlias = dict[str, Any]
Compact: TypeAlias = Callable[[Sequence[Message], int], str]
"""Condenses messages to so many bytes."""


class Reading(msgspec.Struct, frozen=True):
    """One way to define what is needed.

    Attributes:
        name: What it is called.
        shortest: Characters of a value that is counted, at least.
        numbers: Whether numbers are counted, or texts alone.
        turns: Whether the halves have as many of the user's turns, or as many messages.
        system: Whether the system's messages are part of what is compacted.
    """

    name: str
    shortest: int = 3
    numbers: bool = True
    turns: bool = False
    system: bool = False


READINGS = (
    Reading("as described"),
    Reading("texts only", numbers=False),
    Reading("from two characters", shortest=2),
    Reading("any length", shortest=1),
    Reading("halves by the user's turns", turns=True),
    Reading("with the system's messages", system=True),
    Reading("both", turns=True, system=True),
)


class Kept(msgspec.Struct):
    """What a compaction kept of the needed values of some sessions.

    Attributes:
        needed: Values that are needed, over all sessions.
        kept: Values of these that are still there.
        shares: The share that is still there, session by session.
    """

    needed: int = 0
    kept: int = 0
    shares: list[float] = []

    @property
    def micro(self) -> float:
        """The share of all values; 1 if none is needed."""
        return self.kept / self.needed if self.needed else 1.0

    @property
    def macro(self) -> float:
        """The mean of the sessions' shares; 1 if none needs any."""
        return sum(self.shares) / len(self.shares) if self.shares else 1.0


def measure(sessions: Sequence[Sequence[Message]], compact: Compact, part: int, reading: Reading) -> Kept:
    """Compact the first half of each session to one part of so many, and count what is kept.

    Raises:
        ValueError: The compaction exceeds its budget.
    """
    result = Kept()
    for session in sessions:
        first, second = halves(session, reading)
        budget = sum(bytes_of(text_of(message)) for message in first) // part
        needed = needed_of(first, second, reading)
        if not needed:
            continue
        text = compact(first, budget)
        if bytes_of(text) > budget:
            raise ValueError(f"{bytes_of(text)} bytes of {budget}")
        kept = sum(value in text for value in needed)
        result.needed += len(needed)
        result.kept += kept
        result.shares.append(kept / len(needed))
    return result


def halves(session: Sequence[Message], reading: Reading) -> tuple[list[Message], list[Message]]:
    """Return the first and the second half of a session."""
    middle = len(session) // 2
    if reading.turns:
        asked = [place for place, message in enumerate(session) if message["role"] == "user"]
        middle = asked[len(asked) // 2] if asked else 0
    first = [message for message in session[:middle] if reading.system or message["role"] != "system"]
    return first, list(session[middle:])


def needed_of(first: Sequence[Message], second: Sequence[Message], reading: Reading) -> list[str]:
    """Return the values that the calls of the second half name and the first half has told, each once."""
    told = "\n".join(map(text_of, first))
    named = (
        value
        for message in second
        for call in message.get("tool_calls") or ()
        for value in _leaves(_arguments(call), numbers=reading.numbers)
    )
    return [value for value in dict.fromkeys(named) if len(value) >= reading.shortest and value in told]


def text_of(message: Message) -> str:
    """Return what a message says and calls, as it is."""
    content = message.get("content")
    said = [] if content is None else [content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)]
    called = [call["function"]["arguments"] for call in message.get("tool_calls") or ()]
    return "\n".join([*said, *called])


def _arguments(call: dict[str, Any]) -> Any:
    try:
        return json.loads(call["function"]["arguments"])
    except ValueError:
        return None


def _leaves(value: Any, *, numbers: bool) -> Iterator[str]:
    match value:
        case dict():
            for item in value.values():
                yield from _leaves(item, numbers=numbers)
        case list():
            for item in value:
                yield from _leaves(item, numbers=numbers)
        case str():
            yield value
        case bool() | None:
            pass
        case _ if numbers:
            yield json.dumps(value)


def newest(messages: Sequence[Message], budget: int) -> str:
    """Return the newest messages that fit, whole: plain truncation."""
    kept: list[str] = []
    for message in reversed(messages):
        text = text_of(message)
        budget -= bytes_of(text)
        if budget < 0:
            break
        kept.append(text)
        budget -= 1
    return "\n".join(reversed(kept))


def in_steps(steps: int) -> Compact:
    """Return the compaction that sees the messages in so many steps, each with the summary so far."""

    def compact(messages: Sequence[Message], budget: int) -> str:
        summary = ""
        for some in _steps(messages, steps):
            summary = extract(some, budget, summary)
        return summary

    return compact


def _steps(messages: Sequence[Message], steps: int) -> Iterator[Sequence[Message]]:
    length = max(1, -(-len(messages) // steps))
    for start in range(0, len(messages), length):
        yield messages[start : start + length]


class Speed(msgspec.Struct, frozen=True):
    """What a compaction of a history of some size costs: seconds of the processor, which other processes do not use."""

    times: int
    megabytes: float
    seconds: float


def speeds(sessions: Sequence[Sequence[Message]], base: int, growth: Sequence[int]) -> list[Speed]:
    """Compact histories of some sizes to a quarter, each of different messages, and return what each costs.

    Args:
        sessions: Whose messages to use; again, with other numbers in them, where they are too few.
        base: Messages of the smallest history.
        growth: How many times as many messages the histories have.
    """
    messages = [message for session in sessions for message in session if message["role"] != "system"]
    found = []
    for times in growth:
        history = [
            _renumbered(messages[place % len(messages)], place // len(messages)) for place in range(base * times)
        ]
        size = sum(bytes_of(text_of(message)) for message in history)
        began = time.process_time()
        extract(history, size // 4)
        found.append(Speed(times, size / 1e6, time.process_time() - began))
    return found


def _renumbered(message: Message, copy: int) -> Message:
    """Return a copy of a message that tells other facts."""
    if not copy or not isinstance(message.get("content"), str):
        return message
    return {**message, "content": message["content"].replace("1", str(copy + 1))}
