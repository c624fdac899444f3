"""The engine as its users meet it, on memory and on each server alike."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import math
import threading
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from contextengine import (
    ContextEngine,
    EventTooLarge,
    InvalidEvent,
    InvalidInput,
    InvalidSessionId,
    NotInitialized,
    UnknownSession,
)

CONVERSATIONS = Path(__file__).parents[2] / "scripts" / "conversations.jsonl"


@pytest.fixture
async def engine(url: str, namespace: str) -> AsyncIterator[ContextEngine]:
    """An open engine on each kind of store in turn."""
    async with ContextEngine(url, namespace=namespace) as engine:
        yield engine


class TestSessions:
    async def test_lifecycle(self, engine: ContextEngine) -> None:
        """Create, update, get, end: read by attribute and by key."""
        created = await engine.create_session("s", user_id="ann", metadata={"source": "web", "deep": [{"x": None}]})
        assert created["status"] == created.status == "active"
        assert created.metadata == {"source": "web", "deep": [{"x": None}]}
        assert await engine.update_session("s", increment_requests=True, add_processing_time=1.5) is True
        assert await engine.update_session("s", increment_requests=True, mark_error=True) is True
        session = await engine.get_session("s")
        assert session is not None
        assert (session.request_count, session.error_count, session["total_processing_time"]) == (2, 1, 1.5)
        assert session.user_id == "ann"
        assert await engine.end_session("s", status="failed") is True
        session = await engine.get_session("s")
        assert session
        assert session.status == "failed"

    async def test_dates_are_naive_utc(self, engine: ContextEngine) -> None:
        """An item is an ISO string, an attribute a datetime, and neither has a time zone."""
        session = await engine.create_session("s", "ann")
        assert isinstance(session.created_at, datetime)
        assert session.created_at.tzinfo is None
        assert session["created_at"] == session.created_at.isoformat(timespec="milliseconds")
        assert json.loads(json.dumps(session)) == session.to_dict()
        assert type(session.to_dict()) is dict
        with pytest.raises(AttributeError, match="no 'nonsense'"):
            _ = session.nonsense

    async def test_creating_again_changes_nothing(self, engine: ContextEngine) -> None:
        """A session that exists is returned as it is."""
        first = await engine.create_session("s", "ann", {"a": 1})
        assert await engine.create_session("s", "bob", {"b": 2}) == first

    async def test_one_of_many_creators_wins(self, engine: ContextEngine) -> None:
        """Racing creators all get the same session."""
        sessions = await asyncio.gather(*(engine.create_session("s", f"user-{n}") for n in range(20)))
        assert len({session.user_id for session in sessions}) == 1

    async def test_a_session_that_began_with_a_message_can_be_created(self, engine: ContextEngine) -> None:
        """Creating it gives it its user and metadata; its messages stay."""
        await engine.add_conversation_message("s", "user", "hello")
        created = await asyncio.gather(*(engine.create_session("s", "ann", {"a": 1}) for _ in range(5)))
        assert all((session.user_id, session.metadata) == ("ann", {"a": 1}) for session in created)
        assert [m.content for m in await engine.get_conversation_history("s")] == ["hello"]

    @pytest.mark.guarantee("V5")
    async def test_counts_are_exact_under_concurrency(self, engine: ContextEngine) -> None:
        """200 updates at once add up."""
        await engine.create_session("s")
        await asyncio.gather(
            *(
                engine.update_session("s", increment_requests=True, add_processing_time=0.25, mark_error=n % 2 == 0)
                for n in range(200)
            )
        )
        session = await engine.get_session("s")
        assert session is not None
        assert (session.request_count, session.error_count, session.total_processing_time) == (200, 100, 50.0)

    @pytest.mark.guarantee("L8")
    async def test_unknown_sessions(self, engine: ContextEngine) -> None:
        """What needs a session says that there is none; what asks gets nothing; and nothing is written."""
        assert await engine.get_session("nobody") is None
        assert await engine.get_conversation_history("nobody") == []
        assert await engine.get_context("nobody", "k") is None
        assert await engine.list_contexts("nobody") == []
        with pytest.raises(UnknownSession, match="nobody"):
            await engine.update_session("nobody", increment_requests=True)
        with pytest.raises(UnknownSession, match="create_session"):
            await engine.end_session("nobody")
        assert await engine.list_sessions() == []

    @pytest.mark.parametrize("status", ["completed", "failed", "expired", "cleared"])
    @pytest.mark.guarantee("V6")
    async def test_ends(self, engine: ContextEngine, status: str) -> None:
        """Each way to end is kept, against a racing update too; ``cleared`` empties the current history."""
        await engine.add_conversation_message("s", "user", "hello")
        await asyncio.gather(
            engine.end_session("s", status=status),
            engine.update_session("s", updates={"status": "active"}, increment_requests=True),
        )
        session = await engine.get_session("s")
        assert session is not None
        assert session.status == status
        history = await engine.get_conversation_history("s")
        assert [m.content for m in history] == ([] if status == "cleared" else ["hello"])

    async def test_lists(self, engine: ContextEngine) -> None:
        """Sessions are listed by status and user, in pages that know the next one."""
        for number in range(12):
            await engine.create_session(f"s{number:02}", "ann" if number % 3 else "bob")
        await engine.end_session("s05")
        active = await engine.list_sessions(status="active")
        assert len(active) == 11
        assert sum(session.request_count for session in active) == 0
        assert [session.session_id for session in await engine.list_sessions(status="completed")] == ["s05"]
        page = await engine.list_sessions(user_id="bob", limit=3)
        assert len(page) == 3
        rest = await engine.list_sessions(user_id="bob", limit=3, cursor=page.cursor)
        assert [len(rest), rest.cursor] == [1, None]


class TestConversations:
    @pytest.mark.guarantee("L7")
    async def test_real_conversations_survive_unchanged(self, engine: ContextEngine) -> None:
        """Every message of the shipped conversations comes back equal, one by one and in bulk."""
        for line in CONVERSATIONS.read_text(encoding="utf-8").splitlines():
            conversation = json.loads(line)
            one_by_one, bulk = conversation["session_id"], conversation["session_id"] + "-bulk"
            for message in conversation["messages"]:
                fields = {key: value for key, value in message.items() if key not in {"role", "content"}}
                await engine.add_conversation_message(one_by_one, message["role"], message["content"], **fields)
            await engine.add_conversation_messages(bulk, conversation["messages"])
            for session_id in (one_by_one, bulk):
                history = await engine.get_conversation_history(session_id, limit=0)
                kept = [{k: v for k, v in m.items() if k not in {"timestamp", "metadata", "version"}} for m in history]
                assert kept == conversation["messages"]

    async def test_messages_by_key_and_attribute(self, engine: ContextEngine) -> None:
        """A message is a dict with an ISO timestamp, whose attributes are the same with a datetime."""
        assert await engine.add_conversation_message("s", "user", "hi", metadata={"a": 1}) is True
        (message,) = await engine.get_conversation_history("s")
        assert isinstance(message, dict)
        assert (message["role"], message.get("content"), message.metadata) == ("user", "hi", {"a": 1})
        assert message["timestamp"] == message.timestamp.isoformat(timespec="milliseconds")

    @pytest.mark.parametrize("count", [49, 50, 51, 3000])
    @pytest.mark.guarantee("V3")
    async def test_last_50_are_the_newest(self, engine: ContextEngine, count: int) -> None:
        """The default of 50 gives the newest 50 in order, however long the conversation is."""
        for start in range(0, count, 1000):
            texts = range(start, min(count, start + 1000))
            await engine.add_conversation_messages("s", [{"role": "user", "content": str(n)} for n in texts])
        history = await engine.get_conversation_history("s")
        assert [m.content for m in history] == [str(n) for n in range(max(0, count - 50), count)]
        assert len(await engine.get_conversation_history("s", limit=0)) == count
        assert len(await engine.get_conversation_history("s", limit=None)) == count
        assert [m.content for m in await engine.get_conversation_history("s", 1)] == [str(count - 1)]

    async def test_what_was_returned_can_be_changed_freely(self, engine: ContextEngine) -> None:
        """Neither the caller's arguments nor the returned values are tied to what is stored."""
        metadata = {"list": [1]}
        await engine.add_conversation_message("s", "user", "x", metadata)
        metadata["list"].append(2)
        (first,) = await engine.get_conversation_history("s")
        first.metadata["list"].append(3)
        (again,) = await engine.get_conversation_history("s")
        assert again.metadata == {"list": [1]}

    @pytest.mark.guarantee("S4", "V1")
    async def test_500_concurrent_calls(self, engine: ContextEngine) -> None:
        """Reads and writes of all kinds, 500 at once, lose nothing."""
        calls: list[Any] = []
        for number in range(100):
            session_id = f"s{number % 10}"
            calls += [
                engine.add_conversation_message(session_id, "user", str(number)),
                engine.set_context(session_id, f"k{number}", number),
                engine.create_session(session_id, "ann"),
                engine.get_conversation_history(session_id),
                engine.get_session(session_id),
            ]
        await asyncio.gather(*calls)
        histories = [await engine.get_conversation_history(f"s{n}") for n in range(10)]
        assert sorted(int(m.content) for history in histories for m in history) == list(range(100))
        assert sum([len(await engine.list_contexts(f"s{n}")) for n in range(10)]) == 100

    @pytest.mark.guarantee("L1", "L3")
    async def test_64_writers_into_one_session(self, url: str, namespace: str) -> None:
        """64 writers of several engines at once: each one's messages in its order, versions gapless, all there."""
        async with contextlib.AsyncExitStack() as stack:
            count = 1 if url == "memory://" else 4
            engines = [await stack.enter_async_context(ContextEngine(url, namespace=namespace)) for _ in range(count)]

            async def write(writer: int) -> None:
                engine = engines[writer % count]
                for number in range(0, 12, 3):
                    await engine.add_conversation_message("s", "user", f"{writer} {number}")
                    pair = [{"role": "user", "content": f"{writer} {number + more}"} for more in (1, 2)]
                    await engine.add_conversation_messages("s", pair)

            await asyncio.gather(*map(write, range(64)))
            for engine in engines:
                history = await engine.get_conversation_history("s", limit=0)
                assert [m.version for m in history] == list(range(1, 64 * 12 + 1))
                assert sorted(history, key=lambda m: m["timestamp"]) == history
                for writer in range(64):
                    own = [m for m in history if m.content.startswith(f"{writer} ")]
                    assert [m.content for m in own] == [f"{writer} {number}" for number in range(12)]

    async def test_a_bulk_with_one_bad_message_adds_none(self, engine: ContextEngine) -> None:
        """Messages of one call are added all or none."""
        for bad in [{"content": "no role"}, {"role": "", "content": "x"}, "text", {"role": "user", "content": {1: 2}}]:
            with pytest.raises(InvalidInput):
                await engine.add_conversation_messages("s", [{"role": "user", "content": "x"}, bad])  # type: ignore[list-item]
        assert await engine.get_session("s") is None

    async def test_other_keys_of_a_message_are_kept_in_its_metadata(self, engine: ContextEngine) -> None:
        """A key that a message does not have is metadata; one that says something else there is refused."""
        message = {"role": "user", "content": "x", "tag": 1}
        await engine.add_conversation_messages("s", [message, {**message, "metadata": {"tag": 1, "lang": "en"}}])
        history = await engine.get_conversation_history("s")
        assert [m.metadata for m in history] == [{"tag": 1}, {"tag": 1, "lang": "en"}]
        for tag, other in ((1, 2), (1, True), (math.nan, math.nan)):
            with pytest.raises(InvalidInput, match="'tag'"):
                await engine.add_conversation_messages("s", [{**message, "tag": tag, "metadata": {"tag": other}}])
        assert len(await engine.get_conversation_history("s")) == 2


class TestContexts:
    @pytest.mark.parametrize("value", [None, False, 0, "", [], {}, {"theme": ["dark", {"x": 1.5}]}, "日本 \0 👩‍👩‍👧"])
    async def test_values_come_back(self, engine: ContextEngine, value: Any) -> None:
        """Any JSON value under any key."""
        assert await engine.set_context("s", "a key: {x}\n", value) is True
        assert await engine.get_context("s", "a key: {x}\n") == value
        assert await engine.get_context("s", "other") is None

    async def test_keys_are_listed_in_order(self, engine: ContextEngine) -> None:
        """Keys come in alphabetical order, at most as many as asked for."""
        for key in ("b", "c", "a", "b"):
            await engine.set_context("s", key, 1)
        assert await engine.list_contexts("s") == ["a", "b", "c"]
        assert await engine.list_contexts(session_id="s", limit=2) == ["a", "b"]


BAD_CALLS: list[tuple[str, tuple[Any, ...], type[Exception]]] = [
    ("create_session", ("",), InvalidSessionId),
    ("create_session", ("x" * 513,), InvalidSessionId),
    ("create_session", (None,), InvalidSessionId),
    ("create_session", ("new", 5), InvalidInput),
    ("create_session", ("new", ""), InvalidInput),
    ("create_session", ("new", "ann", "text"), InvalidInput),
    ("create_session", ("new", "ann", {"x": float("nan")}), InvalidEvent),
    ("get_session", ("",), InvalidSessionId),
    ("get_session", (5,), InvalidSessionId),
    ("update_session", ("",), InvalidSessionId),
    ("update_session", ("s", "text"), InvalidInput),
    ("update_session", ("s", {"session_id": "t"}), InvalidInput),
    ("update_session", ("s", {"created_at": "x"}), InvalidInput),
    ("update_session", ("s", {"metadata": 5}), InvalidInput),
    ("update_session", ("s", {"user_id": 5}), InvalidInput),
    ("update_session", ("s", {"status": ""}), InvalidInput),
    ("update_session", ("s", {"request_count": -1}), InvalidInput),
    ("update_session", ("s", {"request_count": 1.5}), InvalidInput),
    ("update_session", ("s", {"error_count": True}), InvalidInput),
    ("update_session", ("s", {"total_processing_time": float("inf")}), InvalidInput),
    ("update_session", ("s", {"x": object()}), InvalidEvent),
    ("update_session", ("s", None, 1), InvalidInput),
    ("update_session", ("s", None, False, -1.0), InvalidInput),
    ("update_session", ("s", None, False, float("nan")), InvalidInput),
    ("update_session", ("s", None, False, "1"), InvalidInput),
    ("update_session", ("s", None, False, 0.0, "yes"), InvalidInput),
    ("end_session", ("s", ""), InvalidInput),
    ("end_session", ("s", "active"), InvalidInput),
    ("end_session", ("s", 5), InvalidInput),
    ("list_sessions", ("",), InvalidInput),
    ("list_sessions", (None, 5), InvalidInput),
    ("list_sessions", (None, None, -1), InvalidInput),
    ("list_sessions", (None, None, None, "x"), InvalidInput),
    ("add_conversation_message", ("", "user", "x"), InvalidSessionId),
    ("add_conversation_message", ("a\0b", "user", "x"), InvalidSessionId),
    ("add_conversation_message", ("\ud800", "user", "x"), InvalidSessionId),
    ("add_conversation_message", ("$global", "user", "x"), InvalidSessionId),
    ("add_conversation_message", ("s", "", "x"), InvalidInput),
    ("add_conversation_message", ("s", None, "x"), InvalidInput),
    ("add_conversation_message", ("s", "user", "\ud800"), InvalidEvent),
    ("add_conversation_message", ("s", "user", float("nan")), InvalidEvent),
    ("add_conversation_message", ("s", "user", b"bytes"), InvalidEvent),
    ("add_conversation_message", ("s", "user", "x", "text"), InvalidInput),
    ("add_conversation_message", ("s", "user", "x", {"t": (1,)}), InvalidEvent),
    ("add_conversation_message", ("s", "user", "x" * 1024 * 1024), EventTooLarge),
    ("get_conversation_history", ("",), InvalidSessionId),
    ("get_conversation_history", ("s", -1), InvalidInput),
    ("get_conversation_history", ("s", "50"), InvalidInput),
    ("get_conversation_history", ("s", True), InvalidInput),
    ("set_context", ("s", "", 1), InvalidInput),
    ("set_context", ("s", "k" * 513, 1), InvalidInput),
    ("set_context", ("s", 5, 1), InvalidInput),
    ("set_context", ("s", "k", b"bytes"), InvalidEvent),
    ("set_context", ("", "k", 1), InvalidSessionId),
    ("get_context", ("s", ""), InvalidInput),
    ("get_context", ("", "k"), InvalidSessionId),
    ("list_contexts", ("",), InvalidSessionId),
    ("list_contexts", ("s", -1), InvalidInput),
]


class TestBadInput:
    @pytest.mark.parametrize(("method", "arguments", "error"), BAD_CALLS, ids=lambda value: str(value)[:30])
    @pytest.mark.guarantee("L8")
    async def test_is_refused_and_nothing_is_written(
        self, engine: ContextEngine, method: str, arguments: tuple[Any, ...], error: type[Exception]
    ) -> None:
        """Each kind of bad input has its error, and leaves every session as it was."""
        before = await engine.create_session("s", "ann")
        with pytest.raises(error) as raised:
            await getattr(engine, method)(*arguments)
        assert str(raised.value).endswith(".")
        assert await engine.list_sessions() == [before]


class TestLifecycle:
    async def test_a_closed_engine_says_so(self, url: str, namespace: str) -> None:
        """Before initialize and after close, every call raises NotInitialized."""
        engine = ContextEngine(url, namespace=namespace)
        for _ in range(2):
            with pytest.raises(NotInitialized, match="initialize"):
                await engine.get_session("s")
            assert await engine.initialize() is True
            assert await engine.initialize() is True
            await engine.create_session("s")
            await engine.close()
            await engine.close()
        assert engine

    async def test_workers_inside_keep_views_up_to_date(self, url: str, namespace: str) -> None:
        """Without any other process, views follow the log."""
        async with ContextEngine(url, namespace=namespace) as engine:
            await engine.add_conversation_message("s", "user", "x")
            views = engine._here().views
            with anyio.fail_after(10):
                while (await views.read_sessions(["s"]))[0].version != 1:
                    await anyio.sleep(0.001)  # no-sleep-ok: waits for the state

    @pytest.mark.guarantee("V1")
    async def test_without_workers_reads_are_as_right(self, url: str, namespace: str) -> None:
        """With no worker anywhere, all answers are the same."""
        async with ContextEngine(url, namespace=namespace, workers=False) as engine:
            await engine.create_session("s", "ann")
            await engine.add_conversation_message("s", "user", "x")
            assert [s.message_count for s in await engine.list_sessions(user_id="ann")] == [1]


@pytest.mark.guarantee("S4")
def test_several_event_loops(url: str, namespace: str) -> None:
    """An engine made on one loop works on the next, after the first is gone, and in another thread's."""
    engine = ContextEngine(url, namespace=namespace)
    asyncio.run(_open_and_write(engine))
    for number in range(1, 4):
        asyncio.run(engine.add_conversation_message("s", "user", str(number)))
    thread = threading.Thread(target=lambda: asyncio.run(engine.add_conversation_message("s", "user", "thread")))

    async def with_thread() -> list[str]:
        await engine.add_conversation_message("s", "user", "main")
        thread.start()
        await asyncio.to_thread(thread.join)
        return [m.content for m in await engine.get_conversation_history("s")]

    assert asyncio.run(with_thread()) == ["0", "1", "2", "3", "main", "thread"]
    assert len(asyncio.run(engine.list_sessions())) == 1
    asyncio.run(engine.close())


@pytest.mark.guarantee("S4")
def test_a_loop_that_ends_in_the_middle(redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of an event loop that ends while appends are on their way is left behind, and the next one goes on."""
    engine = ContextEngine(redis_url, namespace=namespace, workers=False)

    async def ends_early() -> None:
        await _open_and_write(engine)
        tasks = [asyncio.create_task(engine.add_conversation_message("s", "user", "perhaps")) for _ in range(20)]
        await asyncio.sleep(0)  # no-sleep-ok: the tasks have their turn
        assert not any(task.done() for task in tasks)

    asyncio.run(ends_early())
    asyncio.run(engine.add_conversation_message("s", "user", "next"))
    asyncio.run(engine.close())
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def _open_and_write(engine: ContextEngine) -> None:
    await engine.initialize()
    await engine.add_conversation_message("s", "user", "0")
