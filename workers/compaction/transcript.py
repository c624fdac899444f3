"""A history as a compaction sees it: units that stay or go whole.

An assistant's message with tool calls and the results of the calls are one unit, because a provider refuses either
without the other. They are paired by position, a result with the nearest call of its id before it: ids repeat in real
sessions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from eventstore.errors import CompactionFailed
from projections.history import Message
from workers.compaction.tokens import TokenCounter

PER_MESSAGE = 4
"""Tokens that a message costs beside its text: its role, and the marks around it."""
OPENING = frozenset({"system", "developer"})
RESULT = frozenset({"tool", "function"})

CallId: TypeAlias = str | int | None

_encode = msgspec.json.Encoder().encode


class Unit(msgspec.Struct, frozen=True):
    """Messages that stay or go together.

    Attributes:
        places: Where they stand in the history, in order.
        messages: The messages.
        tokens: What they cost a model.
        open: Whether a call in it still waits for its result.
    """

    places: tuple[int, ...]
    messages: tuple[Message, ...]
    tokens: int
    open: bool = False


class Transcript(msgspec.Struct, frozen=True):
    """A history in parts.

    Attributes:
        opening: The system messages with which it opens.
        older: What may go, oldest first.
        waiting: Units that are older, but have an open call: its result may still come.
        recent: The newest messages, and what belongs to them.
    """

    opening: list[Unit]
    older: list[Unit]
    waiting: list[Unit]
    recent: list[Unit]

    @property
    def messages(self) -> int:
        """How many messages it has."""
        return sum(len(unit.places) for part in (self.opening, self.older, self.waiting, self.recent) for unit in part)

    @property
    def tokens(self) -> int:
        """What they cost a model."""
        return sum(unit.tokens for part in (self.opening, self.older, self.waiting, self.recent) for unit in part)


def transcript(
    messages: Sequence[Message], keep_recent: int, counter: TokenCounter, compacted_from: int | None = None
) -> Transcript:
    """Divide a history.

    Args:
        messages: The whole history, without a summary.
        keep_recent: So many of the newest messages are recent, with all that belongs to them.
        counter: Counts tokens.
        compacted_from: The version of the oldest message that has been compacted: a system message after it does not
            open the conversation, even if all that stood before it has gone.
    """
    units = units_of(messages, counter)
    first_recent = len(messages) - keep_recent
    opens = _opening(messages, compacted_from)
    parts = Transcript([], [], [], [])
    for unit in units:
        if unit.places[-1] >= first_recent:
            parts.recent.append(unit)
        elif unit.places[-1] < opens:
            parts.opening.append(unit)
        elif unit.open:
            parts.waiting.append(unit)
        else:
            parts.older.append(unit)
    return parts


def _opening(messages: Sequence[Message], compacted_from: int | None) -> int:
    """Return with how many system messages the conversation opens."""
    for place, message in enumerate(messages):
        if message["role"] not in OPENING or (compacted_from is not None and message["version"] > compacted_from):
            return place
    return len(messages)


def units_of(messages: Sequence[Message], counter: TokenCounter) -> list[Unit]:
    """Pair calls with their results, in the order of each unit's first message."""
    pairing = _Pairing()
    for place, message in enumerate(messages):
        pairing.take(place, calls_of(message), results_of(message))
    return [
        Unit(
            places=tuple(places),
            messages=tuple(messages[place] for place in places),
            tokens=sum(message_tokens(messages[place], counter) for place in places),
            open=any(pairing.unanswered.get(place) for place in places),
        )
        for places in pairing.units()
    ]


class _Pairing:
    """Which messages belong together, found in one pass."""

    def __init__(self) -> None:
        self.unanswered: dict[int, list[CallId]] = {}
        self._unit: list[int] = []
        self._waiting: defaultdict[CallId, list[int]] = defaultdict(list)
        self._last_of_id: dict[CallId, int] = {}
        self._last_call: int | None = None

    def take(self, place: int, calls: list[CallId], results: list[CallId]) -> None:
        """Take the next message: the ids of the calls that it makes, and of those to which it gives the results."""
        self._unit.append(place)
        for result in results:
            call = self._call_of(result)
            if call is not None:
                self._join(self._root(call), place)
                self._answer(call, result)
        if calls:
            self.unanswered[place] = calls
            self._last_call = place
            for call_id in dict.fromkeys(calls):
                self._waiting[call_id].append(place)
                self._last_of_id[call_id] = place

    def _call_of(self, result: CallId) -> int | None:
        """Return the nearest call of the id, one that waits if there is one; the last call if either has no id."""
        waiting = self._waiting[result]
        while waiting and result not in self.unanswered[waiting[-1]]:
            waiting.pop()
        if result is not None and (waiting or result in self._last_of_id):
            return waiting[-1] if waiting else self._last_of_id[result]
        last = self._last_call
        return last if last is not None and (result is None or None in self.unanswered[last]) else None

    def _answer(self, call: int, result: CallId) -> None:
        waiting = self.unanswered[call]
        if result in waiting:
            waiting.remove(result)
        elif None in waiting:
            waiting.remove(None)
        elif result is None and waiting:
            waiting.pop(0)

    def units(self) -> list[list[int]]:
        """Return the places of each unit."""
        found: dict[int, list[int]] = {}
        for place in range(len(self._unit)):
            found.setdefault(self._root(place), []).append(place)
        return list(found.values())

    def _join(self, root: int, place: int) -> None:
        other = self._root(place)
        self._unit[max(root, other)] = min(root, other)

    def _root(self, place: int) -> int:
        while self._unit[place] != place:
            place = self._unit[place]
        return place


def calls_of(message: Message) -> list[CallId]:
    """Return the ids of the calls that a message makes; None for one without an id. OpenAI's and Anthropic's form."""
    metadata = message["metadata"]
    found = [_id(call.get("id")) for call in _dicts(message.get("tool_calls") or metadata.get("tool_calls"))]
    if isinstance(metadata.get("function_call"), dict):
        found.append(None)
    return found + [_id(part.get("id")) for part in _parts(message, "tool_use")]


def results_of(message: Message) -> list[CallId]:
    """Return the ids of the calls to which a message gives the results; None for a result that names no call."""
    found = [_id(part.get("tool_use_id")) for part in _parts(message, "tool_result")]
    if message["role"] not in RESULT or found:
        return found
    metadata = message["metadata"]
    named = message.get("tool_call_id") or metadata.get("tool_call_id") or metadata.get("tool_call_ids")
    return [_id(one) for one in named] if isinstance(named, list) and named else [_id(named)]


def _id(value: Any) -> CallId:
    return value if type(value) is int or (isinstance(value, str) and value) else None


def text_of(message: Message) -> str:
    """Return what a model reads of a message, its calls included."""
    content = message["content"]
    text = "" if content is None else content if isinstance(content, str) else _encode(content).decode()
    calls = message.get("tool_calls")
    return text if calls is None else text + _encode(calls).decode()


def message_tokens(message: Message, counter: TokenCounter) -> int:
    """Return what a message costs a model. Raises as `tokens_of_text` does."""
    return PER_MESSAGE + tokens_of_text(text_of(message), counter)


def tokens_of_text(text: str, counter: TokenCounter) -> int:
    """Return what a text costs a model.

    Raises:
        CompactionFailed: The counter, which may be a user's, does not count.
    """
    try:
        return max(0, math.ceil(counter(text)))
    except Exception as error:
        raise CompactionFailed(f"token_counter failed ({type(error).__name__}: {error}).") from error


def _parts(message: Message, kind: str) -> list[dict[str, Any]]:
    return [part for part in _dicts(message["content"]) if part.get("type") == kind]


def _dicts(value: Any) -> list[dict[str, Any]]:
    """Return what of a JSON value can be calls or parts: messages hold whatever somebody put into them."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
