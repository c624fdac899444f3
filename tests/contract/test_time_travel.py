"""Time travel, on memory and on each server alike: sessions as they were, and sessions that share a past."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from contextengine import ContextEngine, InvalidInput, InvalidSessionId, UnknownSession, WrongExpectedVersion
from eventstore import Event, EventStore, MessageAdded, SessionStarted, open_store
from eventstore.forking import ORIGIN, fork


@pytest.fixture
async def engine(url: str, namespace: str) -> AsyncIterator[ContextEngine]:
    """An open engine on each kind of store in turn."""
    async with ContextEngine(url, namespace=namespace) as engine:
        yield engine


async def live(engine: ContextEngine, session_id: str) -> list[Any]:
    """Return what an engine answers now of a session."""
    return [
        await engine.get_session(session_id),
        await engine.get_conversation_history(session_id, 0),
        await engine.get_conversation_history(session_id, 3),
        await engine.get_conversation_history(session_id, 0, include_compacted=True),
        await engine.get_context(session_id, "plan"),
    ]


async def at(engine: ContextEngine, session_id: str, **moment: Any) -> list[Any]:
    """Return what it answers of a moment."""
    return [
        await engine.get_session(session_id, **moment),
        await engine.get_conversation_history(session_id, 0, **moment),
        await engine.get_conversation_history(session_id, 3, **moment),
        await engine.get_conversation_history(session_id, 0, include_compacted=True, **moment),
        await engine.get_context(session_id, "plan", **moment),
    ]


async def grown(engine: ContextEngine) -> list[list[Any]]:
    """Let a session live, and return what was answered at each version on the way."""
    answers = [await live(engine, "s")]

    async def note() -> None:
        answers.append(await live(engine, "s"))

    await engine.create_session("s", "ann", {"source": "web"})
    await note()
    for number in range(14):
        await engine.add_conversation_message("s", "user", f"My locker number is {number}.")
        await note()
    await engine.set_context("s", "plan", {"steps": [1]})
    await note()
    await engine.compress_conversation("s", "summarize")
    await note()
    await engine.add_conversation_message("s", "assistant", None, tool_calls=[{"id": "c"}])
    await note()
    await engine.delete_context("s", "plan")
    await note()
    await engine.end_session("s", "completed")
    await note()
    return answers


class TestPast:
    @pytest.mark.guarantee("R1")
    async def test_every_version_is_as_it_was(self, engine: ContextEngine) -> None:
        """What is answered of a version is what was answered when it was the newest, compactions included."""
        answers = await grown(engine)
        for version, then in enumerate(answers):
            assert await at(engine, "s", at_version=version) == then

    @pytest.mark.guarantee("R1")
    async def test_every_time_is_as_it_was(self, engine: ContextEngine, url: str, namespace: str) -> None:
        """At a time, the session is what the events recorded by then make of it; in any time zone; naive is UTC."""
        if url == "memory://":
            pytest.skip("the log is looked at from outside")
        answers = await grown(engine)
        async with open_store(url, namespace=namespace) as store:
            log = await store.read("s")
        tokyo = timezone(timedelta(hours=9))
        for event in log:
            last = max(each.version for each in log if each.recorded_ms <= event.recorded_ms)
            assert await at(engine, "s", at=event.recorded_at) == answers[last]
            assert await engine.get_session("s", at=event.recorded_at.astimezone(tokyo)) == answers[last][0]
            assert await engine.get_session("s", at=event.recorded_at.replace(tzinfo=None)) == answers[last][0]
        before = log[0].recorded_at - timedelta(milliseconds=1)
        assert await at(engine, "s", at=before) == answers[0]
        assert await at(engine, "s", at=datetime(9999, 12, 31, tzinfo=UTC)) == answers[-1]

    async def test_versions_that_never_were(self, engine: ContextEngine) -> None:
        """A version that the session has not come to, or that is none, is refused, and so are two moments at once."""
        await engine.create_session("s")
        for wrong in (2, -1, True, "1", 2**53):
            with pytest.raises(InvalidInput):
                await engine.get_session("s", at_version=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="not both"):
            await engine.get_conversation_history("s", at_version=1, at=datetime.now(UTC))
        with pytest.raises(InvalidInput, match="datetime"):
            await engine.get_context("s", "k", at="yesterday")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="has not come"):
            await engine.get_session("nobody", at_version=1)
        assert await engine.get_session("nobody", at_version=0) is None
        assert await engine.get_conversation_history("nobody", at=datetime.now(UTC)) == []

    async def test_the_global_context(self, engine: ContextEngine) -> None:
        """A global value can be asked for as it was, too."""
        await engine.set_context("theme", "dark")
        await engine.set_context("theme", "light")
        assert await engine.get_context("theme", at_version=1) == "dark"
        assert await engine.get_context("theme", at_version=0) is None

    async def test_long_logs(self, engine: ContextEngine) -> None:
        """A log of many pages is read several pages at once, and folded in order."""
        for start in range(0, 4000, 1000):
            await engine.add_conversation_messages(
                "s", [{"role": "user", "content": n} for n in range(start, start + 1000)]
            )
        for version in (1, 249, 250, 251, 2250, 3999, 4000):
            history = await engine.get_conversation_history("s", 0, at_version=version)
            assert [message.content for message in history] == [*range(version)]


class TestFork:
    @pytest.mark.guarantee("R2")
    async def test_it_shares_the_past_and_goes_its_own_way(self, engine: ContextEngine) -> None:
        """A fork is at every version what its origin was, metrics and times included; what comes after is its own."""
        answers = await grown(engine)
        origin = await live(engine, "s")
        for version in (1, 5, 16, 17, 20):
            name = f"fork-{version}"
            forked = await engine.fork_session("s", version, name)
            assert forked == {**answers[version][0], "session_id": name}
            for earlier in range(version + 1):
                session, *others = await at(engine, name, at_version=earlier)
                assert others == answers[earlier][1:]
                assert session is None or {**session, "session_id": "s"} == answers[earlier][0]
            await engine.add_conversation_message(name, "user", "another course")
            assert (await engine.get_conversation_history(name))[-1].content == "another course"
        assert await live(engine, "s") == origin
        summary = (await engine.get_conversation_history("fork-17"))[0]
        originals = await engine.expand_summary("s", summary.version)
        assert await engine.expand_summary("fork-17", summary.version) == originals
        counted = await engine.get_global_metrics()
        assert (counted["total_sessions"], dict(engine.get_global_metrics())) == (6, counted)

    @pytest.mark.guarantee("R2")
    async def test_made_again(self, engine: ContextEngine) -> None:
        """A fork that is there is left as it is, whatever was appended to it since; another session is not touched."""
        await grown(engine)
        await engine.fork_session("s", 5, "f")
        await engine.add_conversation_message("f", "user", "more")
        forked = await engine.fork_session("s", 5, "f")
        assert forked is not None
        assert forked.version == 6
        for version, name in ((4, "f"), (6, "f"), (5, "other")):
            await engine.add_conversation_message("other", "user", "mine")
            before = await live(engine, name)
            with pytest.raises(WrongExpectedVersion):
                await engine.fork_session("s", version, name)
            assert await live(engine, name) == before

    async def test_what_cannot_be_forked(self, engine: ContextEngine) -> None:
        """What is not there cannot be shared, and nothing is written."""
        await engine.create_session("s")
        await engine.set_context("theme", "dark")
        with pytest.raises(UnknownSession):
            await engine.fork_session("nobody", 1, "f")
        for version in (0, 2, -1, True):
            with pytest.raises(InvalidInput):
                await engine.fork_session("s", version, "f")
        with pytest.raises(InvalidInput, match="its own"):
            await engine.fork_session("s", 1, "s")
        for one, other in (("$global", "f"), ("s", "$global")):
            with pytest.raises(InvalidSessionId):
                await engine.fork_session(one, 1, other)
        assert await engine.get_session("f") is None

    @pytest.mark.guarantee("R2")
    async def test_interrupted_anywhere(self, store: EventStore) -> None:
        """A fork that was left off after any append is completed by making it again: once, in order, with its metas."""
        log: list[tuple[Event, dict[str, str]]] = [(SessionStarted("ann"), {"actor": "a"})]
        log += [(MessageAdded("user", n), {"actor": "ab"[n // 3 % 2]}) for n in range(12)]
        for event, meta in log:
            await store.append("s", event, meta=meta)
        for left_off in range(6):
            name = f"fork-{left_off}"
            copies = fork(store, "s", 10, name)
            for _ in range(left_off):
                await anext(copies, None)
            await copies.aclose()
            async for _ in fork(store, "s", 10, name):
                pass
            originals, copied = await store.read("s", until=10), await store.read(name)
            assert [event.version for event in copied] == [*range(1, 11)]
            for one, other in zip(originals, copied, strict=True):
                assert other.meta == {**one.meta, ORIGIN: {"session_id": "s", "version": 10}}
                assert other.occurred_at == one.recorded_at
                assert (other.type, getattr(other.data, "content", None)) == (
                    one.type,
                    getattr(one.data, "content", None),
                )


class TestUndo:
    @pytest.mark.guarantee("R8")
    async def test_the_history_as_it_was(self, engine: ContextEngine) -> None:
        """Messages since a version leave the history, one undo after the other; all else stays, and so does the log."""
        for number in range(8):
            await engine.add_conversation_message("s", "user", f"{number}")
        await engine.set_context("s", "plan", 1)
        assert await engine.undo_messages("s", 6) == 2
        assert await engine.undo_messages("s", 6) == 0
        await engine.add_conversation_message("s", "user", "instead")
        assert await engine.undo_messages("s", 11) == 0
        for limit, expected in ((0, ["0", "1", "2", "3", "4", "5", "instead"]), (2, ["5", "instead"])):
            for choice in ({}, {"include_compacted": True}, {"at_version": 11}):
                history = await engine.get_conversation_history("s", limit, **choice)
                assert [message.content for message in history] == expected
        assert await engine.undo_messages("s", 3) == 4
        assert [message.content for message in await engine.get_conversation_history("s")] == ["0", "1", "2"]
        originals = await engine.get_conversation_history("s", include_compacted=True)
        assert [message.content for message in originals] == ["0", "1", "2"]
        assert len(await engine.get_conversation_history("s", at_version=8)) == 8
        session = await engine.get_session("s")
        assert session is not None
        assert (session.message_count, await engine.get_context("s", "plan")) == (9, 1)
        assert (await engine.fork_session("s", 8, "redo")) is not None
        assert len(await engine.get_conversation_history("redo")) == 8

    @pytest.mark.guarantee("R8")
    async def test_after_a_compaction(self, engine: ContextEngine) -> None:
        """What a compaction kept can be undone as far as it reaches; beyond it, one has to fork."""
        for number in range(30):
            await engine.add_conversation_message("s", "user", f"Locker {number}.")
        compacted = await engine.compress_conversation("s", "summarize")
        kept = await engine.get_conversation_history("s", 0)
        await engine.add_conversation_message("s", "user", "later")
        assert await engine.undo_messages("s", compacted["version"]) == 1
        assert await engine.get_conversation_history("s", 0) == kept
        before = await engine.get_session("s")
        for version in (0, 29, 30):
            with pytest.raises(InvalidInput, match="Fork it"):
                await engine.undo_messages("s", version)
        with pytest.raises(InvalidInput, match="has not come"):
            await engine.undo_messages("s", 99)
        assert await engine.get_session("s") == before
