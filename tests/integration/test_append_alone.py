"""The append script's two ways: one event of any version, alone, and whatever else there is, come to the same."""

from __future__ import annotations

import pytest

from eventstore import MessageAdded, SessionForgotten, StoreRefused
from eventstore.ids import tombstone_field
from eventstore.redis.store import RedisStore
from eventstore.store import ANY, EXISTS, NO_STREAM, ExpectedVersion

LATER = 99_999_999_999_999
"""Milliseconds, far ahead of any clock."""
BEYOND = 10**14
MESSAGE = MessageAdded("user", "a")
WAYS = pytest.mark.parametrize(("first", "then"), [(ANY, ANY), (NO_STREAM, EXISTS)], ids=["alone", "general"])


@WAYS
@pytest.mark.guarantee("L3")
async def test_a_clock_that_goes_back(own_store: RedisStore, first: ExpectedVersion, then: ExpectedVersion) -> None:
    """No event is recorded before the one that it follows, and the clock is believed again once it is later."""
    await own_store.append("s", MESSAGE, expected_version=first)
    (entry,) = await own_store.read("s")
    await own_store.links.call("DEL", own_store.keys.log(0, b"s"))
    await own_store.links.call("XADD", own_store.keys.log(0, b"s"), f"1-{LATER}", "e", entry.entry)
    await own_store.links.call("HSET", own_store.keys.heads(0), "s", f"1-{LATER}")
    assert (await own_store.append("s", MESSAGE, expected_version=then)).version == 2
    assert [(event.version, event.recorded_ms) for event in await own_store.read("s")] == [(1, LATER), (2, LATER)]
    assert await own_store.links.call("HGET", own_store.keys.heads(0), "s") == f"2-{LATER}".encode()
    assert (await own_store.append("other", MESSAGE, expected_version=first)).version == 1
    (other,) = await own_store.read("other")
    assert entry.recorded_ms <= other.recorded_ms < LATER
    assert await own_store.links.call("HGET", own_store.keys.heads(0), "other") == f"1-{other.recorded_ms}".encode()


@WAYS
async def test_what_the_feed_tells(own_store: RedisStore, first: ExpectedVersion, then: ExpectedVersion) -> None:
    """Each append is one entry of the feed."""
    await own_store.append("s", MESSAGE, expected_version=first)
    await own_store.append("s", MESSAGE, expected_version=then)
    entries = await own_store.links.call("XRANGE", own_store.keys.feed(0), "-", "+")
    assert [fields for _, fields in entries] == [[b"s", b"1/1"], [b"s", b"2/1"]]


@WAYS
async def test_a_log_of_another_type(own_store: RedisStore, first: ExpectedVersion, then: ExpectedVersion) -> None:
    """What cannot be written is refused, and the head stays where it is."""
    await own_store.append("s", MESSAGE, expected_version=first)
    head = await own_store.links.call("HGET", own_store.keys.heads(0), "s")
    await own_store.links.call("SET", own_store.keys.log(0, b"s"), "harm")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await own_store.append("s", MESSAGE, expected_version=then)
    assert await own_store.links.call("HGET", own_store.keys.heads(0), "s") == head


@WAYS
async def test_a_head_beyond_all_bounds(own_store: RedisStore, first: ExpectedVersion, then: ExpectedVersion) -> None:
    """A version that Lua could not count any more is never given, and nothing is written."""
    await own_store.append("s", MESSAGE, expected_version=first)
    heads, feed, log = own_store.keys.heads(0), own_store.keys.feed(0), own_store.keys.log(0, b"s")
    for version in (BEYOND - 1, BEYOND, 2**53, 2**63):
        await own_store.links.call("HSET", heads, "s", f"{version}-1")
        with pytest.raises(StoreRefused, match="beyond all bounds"):
            await own_store.append("s", MESSAGE, expected_version=then)
    assert [await own_store.links.call("XLEN", key) for key in (feed, log)] == [1, 1]
    await own_store.links.call("HSET", heads, "s", f"{BEYOND - 2}-1")
    assert (await own_store.append("s", MESSAGE, expected_version=then)).version == BEYOND - 1


@pytest.mark.parametrize("expected", [ANY, NO_STREAM], ids=["alone", "general"])
async def test_a_session_that_was_forgotten(own_store: RedisStore, expected: ExpectedVersion) -> None:
    """Where a tombstone stands, nothing is written."""
    await own_store.links.call("HSET", own_store.keys.tombstones(0), tombstone_field(b"s"), "x")
    with pytest.raises(SessionForgotten):
        await own_store.append("s", MESSAGE, expected_version=expected)
    assert await own_store.links.call("EXISTS", own_store.keys.log(0, b"s"), own_store.keys.feed(0)) == 0
