"""The import of what the original keeps in Redis: everything once, in order, with its times, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from support.original import EDITOR, SPOKEN, WRITER, Original, tour
from support.proxy import Proxy
from support.servers import Server

from contextengine import ContextEngine
from eventstore import EventStore, MessageAdded, RecordedEvent, SessionEnded, open_store
from eventstore.codec import DEFAULT_MAX_EVENT_BYTES

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "import_original.py"
sys.path.insert(0, str(SCRIPT.parent))

from importing import MARK  # noqa: E402 - it lies among the scripts
from importing.copying import Importer, Outcome, Verdict  # noqa: E402
from importing.source import Source  # noqa: E402


@pytest.fixture
async def original(server: Server) -> AsyncIterator[Original]:
    """The original, on a server of its own."""
    async with Redis.from_url(server.url) as client:
        yield Original(client)


@pytest.fixture
def target_url(server: Server) -> str:
    """Where to import: another database of the same server, which keeps the dumps of the two apart."""
    return f"{server.url}?db=1"


async def imported(original: Original, target: EventStore, *, dry_run: bool = False) -> dict[str, Outcome]:
    """Import in this process, and return what has become of each stream."""
    importer = Importer(Source(original.client), target, dry_run=dry_run, max_event_bytes=DEFAULT_MAX_EVENT_BYTES)
    return {outcome.name: outcome async for outcome in importer.run()}


async def verdicts(original: Original, target: EventStore, *, dry_run: bool = False) -> dict[str, str]:
    """Import in this process, and return the verdicts."""
    return {name: each.verdict.name for name, each in (await imported(original, target, dry_run=dry_run)).items()}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a process of its own."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


async def dump(client: Any) -> dict[bytes, bytes]:
    """Return a whole database."""
    return {key: await client.dump(key) for key in sorted(await client.keys("*"))}


async def logs(url: str, namespace: str) -> dict[str, list[RecordedEvent]]:
    """Return all events of a namespace by stream."""
    found: dict[str, list[RecordedEvent]] = {}
    async with open_store(url, namespace=namespace) as store:
        async for event in store.read_all():
            found.setdefault(event.session_id, []).append(event)
    return found


def said(history: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the contents of messages."""
    return [message["content"] for message in history]


class TestWhatIsImported:
    async def test_readers_find_it_as_it_was(self, original: Original, target_url: str) -> None:
        """Sessions, conversations, agents, task contexts, checkpoints and writes read as in the original."""
        await tour(original)
        async with open_store(target_url) as target:
            counts = {name: outcome.counts for name, outcome in (await imported(original, target)).items()}
        assert sorted(counts) == ["ended", "s1", SPOKEN["s1"], "stamped", "thread", "truncated"]
        assert (counts["s1"].messages, counts["thread"].sessions, counts["thread"].writes) == (6, 0, 2)
        async with ContextEngine(target_url) as engine:
            session = await engine.get_session("s1")
            assert session is not None
            assert (session.user_id, session.status, session.metadata) == (
                "ann",
                "active",
                {"source": "web", "n": [1, None]},
            )
            assert (session.request_count, session.error_count, session.total_processing_time) == (3, 1, 1.25)
            assert (session["created_at"], session["last_activity"]) == (
                "2024-05-01T10:00:01.123",
                "2024-05-01T10:00:09.123",
            )
            history = await engine.get_conversation_history("s1")
            assert [(m["role"], m["content"], m["timestamp"], m["metadata"]) for m in history[:2]] == [
                ("user", "question 0 é\0", "2024-05-01T10:00:02.123458", {"number": 0}),
                ("assistant", "answer 0", "2024-05-01T10:00:03.123459", {}),
            ]
            for name in ("truncated", "stamped"):
                assert said(await engine.get_conversation_history(name)) == [f"m{number}" for number in range(4, 17)]
            ended = await engine.get_session("ended")
            assert ended is not None
            assert (ended.status, ended.user_id) == ("failed", "bob")
            await engine.update_session("ended", {"status": "active"})
            assert [each.session_id for each in await engine.list_sessions(status="failed")] == ["ended"]

            spoken = await engine.get_agent_conversation_history(SPOKEN["s1"], message_types=["task_assignment"])
            assert [(m["role"], m["content"], m["metadata"]["recipient_id"]) for m in spoken] == [
                ("agent_writer", "do it", "a2")
            ]
            talk = await engine.get_session(SPOKEN["s1"])
            assert talk is not None
            assert talk.metadata["parent_session"] == "s1"
            assert talk.metadata["participants"][1] == {
                "id": "a2",
                "type": "agent",
                "role": "editor",
                "metadata": {"x": 1},
            }

            context = await engine.get_task_context("s1")
            assert context == json.loads(await original.client.hget("task_contexts", "s1"))

            stored = await engine.list_checkpoints("thread")
            assert [c["checkpoint_id"] for c in stored] == ["c1", "c2", "c0"]
            newest = json.loads(await original.client.hget("checkpoints:thread", "c1"))
            assert {k: v for k, v in stored[0].items() if k != "version"} == newest
            assert await engine.get_writes("thread", "c1") == [("ch", 1), ("ch2", {"a": [1]}), ("ch", 3)]
            assert await engine.get_session("thread") is None
            assert (await engine.get_checkpoint("s1") or {})["data"] == {"x": 1}

    async def test_agents_find_what_our_engine_would_have_made(self, original: Original, target_url: str) -> None:
        """A conversation of agents that was imported is the one that our engine makes of the same calls."""
        people = [{"id": i, "type": t, "role": r, "metadata": {}} for i, t, r in (WRITER, EDITOR)]
        async with ContextEngine(target_url) as engine:
            key = await engine.create_conversation_session("p", people, "agent_to_agent", {"topic": "t"})
            await engine.add_agent_communication_message(key, *WRITER, *EDITOR, "do it", "feedback")
            ours = await engine.get_session(key), await engine.get_agent_conversation_history(key)
        await original.create_conversation_session("p", key, people, "agent_to_agent", {"topic": "t"})
        await original.add_agent_message(key, WRITER, EDITOR, "do it", "feedback")
        async with open_store(target_url, namespace="imported") as target:
            await imported(original, target)
        async with ContextEngine(target_url, namespace="imported") as engine:
            theirs = await engine.get_session(key), await engine.get_agent_conversation_history(key)
        assert ours[0] is not None
        assert theirs[0] is not None
        timeless = {"created_at", "last_activity", "version"}
        assert {k: v for k, v in ours[0].items() if k not in timeless} == {
            k: v for k, v in theirs[0].items() if k not in timeless
        }
        assert theirs[1][0]["metadata"].pop("message_id") == "an-id"
        for message in (*ours[1], *theirs[1]):
            del message["timestamp"], message["version"]
        assert ours[1] == theirs[1]

    async def test_what_has_no_session(self, original: Original, target_url: str) -> None:
        """A conversation, task context or thread whose session has expired is imported by itself."""
        await original.add_message("talk", "user", "hi")
        await original.store_task_context("task", {"user_id": "u", "chat_id": "task", "metadata": {}})
        await original.put_writes("thread", "c", "t", [[1]])
        async with open_store(target_url) as target:
            assert set((await verdicts(original, target)).values()) == {"IMPORTED"}
        async with ContextEngine(target_url) as engine:
            talk = await engine.get_session("talk")
            assert talk is not None
            assert (talk.user_id, talk.request_count, talk["created_at"]) == (None, 1, "2024-05-01T10:00:01.123")
            assert (await engine.get_task_context("task"))["user_id"] == "u"
            assert await engine.get_writes("thread", "c") == [(1,)]

    @pytest.mark.parametrize("status", ["active", "completed", "failed", "expired", "cleared", "paused"])
    async def test_statuses(self, original: Original, target_url: str, status: str) -> None:
        """What ended stays ended; a word that is no end can be changed still; a cleared session keeps its messages."""
        await original.create_session("s", "ann")
        await original.add_message("s", "user", "x")
        await original.end_session("s", status)
        async with open_store(target_url) as target:
            await imported(original, target)
        async with ContextEngine(target_url) as engine:
            assert [each.status for each in await engine.list_sessions()] == [status]
            assert said(await engine.get_conversation_history("s")) == ["x"]
            await engine.update_session("s", {"status": "resumed"})
            changed = "resumed" if status in {"active", "paused"} else status
            assert [each.status for each in await engine.list_sessions()] == [changed]

    async def test_times(self, original: Original, target_url: str) -> None:
        """Times with and without an offset are one kind of time; times that cannot be right do no harm."""
        lines = [
            ("a", "2024-05-01T10:00:00"),
            ("b", "2024-05-01T12:00:00.000001+02:00"),
            ("c", "1950-01-01T00:00:00"),
            ("d", "9999-12-31T23:59:59.999999"),
        ]
        for content, timestamp in lines:
            message = {"role": "user", "content": content, "timestamp": timestamp, "metadata": None}
            await original.client.lpush("conversation:s", json.dumps(message))
        async with open_store(target_url) as target:
            assert await verdicts(original, target) == {"s": "IMPORTED"}
            assert [event.occurred_at for event in await target.read("s")] == [
                datetime(2024, 5, 1, 10, tzinfo=UTC),
                datetime(2024, 5, 1, 10, 0, 0, 1, tzinfo=UTC),
                datetime(1950, 1, 1, tzinfo=UTC),
                datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            ]
            now = await target.now()
        async with ContextEngine(target_url) as engine:
            history = await engine.get_conversation_history("s")
            assert [(m["content"], m["timestamp"][:10]) for m in history] == [
                ("a", "2024-05-01"),
                ("b", "2024-05-01"),
                ("c", "1950-01-01"),
                ("d", "9999-12-31"),
            ]
            session = await engine.get_session("s")
            assert session is not None
            assert session.last_activity <= now.replace(tzinfo=None) + timedelta(seconds=1)

    async def test_long_lists(self, original: Original, target_url: str) -> None:
        """A list of many pages and many appends, compacted in its middle, arrives whole and in order."""
        for number in range(1500):
            await original.add_message("s", "user", number)
        await original.compact_on_append("s", 1200)
        for number in range(1500, 2500):
            await original.add_message("s", "user", number)
        async with open_store(target_url) as target:
            assert (await imported(original, target))["s"].counts.messages == 2200
            assert [event.data.content for event in await target.read("s") if isinstance(event.data, MessageAdded)] == [
                *range(300, 2500)
            ]

    async def test_scattered_lists(self, original: Original, target_url: str) -> None:
        """A long list in no order at all is put in order of time."""
        chance = random.Random(5)
        numbers = [*range(700)]
        chance.shuffle(numbers)
        for number in [*numbers, 700, 701]:
            at = original.now + timedelta(seconds=number)
            message = {"role": "user", "content": number, "timestamp": at.isoformat(), "metadata": {}}
            await original.client.rpush("conversation:s", json.dumps(message))
        async with open_store(target_url) as target:
            await imported(original, target)
            assert [event.data.content for event in await target.read("s") if isinstance(event.data, MessageAdded)] == [
                *range(702)
            ]


class TestTheSource:
    async def test_is_only_read(self, original: Original, server: Server, target_url: str) -> None:
        """A user that may only read can import, and every key is afterwards what it was, byte by byte."""
        await tour(original)
        await original.client.execute_command(
            "ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+client|setinfo"
        )
        before = await dump(original.client)
        done = run("--from", f"unix://reader:pw@{server.path}", "--to", target_url, "--json")
        assert done.returncode == 0, done.stdout
        assert await dump(original.client) == before

    async def test_others_keys_are_passed_over(self, original: Original, target_url: str) -> None:
        """Keys of other applications, and our own, are none of an import's."""
        await original.client.set("cache:1", "x")
        await original.client.set("chat:2", "x")
        async with open_store(target_url) as target:
            assert await verdicts(original, target) == {}

    async def test_a_change_during_the_import_is_noticed(self, original: Original, target_url: str) -> None:
        """A list that is rewritten between being checked and being copied is refused, with nothing appended."""
        await original.create_session("s", "ann")
        for number in range(3):
            await original.add_message("s", "user", number)

        class Rewriting(Source):
            reads = 0

            async def messages(self, session_id: str, places: Sequence[int]) -> AsyncIterator[tuple[int, bytes]]:
                self.reads += 1
                if self.reads == 4:  # looked over, compared, looked over again
                    message = {"role": "user", "content": "other", "timestamp": "2024-05-01T10:00:02.123458"}
                    await original.client.lset("conversation:s", -1, json.dumps(message))
                async for found in super().messages(session_id, places):
                    yield found

        async with open_store(target_url) as target:
            source = Rewriting(original.client)
            importer = Importer(source, target, dry_run=False, max_event_bytes=DEFAULT_MAX_EVENT_BYTES)
            (outcome,) = [outcome async for outcome in importer.run()]
            assert outcome.verdict is Verdict.REFUSED
            assert "changed while it was being read" in str(outcome.refusal)
            assert await target.version("s") == 0
            assert await verdicts(original, target) == {"s": "IMPORTED"}


class TestAgain:
    async def test_a_second_run_adds_nothing(self, original: Original, target_url: str) -> None:
        """What is there already is left alone, down to the last byte of the target."""
        await tour(original)
        async with open_store(target_url) as target, Redis.from_url(target_url) as client:
            assert set((await verdicts(original, target)).values()) == {"IMPORTED"}
            before = await dump(client)
            assert set((await verdicts(original, target)).values()) == {"PRESENT"}
            assert await dump(client) == before

    async def test_a_dry_run_appends_nothing(self, original: Original, target_url: str) -> None:
        """It tells what would be imported, of a new target and of one that has some of it."""
        await tour(original)
        async with open_store(target_url) as target:
            assert set((await verdicts(original, target, dry_run=True)).values()) == {"IMPORTED"}
            assert await target.read_all() == []
            await verdicts(original, target)
            assert set((await verdicts(original, target, dry_run=True)).values()) == {"PRESENT"}

    async def test_a_session_that_went_on_is_not_harmed(self, original: Original, target_url: str) -> None:
        """Messages that our engine has added since stay, and the import knows its own part again."""
        await tour(original)
        async with open_store(target_url) as target:
            await imported(original, target)
            async with ContextEngine(target_url) as engine:
                await engine.add_conversation_message("s1", "user", "now")
                await engine.store_checkpoint("thread", "c3", {})
            version = await target.version("s1")
            assert set((await verdicts(original, target)).values()) == {"PRESENT"}
            assert await target.version("s1") == version
        async with ContextEngine(target_url) as engine:
            history = await engine.get_conversation_history("s1")
            assert said(history)[-2:] == ["answer 2", "now"]
            assert history[-1].timestamp > history[-2].timestamp + timedelta(days=300)
            assert next(iter(await engine.list_sessions())).session_id == "s1"

    async def test_a_foreign_session_is_refused_by_name(self, original: Original, target_url: str) -> None:
        """A session that was in the target before stays as it is, and the others are imported."""
        await tour(original)
        async with open_store(target_url) as target:
            await target.append("s1", MessageAdded("user", "mine"))
            outcomes = await imported(original, target)
            assert outcomes["s1"].verdict is Verdict.REFUSED
            assert "was not imported" in str(outcomes["s1"].refusal)
            assert {o.verdict for name, o in outcomes.items() if name != "s1"} == {Verdict.IMPORTED}
            assert [event.data for event in await target.read("s1")] == [MessageAdded("user", "mine")]

    @pytest.mark.parametrize("change", ["message", "session", "checkpoint", "less"])
    async def test_a_source_that_changed_is_refused(self, original: Original, target_url: str, change: str) -> None:
        """When the old application went on, the session is named, and what was imported stays."""
        await tour(original)
        async with open_store(target_url) as target:
            await imported(original, target)
            if change == "message":
                await original.add_message("s1", "user", "late")
            elif change == "session":
                await original.update_session("s1", request_count=9)
            elif change == "checkpoint":
                await original.store_checkpoint("s1", "c", {"x": 2})
            else:
                for name in ("sessions", "conversation_sessions"):
                    await original.client.hdel(name, "s1")
            before = await target.read("s1")
            assert await verdicts(original, target) == {
                "ended": "PRESENT",
                "s1": "REFUSED",
                SPOKEN["s1"]: "PRESENT",
                "stamped": "PRESENT",
                "thread": "PRESENT",
                "truncated": "PRESENT",
            }
            assert await target.read("s1") == before

    async def test_two_imports_at_once(self, original: Original, target_url: str) -> None:
        """Two imports that run into each other do everything once together."""
        await tour(original)
        for number in range(1500):
            await original.add_message("long", "user", number)
        async with open_store(target_url) as one, open_store(target_url) as other:
            await asyncio.gather(imported(original, one), imported(original, other))
            assert len(await one.read("long")) == 1500
            assert set((await verdicts(original, one)).values()) == {"PRESENT"}


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


class TestKilled:
    async def test_at_any_moment(self, original: Original, server: Server, directory: Path) -> None:
        """However often the import is killed, with kill -9: in the end everything is there once, and in order."""
        chance = random.Random()
        await tour(original)
        for session in range(12):
            await original.create_session(f"session-{session}", "ann")
            for number in range(chance.randrange(30)):
                await original.add_message(f"session-{session}", "user", number)
        for number in range(2300):
            await original.add_message("long", "user", number)
        assert run("--from", server.url, "--to", f"{server.url}?db=1", "--namespace", "once").returncode == 0
        kills = 0
        async with Proxy(server.path, directory / "p") as proxy:
            while True:
                left = chance.randrange(5, 30) if kills < 8 else sys.maxsize
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    str(SCRIPT),
                    *("--from", server.url, "--to", f"{proxy.url}?db=1", "--namespace", "killed"),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                )

                def kill(_reply: bytes, process: asyncio.subprocess.Process = process) -> bool:
                    nonlocal left
                    left -= 1
                    if left == 0:
                        process.send_signal(signal.SIGKILL)
                    return left <= 0

                proxy.lose_reply_if(kill)
                if await process.wait() == 0:
                    break
                assert process.returncode == -signal.SIGKILL
                kills += 1
        assert kills > 0
        once, killed = await logs(f"{server.url}?db=1", "once"), await logs(f"{server.url}?db=1", "killed")
        assert {name: [event.data for event in log] for name, log in killed.items()} == {
            name: [event.data for event in log] for name, log in once.items()
        }
        assert all(event.meta == MARK for log in killed.values() for event in log)

    @staticmethod
    async def import_half(original: Original, target: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Import a session of three appends, and fail after the first."""
        for number in range(2500):
            await original.add_message("long", "user", number)
        append, calls = type(target).append, 0

        async def failing(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise InterruptedError
            return await append(*arguments, **options)

        with monkeypatch.context() as patched:
            patched.setattr(type(target), "append", failing)
            with pytest.raises(InterruptedError):
                await imported(original, target)
        assert await target.version("long") == 1000

    async def test_between_two_appends(
        self, original: Original, target_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A session of which a part was imported is completed."""
        async with open_store(target_url) as target:
            await self.import_half(original, target, monkeypatch)
            assert await verdicts(original, target) == {"long": "IMPORTED"}
            log = await target.read("long")
            assert [event.data.content for event in log if isinstance(event.data, MessageAdded)] == [*range(2500)]

    async def test_and_then_written_to(
        self, original: Original, target_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A session of which a part was imported, and to which somebody has written since, is refused by name."""
        async with open_store(target_url) as target:
            await self.import_half(original, target, monkeypatch)
            await target.append("long", SessionEnded("failed"))
            outcomes = await imported(original, target)
            assert "interrupted" in str(outcomes["long"].refusal)
            assert await target.version("long") == 1001


class TestTheScript:
    async def test_a_table(self, original: Original, server: Server, target_url: str) -> None:
        """People see how much was imported, was there, and was refused, and why; the exit code tells, too."""
        await tour(original)
        done = run("--from", server.url, "--to", target_url)
        assert done.returncode == 0
        assert re.search(r"^sessions +5 +0 +0$", done.stdout, re.MULTILINE)
        assert re.search(r"^messages +35 +0 +0$", done.stdout, re.MULTILINE)
        assert "6 of 6 sessions and threads" in done.stderr
        await original.put("sessions", "odd\x1b[31m", "no JSON")
        done = run("--from", server.url, "--to", target_url)
        assert done.returncode == 1
        assert re.search(r"^sessions +0 +5 +1$", done.stdout, re.MULTILINE)
        assert "refused: odd\\x1b[31m\n  sessions[odd\\x1b[31m]: it cannot be read (JSON is malformed" in done.stdout

    async def test_json(self, original: Original, server: Server, target_url: str) -> None:
        """Machines get one JSON object."""
        await original.create_session("s", "ann")
        await original.put("sessions", "bad", "no JSON")
        done = run("--from", server.url, "--to", target_url, "--namespace", "other", "--json", "--dry-run")
        assert done.returncode == 1
        told = json.loads(done.stdout)
        assert told["dry_run"] is True
        assert told["stopped"] is None
        assert told["imported"] == {"sessions": 1, "messages": 0, "checkpoints": 0, "writes": 0, "contexts": 1}
        assert told["refused"]["sessions"] == 1
        assert [(each["name"], each["key"]) for each in told["refusals"]] == [("bad", "sessions[bad]")]
        assert await logs(target_url, "other") == {}

    @pytest.mark.parametrize(
        ("source", "target", "reason"),
        [
            ("unix:///nowhere/s", None, "nowhere"),
            (None, "unix:///nowhere/s", "No Redis answers"),
            ("http://x", None, "http://x"),
            (None, "http://x", "No store serves 'http'"),
        ],
    )
    def test_what_cannot_begin(self, server: Server, source: str | None, target: str | None, reason: str) -> None:
        """A server that does not answer, or a URL of no sense, ends the script with code 2 and a sentence."""
        done = run("--from", source or server.url, "--to", target or f"{server.url}?db=1", "--json")
        assert done.returncode == 2
        assert reason in json.loads(done.stdout)["stopped"]
        assert "Traceback" not in done.stderr

    async def test_a_larger_limit(self, original: Original, server: Server, target_url: str) -> None:
        """What is larger than usual can be let in."""
        await original.add_message("s", "user", "x" * 2**20)
        assert run("--from", server.url, "--to", target_url).returncode == 1
        assert run("--from", server.url, "--to", target_url, "--max-event-bytes", "2000000").returncode == 0

    @pytest.mark.parametrize("rich", [True, False], ids=["rich", "no rich"])
    async def test_a_terminal(
        self, original: Original, server: Server, target_url: str, directory: Path, rich: bool
    ) -> None:
        """On a terminal the progress is shown, with rich where it is installed and in plain text where it is not."""
        await tour(original)
        if not rich:
            (directory / "rich.py").write_text("raise ImportError('not installed')", encoding="utf-8")
        path = os.pathsep.join(filter(None, [str(directory), os.environ.get("PYTHONPATH")]))
        shown = await asyncio.to_thread(
            on_a_terminal, ["--from", server.url, "--to", target_url], {"PYTHONPATH": path, "TERM": "xterm-256color"}
        )
        assert "6/6" in shown if rich else "6 of 6" in shown
        assert re.search(r"^sessions +5 +0 +0\r?$", shown, re.MULTILINE)


def on_a_terminal(arguments: list[str], environment: dict[str, str]) -> str:
    """Run the script on a terminal, and return what stands there in the end."""
    ours, its = os.openpty()
    seen = bytearray()

    def read() -> None:
        try:
            while part := os.read(ours, 65536):
                seen.extend(part)
        except OSError:
            pass  # the terminal's last user has gone

    command = [sys.executable, str(SCRIPT), *arguments]
    with subprocess.Popen(command, env=os.environ | environment, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        reader = threading.Thread(target=read)
        reader.start()
        assert process.wait(timeout=60) == 0
        reader.join()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
