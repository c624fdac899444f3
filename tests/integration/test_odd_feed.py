"""Somebody has written to a feed what no append leaves there: it stops nobody who follows the feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.projected import check_views, projected
from support.servers import Server, binaries

from eventstore import MessageAdded, open_store
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


@pytest.fixture(params=SERVERS)
async def store(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[RedisStore]:
    """A store on each kind of server in turn, with a session, and odd entries before and behind what tells of it."""
    with Server(SERVERS[request.param], directory) as server:
        async with open_store(server.url, partitions=1) as store:
            assert isinstance(store, RedisStore)
            for fields in ODD:
                await store.links.call(
                    "XADD", store.keys.feed(0), "*", *(word for pair in fields.items() for word in pair)
                )
                await store.append("s", MessageAdded("user", "a"))
            yield store


@pytest.mark.guarantee("W5")
async def test_workers_pass_over_it(store: RedisStore, caplog: pytest.LogCaptureFixture) -> None:
    """They go on, say so, and acknowledge it; lists and totals are complete."""
    views = open_views(store)
    worker = ProjectionWorker(store, views)
    working = asyncio.create_task(worker.run())
    await projected(store)
    await worker.stop()
    await working
    queries = Queries(store, views, Projector(store, views))
    assert [session.session_id for session in (await queries.sessions()).sessions] == ["s"]
    assert (await queries.totals()).events == len(ODD)
    await check_views(store)
    passed_over = [record for record in caplog.records if getattr(record, "action", "") == "feed_entry_passed_over"]
    assert len(passed_over) == len(ODD) - 1


@pytest.mark.guarantee("W5")
async def test_whoever_takes_it_gets_no_session(store: RedisStore) -> None:
    """In whatever way it is taken: waited for, exchanged, or taken up again."""
    views = open_views(store)
    waiting, exchanging = [await store.feed.join(views.group, name) for name in ("waiting", "exchanging")]
    first = await take(views, waiting, count=3, wait=0)
    _, second = await views.exchange(exchanging, [], [], count=100)
    for taken, consumer in ((first, waiting), (second, exchanging)):
        assert {snapshot.session_id for snapshot in taken.snapshots} <= {"s", "nobody"}
        assert [each.pointers for each in await consumer.unfinished(count=100)] == [
            each.pointers for each in taken.deliveries
        ]


@pytest.mark.guarantee("W5")
async def test_reading_all_leaves_it_out(store: RedisStore) -> None:
    """What was appended since a position comes all the same."""
    position = tuple((0, 0) for _ in range(store.partitions))
    assert [event.version async for event in store.read_all(after=position)] == [*range(1, len(ODD) + 1)]
