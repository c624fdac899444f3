"""Logs that have lost what had been read of them: whoever holds something that came of it notices."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest
from support.servers import Server, binaries
from support.waiting import until

from contextengine import ContextEngine, LogForked
from eventstore import ContextSet, MessageAdded, SessionUpdated, open_store
from eventstore.redis.store import RedisStore
from projections import Projector, Queries, open_views
from projections.auditing import audit, audit_totals
from projections.session import SessionState

SERVERS = binaries()
FEW = 5
MANY = 12


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest, shared_servers: Callable[[str], Server]) -> str:
    """The URL of each kind of server."""
    return shared_servers(request.param).url


@pytest.fixture
async def store(url: str, namespace: str) -> AsyncIterator[RedisStore]:
    """A store on each kind of server."""
    async with open_store(url, namespace=namespace, timeout=5) as store:
        assert isinstance(store, RedisStore)
        yield store


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


async def fill(store: RedisStore, *texts: str) -> None:
    """Append a message and a context value for each text."""
    for text in texts:
        await store.append("s", [said(text), ContextSet("latest", text), ContextSet(text, 1)])


async def cut_back(store: RedisStore, to: int) -> None:
    """Take from a session's log, its head and the feed what came after a version, as on a server that lags."""
    partition = store.keys.partition(b"s")
    log, heads, feed = store.keys.log(partition, b"s"), store.keys.heads(partition), store.keys.feed(partition)
    gone = await store.links.call("XRANGE", log, to + 1, "+")
    await store.links.call("XDEL", log, *(place for place, _ in gone))
    left = await store.links.call("XREVRANGE", log, "+", "-", "COUNT", 1)
    # The log is copied, so that its last id is that of its last event.
    kept = await store.links.call("XRANGE", log, "-", "+")
    await store.links.call("DEL", log)
    for place, (name, value) in kept:
        await store.links.call("XADD", log, place, name, value)
    if left:
        await store.links.call("HSET", heads, "s", left[0][0])
    else:
        await store.links.call("HDEL", heads, "s")
    entries = await store.links.call("XRANGE", feed, "-", "+")
    await store.links.call("DEL", feed)
    for place, fields in entries:
        if int(fields[1].split(b"/")[0]) <= to:
            await store.links.call("XADD", feed, place, *fields)


async def right(store: RedisStore, texts: list[str]) -> None:
    """Hold every answer about the session against what its log says now."""
    views = open_views(store)
    queries = Queries(store, views, Projector(store, views))
    assert [message["content"] for message in await queries.history("s")] == texts
    assert [message["content"] for message in await queries.history("s", 3)] == texts[-3:]
    assert await queries.context("s", "latest") == (texts[-1], 3 * len(texts))
    assert await queries.context_keys("s") == sorted([*texts, "latest"])
    session = await queries.session("s")
    assert session is not None
    assert (session.version, session.state.message_count) == (3 * len(texts), len(texts))


class TestViews:
    @pytest.mark.parametrize("then", ["nothing", "fewer", "as many", "more"])
    @pytest.mark.guarantee("V8")
    async def test_are_not_answered_from(self, store: RedisStore, then: str, caplog: pytest.LogCaptureFixture) -> None:
        """Views that are ahead of their log, or of another one, are passed over by the next read, and made anew."""
        views = open_views(store)
        await fill(store, *(f"old {number}" for number in range(MANY)))
        await Projector(store, views).project(["s"])
        await cut_back(store, 3 * FEW)
        texts = [f"old {number}" for number in range(FEW)]
        new = {"nothing": 0, "fewer": 2, "as many": MANY - FEW, "more": MANY}[then]
        await fill(store, *(f"new {number}" for number in range(new)))
        texts += [f"new {number}" for number in range(new)]
        with caplog.at_level(logging.ERROR, "contextengine"):
            await right(store, texts)
        (told,) = [vars(record) for record in caplog.records if vars(record).get("action") == "log_forked"]
        assert (told["session_id"], told["views_version"], told["log_version"]) == ("s", 3 * MANY, 3 * len(texts))
        caplog.clear()
        await right(store, texts)
        assert caplog.records == [], "it is said once"
        assert not (await audit(store, views, "s")).drifts
        (snapshot,) = await views.read_sessions(["s"])
        assert (snapshot.version, snapshot.forked) == (3 * len(texts), None)
        states: list[tuple[int, SessionState]] = [(snapshot.version, snapshot.state)]
        assert await audit_totals(store, views, states) == []
        assert await views.forked() == 1

    @pytest.mark.guarantee("V8")
    @pytest.mark.parametrize(("before", "left", "then"), [(1, 1, 0), (1, 0, 1), (1, 1, 3), (3, 1, 0), (3, 0, 1)])
    async def test_of_a_short_log(self, store: RedisStore, before: int, left: int, then: int) -> None:
        """Where but the session view is stored, before or afterwards, everything is counted again."""
        views = open_views(store)
        await fill(store, *(f"old {number}" for number in range(before)))
        await Projector(store, views).project(["s"])
        await cut_back(store, left)
        await store.append("s", [said(f"new {number}") for number in range(then)] or [ContextSet("k", 1)])
        assert await Projector(store, views).project(["s"]) == []
        assert not (await audit(store, views, "s")).drifts
        (snapshot,) = await views.read_sessions(["s"])
        assert (snapshot.version, snapshot.forked) == (left + (then or 1), None)
        assert snapshot.state.message_count == left + then
        assert await audit_totals(store, views, [(snapshot.version, snapshot.state)]) == []
        assert await views.forked() == 1

    @pytest.mark.guarantee("V8")
    async def test_of_a_log_that_is_gone(self, store: RedisStore) -> None:
        """A session whose whole log is gone has no views either, and stands in no list."""
        await fill(store, "a", "b")
        views = open_views(store)
        await Projector(store, views).project(["s"])
        await cut_back(store, 0)
        queries = Queries(store, views, Projector(store, views))
        assert await queries.history("s") == []
        assert await queries.session("s") is None
        assert (await queries.sessions()).sessions == []
        assert (await queries.totals()).messages == 0

    @pytest.mark.guarantee("V8")
    async def test_long_logs_are_folded_whole(self, store: RedisStore) -> None:
        """What takes the place of views is the fold of the whole log, however long it is."""
        views = open_views(store)
        for _ in range(4):
            await store.append("s", [said("old") for _ in range(1000)])
        await Projector(store, views).project(["s"])
        await cut_back(store, 2500)
        await Projector(store, views).project(["s"])
        (snapshot,) = await views.read_sessions(["s"])
        assert (snapshot.version, snapshot.state.message_count, snapshot.forked) == (2500, 2500, None)

    @pytest.mark.guarantee("V8", "W2")
    async def test_of_a_parked_session_stay(self, store: RedisStore) -> None:
        """A session that is parked is left alone, whatever has become of its log; a retry folds the log that it has."""
        views = open_views(store)
        projector = Projector(store, views)
        await fill(store, *"abc")
        await projector.project(["s"])
        await projector.park("s", 4, "for the test")
        await cut_back(store, 3)
        await projector.project(["s"])
        (snapshot,) = await views.read_sessions(["s"])
        assert snapshot.value
        assert snapshot.forked is not None
        assert snapshot.forked.version == 9
        assert await projector.retry("s") is None
        await right(store, ["a"])

    @pytest.mark.guarantee("V8")
    async def test_take_no_commit_from_another_log(self, store: RedisStore) -> None:
        """What was folded from events that the log has lost meanwhile is not committed, whatever came instead."""
        views = open_views(store)
        await fill(store, *"abcde")
        await Projector(store, views).project(["s"])
        await fill(store, *"fgh")
        (snapshot,) = await views.read_sessions(["s"])
        late, _ = await Projector(store, views)._change(snapshot)
        await cut_back(store, 15)
        assert await views.commit([late]) == [False]  # type: ignore[list-item]
        await fill(store, *"xyz")
        assert await views.commit([late]) == [False]  # type: ignore[list-item]
        await right(store, [*"abcdexyz"])
        assert await views.forked() == 0, "no view was ever ahead"

    async def test_of_events_that_are_there_are_left_alone(self, store: RedisStore) -> None:
        """A change whose events are in the log is committed, though the log has gone on since."""
        views = open_views(store)
        await fill(store, *"ab")
        (snapshot,) = await views.read_sessions(["s"])
        early, _ = await Projector(store, views)._change(snapshot)
        await fill(store, *"cd")
        assert await views.commit([early]) == [True]  # type: ignore[list-item]
        await right(store, [*"abcd"])

    @pytest.mark.guarantee("V8")
    async def test_health_tells(self, store: RedisStore, url: str) -> None:
        """An engine's health says how many views had to be made anew."""
        async with ContextEngine(url, namespace=store.namespace, workers=False) as engine:
            await fill(store, *"abc")
            assert (await engine.health_check())["forked_views"] == 0
            await Projector(store, open_views(store)).project(["s"])
            await cut_back(store, 3)
            assert [message.content for message in await engine.get_conversation_history("s")] == ["a"]
            assert (await engine.health_check())["forked_views"] == 1


class TestSubscriptions:
    @pytest.mark.parametrize("then", ["nothing", "fewer", "more"])
    @pytest.mark.guarantee("L11")
    async def test_end_where_the_log_forks(self, store: RedisStore, then: str) -> None:
        """A subscriber who has seen what the log does not hold any more is told, and gets nothing of the other log."""
        await fill(store, *"abcd")
        got: list[int] = []

        async def follow() -> None:
            async for event in store.subscribe("s"):
                got.append(event.version)  # noqa: PERF401 - it is looked at meanwhile

        following = asyncio.ensure_future(follow())
        await until(lambda: len(got) == 12)
        await cut_back(store, 6)
        await fill(store, *{"nothing": "", "fewer": "x", "more": "uvwxyz"}[then])
        with pytest.raises(LogForked, match="up to version 12") as caught:
            await asyncio.wait_for(following, 30)
        assert (caught.value.session_id, caught.value.version) == ("s", 12)
        assert got == list(range(1, 13))

    @pytest.mark.guarantee("L11")
    async def test_do_not_begin_beyond_the_end(self, store: RedisStore) -> None:
        """Who asks for what comes after a version that the log has not reached is told at once."""
        await store.append("s", [said("a"), said("b")])
        with pytest.raises(LogForked):
            await anext(store.subscribe("s", after=3))
        subscription = store.subscribe("s", after=2)
        await store.append("s", said("c"))
        assert (await anext(subscription)).version == 3
        await subscription.aclose()

    @pytest.mark.guarantee("L11")
    async def test_are_resumed_after_an_event(self, store: RedisStore) -> None:
        """Who resumes after the last event that it has, and not a version, learns of a log that has overtaken."""
        await fill(store, *"ab")
        last = (await store.read("s"))[-1]
        await store.append("s", said("c"))
        subscription = store.subscribe("s", after=last)
        assert (await anext(subscription)).version == 7
        await subscription.aclose()
        await cut_back(store, 3)
        await store.append("s", [SessionUpdated(requests=1) for _ in range(9)])
        with pytest.raises(LogForked):
            await anext(store.subscribe("s", after=last))

    @pytest.mark.guarantee("L11")
    async def test_positions_are_held_against_the_feeds(self, store: RedisStore) -> None:
        """A position that the feeds do not hold any more is refused; one that was trimmed is refused as before."""
        await fill(store, *"ab")
        early = await store.position()
        await fill(store, *"cd")
        position = await store.position()
        assert await store.read_all(after=position) == []
        await cut_back(store, 6)
        with pytest.raises(LogForked, match="the feeds"):
            await store.read_all(after=position)
        await fill(store, *"xyz")
        feed = store.keys.feed(store.keys.partition(b"s"))
        if b"max-deleted-entry-id" in await store.links.call("XINFO", "STREAM", feed):  # Redis 6.2 does not tell
            with pytest.raises(LogForked, match="the feeds"):
                await store.read_all(after=position)
        assert len(await store.read_all(after=early)) == 9
