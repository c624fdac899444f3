"""Histories for tests of compaction, and what must be true of a history that has been compacted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from projections.history import Message

CONVERSATIONS = Path(__file__).parents[2] / "scripts" / "conversations.jsonl"


def said(text: str = "words", role: str = "user", **fields: Any) -> dict[str, Any]:
    """Return a message, in OpenAI's form."""
    return {"role": role, "content": text, **fields}


def calls(*ids: Any) -> dict[str, Any]:
    """Return an assistant's message that calls tools, in OpenAI's form."""
    return {"role": "assistant", "content": None, "tool_calls": [{"id": one, "type": "function"} for one in ids]}


def result(call: str | None = None, text: str = "result") -> dict[str, Any]:
    """Return the result of a call, in OpenAI's form."""
    return {"role": "tool", "content": text} | ({} if call is None else {"tool_call_id": call})


def uses(*ids: Any) -> dict[str, Any]:
    """Return an assistant's message that calls tools, in Anthropic's form."""
    parts = [{"type": "text", "text": "Let me see."}, *({"type": "tool_use", "id": one, "name": "t"} for one in ids)]
    return {"role": "assistant", "content": parts}


def used(*ids: Any) -> dict[str, Any]:
    """Return the message with the results of calls, in Anthropic's form."""
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": one, "content": "r"} for one in ids]}


def chat(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Return so many messages of a user and an assistant in turn, each with a number of its own in it."""
    return [said(f"message <{n}>", "assistant" if n % 2 else "user") for n in range(start, start + count)]


def history(*messages: Mapping[str, Any]) -> list[Message]:
    """Return messages as the history view holds them, the first at version 1."""
    return [
        {"timestamp": "2026-01-01T00:00:00.000", "metadata": {}, "version": version, **message}
        for version, message in enumerate(messages, 1)
    ]


def shipped() -> list[list[dict[str, Any]]]:
    """Return the conversations that this repository ships."""
    return conversations(CONVERSATIONS)


def conversations(path: Path) -> list[list[dict[str, Any]]]:
    """Return the conversations of a file, one of which is the ``messages`` of a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


def pairs(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, int]]:
    """Give the places of each result and its call: the nearest before it of its id that waits for a result.

    Told a second time, in the plainest way, for messages in OpenAI's form whose calls and results all have ids. A
    result that comes when no call waits for it has none.
    """
    waiting: list[tuple[str, int]] = []
    for place, message in enumerate(messages):
        if message["role"] == "tool":
            for earlier in reversed(waiting):
                if earlier[0] == message["tool_call_id"]:
                    waiting.remove(earlier)
                    yield earlier[1], place
                    break
        waiting += [(call["id"], place) for call in message.get("tool_calls") or []]


def repeated(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, int]]:
    """Give the places of each result that comes when no call waits for it, and of the nearest call of its id."""
    answers = {place for _, place in pairs(messages)}
    last: dict[str, int] = {}
    for place, message in enumerate(messages):
        if message["role"] == "tool" and place not in answers and message["tool_call_id"] in last:
            yield last[message["tool_call_id"]], place
        last |= {call["id"]: place for call in message.get("tool_calls") or []}


def open_calls(messages: Sequence[Mapping[str, Any]]) -> set[int]:
    """Return the places of messages with calls that have no result yet, counting results as `pairs` does."""
    answered: dict[int, list[str]] = {}
    for call, place in pairs(messages):
        answered.setdefault(call, []).append(messages[place]["tool_call_id"])
    found = set()
    for place, message in enumerate(messages):
        left = list(answered.get(place, []))
        for call in message.get("tool_calls") or []:
            if call["id"] in left:
                left.remove(call["id"])
            else:
                found.add(place)
    return found


def check_pairs(originals: Sequence[Mapping[str, Any]], staying: Iterable[int]) -> None:
    """Check, given the versions of the messages that stay, that no call stays without its results or they without it.

    A call that still waits for results stays.
    """
    there = set(staying)
    versions = [message["version"] for message in originals]
    for call, answer in pairs(originals):
        together = (versions[call] in there, versions[answer] in there)
        assert together in ((True, True), (False, False)), f"{versions[call]} and {versions[answer]} were parted"
    for place in open_calls(originals):
        assert versions[place] in there, f"the call at {versions[place]} waits for its result, and went"
