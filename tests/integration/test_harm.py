"""Somebody has written to Redis what we never would: it stops nobody else."""

from __future__ import annotations

import asyncio

import pytest
from support.projected import check_views, projected

from eventstore import CorruptLog, MessageAdded
from eventstore.redis.store import RedisStore
from projections import Projector, Queries, open_views
from projections.exchange import take
from workers import ProjectionWorker

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


@pytest.fixture
async def odd(own_store: RedisStore) -> RedisStore:
    """A store with a session, and odd entries before and behind what the feed tells of it."""
    for fields in ODD:
        words = [word for pair in fields.items() for word in pair]
        await own_store.links.call("XADD", own_store.keys.feed(0), "*", *words)
        await own_store.append("s", MessageAdded("user", "a"))
    return own_store


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
async def test_an_entry_at_the_end_of_its_millisecond(own_store: RedisStore) -> None:
    """What has no next number is acknowledged, and does not keep the feed from being trimmed."""
    await own_store.append("s", MessageAdded("user", "a"))
    at = int((await own_store.now()).timestamp() * 1000) + 1
    await own_store.links.call("XADD", own_store.keys.feed(0), f"{at}-{2**64 - 1}", "s", "1/1")
    await worked(own_store)
    await own_store.feed.trim()
    await own_store.append("s", MessageAdded("user", "b"))
    await worked(own_store)
    await check_views(own_store)


@pytest.mark.guarantee("W2")
async def test_a_log_that_is_no_stream(own_store: RedisStore) -> None:
    """Its session is parked, whether it was projected before or not; others are projected and listed."""
    await own_store.append("known", MessageAdded("user", "a"))
    await worked(own_store)
    for name in ("known", "new", "other"):
        await own_store.append(name, MessageAdded("user", "b"))
    for name in ("known", "new"):
        await own_store.links.call("SET", own_store.keys.log(0, name.encode()), "harm")
    await worked(own_store)
    parked = {each.session_id: each.reason for each in await open_views(own_store).parked()}
    assert parked.keys() == {"known", "new"}
    assert all("no stream" in reason for reason in parked.values())
    queries = queries_of(own_store)
    assert {session.session_id for session in (await queries.sessions()).sessions} == {"known", "other"}
    with pytest.raises(CorruptLog, match="no stream"):
        await queries.history("new")
    await check_views(own_store, only=["other"])
