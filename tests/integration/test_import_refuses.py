"""Bad data in the source of an import: named with key and reason, and nothing of its session imported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.imports import imported, verdicts
from support.original import Original

from eventstore import open_store


def hostile() -> dict[str, tuple[str, str | None, Any, str]]:
    """Return by name: a key, a field (None for a list), a value, and what the refusal says."""
    session = {
        "session_id": "bad",
        "user_id": "u",
        "created_at": "2024-01-01T00:00:00",
        "last_activity": "2024-01-01T00:00:00",
    }
    message = {"role": "user", "content": "x", "timestamp": "2024-01-01T00:00:00", "metadata": {}}
    checkpoint = {
        "checkpoint_id": "c",
        "thread_id": "bad",
        "data": {},
        "metadata": {},
        "created_at": "2024-01-01T00:00:00",
    }
    writes = {
        "thread_id": "bad",
        "checkpoint_id": "c",
        "task_id": "t",
        "writes": [],
        "created_at": "2024-01-01T00:00:00",
    }
    talk = {"session_id": "p", "participants": [], "session_type": "t", "created_at": "2024-01-01T00:00:00"}
    return {
        "session: no JSON": ("sessions", "bad", "{", "cannot be read"),
        "session: empty": ("sessions", "bad", "", "cannot be read"),
        "session: a list": ("sessions", "bad", [], "Expected `object`"),
        "session: user": ("sessions", "bad", session | {"user_id": 7}, "`$.user_id`"),
        "session: user with NUL": ("sessions", "bad", session | {"user_id": "u\0"}, "NUL"),
        "session: counter": ("sessions", "bad", session | {"request_count": "many"}, "`$.request_count`"),
        "session: negative": ("sessions", "bad", session | {"request_count": -1}, "request_count"),
        "session: endless": ("sessions", "bad", session | {"total_processing_time": float("inf")}, "cannot be read"),
        "session: time": ("sessions", "bad", session | {"created_at": "yesterday"}, "`$.created_at`"),
        "session: no time": ("sessions", "bad", session | {"created_at": None}, "`$.created_at`"),
        "session: another's": ("sessions", "bad", session | {"session_id": "x"}, "calls itself 'x'"),
        "session: more": ("sessions", "bad", session | {"surprise": 1}, "`surprise`"),
        "session: status": ("sessions", "bad", session | {"status": ""}, "empty"),
        "message: no JSON": ("conversation:bad", None, "nonsense", "at -2"),
        "message: NaN": ("conversation:bad", None, message | {"content": float("nan")}, "at -2"),
        "message: surrogate": ("conversation:bad", None, message | {"content": "\ud800 lone"}, "at -2"),
        "message: no role": ("conversation:bad", None, message | {"role": ""}, "role is empty"),
        "message: role": ("conversation:bad", None, message | {"role": None}, "`$.role`"),
        "message: metadata": ("conversation:bad", None, message | {"metadata": [1]}, "`$.metadata`"),
        "message: time": ("conversation:bad", None, message | {"timestamp": 5}, "`$.timestamp`"),
        "message: year": ("conversation:bad", None, message | {"timestamp": "0001-01-01T00:00:00+14:00"}, "calendars"),
        "message: too large": ("conversation:bad", None, message | {"content": "x" * 2**20}, "over the limit"),
        "message: too deep": (
            "conversation:bad",
            None,
            '{"role":"user","content":' + "[" * 9000 + "]" * 9000 + "}",
            "at -2",
        ),
        "message: deep": ("conversation:bad", None, message | {"content": json.loads("[" * 150 + "]" * 150)}, "nested"),
        "task context: a text": ("task_contexts", "bad", '"x"', "Expected `object`"),
        "agents: participants": ("conversation_sessions", "bad", talk | {"participants": ["x"]}, "participants"),
        "agents: no activity": ("conversation_sessions", "bad", talk, "last_activity"),
        "checkpoint: no JSON": ("checkpoints:bad", "c", "c", "checkpoints:bad[c]"),
        "checkpoint: data": ("checkpoints:bad", "c", checkpoint | {"data": [1]}, "`$.data`"),
        "checkpoint: id": ("checkpoints:bad", "d", checkpoint, "calls itself 'c'"),
        "checkpoint: thread": ("checkpoints:bad", "c", checkpoint | {"thread_id": "x"}, "calls itself 'x'"),
        "checkpoint: NUL": ("checkpoints:bad", "c\0", checkpoint | {"checkpoint_id": "c\0"}, "NUL"),
        "checkpoint: no id": ("checkpoints:bad", "", checkpoint | {"checkpoint_id": ""}, "must not be empty"),
        "writes: id": ("checkpoint_writes:bad", "c:x", writes, "calls itself 'c:t'"),
        "writes: a dict": ("checkpoint_writes:bad", "c:t", writes | {"writes": {}}, "`$.writes`"),
    }


class TestHostileData:
    @pytest.mark.parametrize("name", hostile())
    async def test_is_refused_by_key_and_reason(self, original: Original, target_url: str, name: str) -> None:
        """One bad value refuses its own session, of which nothing is imported, and no other."""
        key, field, value, reason = hostile()[name]
        await original.create_session("good", "ann")
        await original.add_message("bad", "user", "before")
        if field is not None:
            await original.put(key, field, value)
        else:
            await original.client.lpush(key, value if isinstance(value, str) else json.dumps(value))
            await original.add_message("bad", "user", "after")
        async with open_store(target_url) as target:
            outcomes = await imported(original, target)
            assert {name: each.verdict.name for name, each in outcomes.items()} == {
                "good": "IMPORTED",
                "bad": "REFUSED",
            }
            refusal = outcomes["bad"].refusal
            assert refusal is not None
            assert refusal.key.startswith(key)
            assert reason in str(refusal)
            assert await target.version("bad") == 0

    @pytest.mark.parametrize("session_id", [b"", b"x" * 513, b"a\0b", b"\xff\xfe", b"$global"], ids=repr)
    async def test_ids(self, original: Original, target_url: str, session_id: bytes) -> None:
        """An id that no session of ours can bear is refused, wherever it stands."""
        await original.create_session("good", "ann")
        message = {"role": "user", "content": "x", "timestamp": "2024-01-01T00:00:00", "metadata": {}}
        await original.client.lpush(b"conversation:" + session_id, json.dumps(message))
        async with open_store(target_url) as target:
            assert sorted((await verdicts(original, target)).values()) == ["IMPORTED", "REFUSED"]

    async def test_keys_of_other_types(self, original: Original, target_url: str) -> None:
        """A key that is not of the original's type is named; a hash that holds all sessions refuses all of them."""
        await original.create_session("good", "ann")
        await original.client.set("conversation:a", "x")
        await original.client.rpush("checkpoints:b", "x")
        await original.client.hset("checkpoint_writes:c", "f", "x")
        async with open_store(target_url) as target:
            outcomes = await imported(original, target)
            assert {name: each.verdict.name for name, each in outcomes.items()} == {
                "good": "IMPORTED",
                "a": "REFUSED",
                "b": "REFUSED",
                "c": "REFUSED",
            }
            assert "conversation:a: it is not of the type" in str(outcomes["a"].refusal)
            await original.client.set("task_contexts", "x")
            assert set((await verdicts(original, target)).values()) == {"REFUSED"}
