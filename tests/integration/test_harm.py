"""Somebody has written to Redis what we never would: it stops nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.projected import check_views, projected
from support.servers import Server, binaries

from eventstore import CorruptLog, MessageAdded, open_store
from eventstore.redis.store import RedisStore
from projections import Projector, Queries, open_views
from projections.exchange import take
from workers import ProjectionWorker

SERVERS = binaries()
ODD: list[dict[bytes, bytes]] = [
    {b"s": b"harm"},
    {b"s": b"1/2/3"},
    {b"s": b"one/1"},
    {b"": b"1/1"},
    {b"a\0b": b"1/1"},
    {b"\xff": b"1/1"},
    {b"x" * 513: b"1/1"},
    {b"nobody": b"1/1"},
]
"""Entries of a feed that no append leaves. The last one tells of a session that there is not."""


@pytest.fixture(params=SERVERS)
async def store(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[RedisStore]:
    """A store on each kind of server in turn."""
    with Server(SERVERS[request.param], directory) as server:
        async with open_store(server.url, partitions=1) as store:
            assert isinstance(store, RedisStore)
            yield store


@pytest.fixture
async def odd(store: RedisStore) -> RedisStore:
    """A store with a session, and odd entries before and behind what the feed tells of it."""
    for fields in ODD:
        words = [word for pair in fields.items() for word in pair]
        await store.links.call("XADD", store.keys.feed(0), "*", *words)
        await store.append("s", MessageAdded("user", "a"))
    return store


async def worked(store: RedisStore) -> None:
    """Let a worker do all there is to do."""
    worker = ProjectionWorker(store, open_views(store))
    working = asyncio.create_task(worker.run())
    await projected(store)
    await worker.stop()
    await working


def queries_of(store: RedisStore) -> Queries:
    """Return the queries."""
    views = open_views(store)
    return Queries(store, views, Projector(store, views))


@pytest.mark.guarantee("W5")
async def test_workers_pass_over_odd_entries(odd: RedisStore, caplog: pytest.LogCaptureFixture) -> None:
    """They go on, say so, and acknowledge it; lists and totals are complete."""
    await worked(odd)
    queries = queries_of(odd)
    assert [session.session_id for session in (await queries.sessions()).sessions] == ["s"]
    assert (await queries.totals()).events == len(ODD)
    await check_views(odd)
    passed_over = [record for record in caplog.records if getattr(record, "action", "") == "feed_entry_passed_over"]
    assert len(passed_over) == len(ODD) - 1


@pytest.mark.guarantee("W5")
async def test_whoever_takes_odd_entries_gets_no_session(odd: RedisStore) -> None:
    """In whatever way they are taken: waited for, exchanged, or taken up again."""
    views = open_views(odd)
    waiting, exchanging = [await odd.feed.join(views.group, name) for name in ("waiting", "exchanging")]
    first = await take(views, waiting, count=3, wait=0)
    _, second = await views.exchange(exchanging, [], [], count=100)
    for taken, consumer in ((first, waiting), (second, exchanging)):
        assert {snapshot.session_id for snapshot in taken.snapshots} <= {"s", "nobody"}
        again = await consumer.unfinished(count=100)
        assert [each.pointers for each in again] == [each.pointers for each in taken.deliveries]


@pytest.mark.guarantee("W5")
async def test_reading_all_leaves_odd_entries_out(odd: RedisStore) -> None:
    """What was appended since a position comes all the same."""
    position = tuple((0, 0) for _ in range(odd.partitions))
    assert [event.version async for event in odd.read_all(after=position)] == [*range(1, len(ODD) + 1)]


@pytest.mark.guarantee("W5")
async def test_an_entry_at_the_end_of_its_millisecond(store: RedisStore) -> None:
    """What has no next number is acknowledged, and does not keep the feed from being trimmed."""
    await store.append("s", MessageAdded("user", "a"))
    at = int((await store.now()).timestamp() * 1000) + 1
    await store.links.call("XADD", store.keys.feed(0), f"{at}-{2**64 - 1}", "s", "1/1")
    await worked(store)
    await store.feed.trim()
    await store.append("s", MessageAdded("user", "b"))
    await worked(store)
    await check_views(store)


@pytest.mark.guarantee("W2")
async def test_a_log_that_is_no_stream(store: RedisStore) -> None:
    """Its session is parked, whether it was projected before or not; others are projected and listed."""
    await store.append("known", MessageAdded("user", "a"))
    await worked(store)
    for name in ("known", "new", "other"):
        await store.append(name, MessageAdded("user", "b"))
    for name in ("known", "new"):
        await store.links.call("SET", store.keys.log(0, name.encode()), "harm")
    await worked(store)
    parked = {each.session_id: each.reason for each in await open_views(store).parked()}
    assert parked.keys() == {"known", "new"}
    assert all("no stream" in reason for reason in parked.values())
    queries = queries_of(store)
    assert {session.session_id for session in (await queries.sessions()).sessions} == {"known", "other"}
    with pytest.raises(CorruptLog, match="no stream"):
        await queries.history("new")
    await check_views(store, only=["other"])
