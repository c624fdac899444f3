"""The import of what the original keeps in Redis: everything is there, in order, with its times, and once."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from importing.copying import Verdict
from importing.source import Source
from redis.asyncio import Redis
from support.imports import dump, import_by_script, imported, importer, logged, said, verdicts
from support.original import EDITOR, SPOKEN, WRITER, Original, tour
from support.servers import Server

from contextengine import ContextEngine
from eventstore import MessageAdded, open_store


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

    @pytest.mark.parametrize("nobody", ["", None])
    async def test_nobodys_session(self, original: Original, target_url: str, nobody: str | None) -> None:
        """An empty user id, which the original lets through, is none."""
        await original.create_session("s", nobody)
        async with open_store(target_url) as target:
            assert await verdicts(original, target) == {"s": "IMPORTED"}
        async with ContextEngine(target_url) as engine:
            assert [each.user_id for each in await engine.list_sessions()] == [None]

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
            assert await logged(target, "s") == [*range(300, 2500)]

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
            assert await logged(target, "s") == [*range(702)]


class TestTheSource:
    async def test_is_only_read(self, original: Original, server: Server, target_url: str) -> None:
        """A user that may only read can import, and every key is afterwards what it was, byte by byte."""
        await tour(original)
        await original.client.execute_command(
            "ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+client|setinfo"
        )
        before = await dump(original.client)
        done = import_by_script("--from", f"unix://reader:pw@{server.path}", "--to", target_url, "--json")
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
            (outcome,) = [outcome async for outcome in importer(source, target).run()]
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

    async def test_a_source_that_holds_less_is_refused(self, original: Original, target_url: str) -> None:
        """When the old application has dropped the newest messages since, nothing more is said of them than that."""
        for number in range(3):
            await original.add_message("s", "user", number)
        async with open_store(target_url) as target:
            await imported(original, target)
            await original.client.lpop("conversation:s")
            outcomes = await imported(original, target)
            assert "holds less of it" in str(outcomes["s"].refusal)
            assert await logged(target, "s") == [0, 1, 2]

    async def test_two_imports_at_once(self, original: Original, target_url: str) -> None:
        """Two imports that run into each other do everything once together."""
        await tour(original)
        for number in range(1500):
            await original.add_message("long", "user", number)
        async with open_store(target_url) as one, open_store(target_url) as other:
            await asyncio.gather(imported(original, one), imported(original, other))
            assert len(await one.read("long")) == 1500
            assert set((await verdicts(original, one)).values()) == {"PRESENT"}
