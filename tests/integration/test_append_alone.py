"""The append script's two ways: one event of any version, alone, and whatever else there is, come to the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.servers import Server, binaries
from support.waiting import until

from eventstore import (
    Append,
    Appended,
    AppendOutcomeUnknown,
    MessageAdded,
    SessionForgotten,
    StoreRefused,
    WrongExpectedVersion,
    open_store,
)
from eventstore.ids import tombstone_field
from eventstore.redis.appender import Appender, Group
from eventstore.redis.commands import Command
from eventstore.redis.link import LinkLost
from eventstore.redis.pending import Pending
from eventstore.redis.store import RedisStore
from eventstore.store import ANY, EXISTS, NO_STREAM, ExpectedVersion

SERVERS = binaries()
LATER = 99_999_999_999_999
"""Milliseconds, far ahead of any clock."""
BEYOND = 10**14
MESSAGE = MessageAdded("user", "a")
WAYS = pytest.mark.parametrize(("first", "then"), [(ANY, ANY), (NO_STREAM, EXISTS)], ids=["alone", "general"])


@pytest.fixture(params=SERVERS)
async def store(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[RedisStore]:
    """A store on each kind of server in turn."""
    with Server(SERVERS[request.param], directory) as server:
        async with open_store(server.url, partitions=1) as store:
            assert isinstance(store, RedisStore)
            yield store


@WAYS
@pytest.mark.guarantee("L3")
async def test_a_clock_that_goes_back(store: RedisStore, first: ExpectedVersion, then: ExpectedVersion) -> None:
    """No event is recorded before the one that it follows, and the clock is believed again once it is later."""
    await store.append("s", MESSAGE, expected_version=first)
    (entry,) = await store.read("s")
    await store.links.call("DEL", store.keys.log(0, b"s"))
    await store.links.call("XADD", store.keys.log(0, b"s"), f"1-{LATER}", "e", entry.entry)
    await store.links.call("HSET", store.keys.heads(0), "s", f"1-{LATER}")
    assert (await store.append("s", MESSAGE, expected_version=then)).version == 2
    assert [(event.version, event.recorded_ms) for event in await store.read("s")] == [(1, LATER), (2, LATER)]
    assert await store.links.call("HGET", store.keys.heads(0), "s") == f"2-{LATER}".encode()
    assert (await store.append("other", MESSAGE, expected_version=first)).version == 1
    (other,) = await store.read("other")
    assert entry.recorded_ms <= other.recorded_ms < LATER
    assert await store.links.call("HGET", store.keys.heads(0), "other") == f"1-{other.recorded_ms}".encode()


@WAYS
async def test_what_the_feed_tells(store: RedisStore, first: ExpectedVersion, then: ExpectedVersion) -> None:
    """Each append is one entry of the feed."""
    await store.append("s", MESSAGE, expected_version=first)
    await store.append("s", MESSAGE, expected_version=then)
    entries = await store.links.call("XRANGE", store.keys.feed(0), "-", "+")
    assert [fields for _, fields in entries] == [[b"s", b"1/1"], [b"s", b"2/1"]]


async def test_what_is_known_of_a_session_is_known_to_the_next_append(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on after an append, and appends again at once, is not ahead of what its reply told."""
    known = list[int]()
    command = Appender._command

    def noted(self: Appender, group: Group) -> Command:
        known.extend(pending.at_least for pending in group.members)
        return command(self, group)

    await store.append("s", MESSAGE)
    monkeypatch.setattr(Appender, "_command", noted)
    for _ in range(4):
        await store.append("s", MESSAGE)
    assert known == [1, 2, 3, 4]


async def test_a_conflict_over_a_damaged_log(store: RedisStore) -> None:
    """It bears what can be read of what got there first, and the appends that left together with it are not held up."""
    await store.append("s", [MESSAGE, MESSAGE])
    await store.links.call("XADD", store.keys.log(0, b"s"), f"3-{LATER}", "e", "harm")
    await store.links.call("HSET", store.keys.heads(0), "s", f"3-{LATER}")
    with anyio.fail_after(10):
        conflict, *others = await store.append_many(
            [Append("s", [MESSAGE], 1), *(Append(f"other-{number}", [MESSAGE]) for number in range(5))]
        )
    assert isinstance(conflict, WrongExpectedVersion)
    assert (conflict.version, [event.version for event in conflict.events]) == (3, [2])
    assert [other.version for other in others if isinstance(other, Appended)] == [1] * 5


async def test_a_reply_that_nobody_understands_holds_nobody_up(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller is told that the outcome is not known, and why; the others have theirs."""
    settle = Pending.settle

    def odd(self: Pending, result: Any, known: dict[bytes, int]) -> None:
        settle(self, ["odd"] if self.append.session_id == "other-2" else result, known)

    monkeypatch.setattr(Pending, "settle", odd)
    with anyio.fail_after(10):
        results = await store.append_many([Append(f"other-{number}", [MESSAGE]) for number in range(5)])
    unknown = results.pop(2)
    assert isinstance(unknown, AppendOutcomeUnknown)
    assert isinstance(unknown.__cause__, AttributeError | IndexError)
    assert [other.version for other in results if isinstance(other, Appended)] == [1] * 4
    assert await store.outcome(unknown.session_id, unknown.event_ids) is not None


async def test_a_link_that_was_broken_in_the_midst_gives_nothing_more(store: RedisStore) -> None:
    """The replies behind belong to a connection that is no more, and so do those who wait for them."""
    link = store.links.shared()
    outcomes: list[Any] = []

    def break_(outcome: list[Any] | LinkLost) -> None:
        outcomes.append(outcome)
        assert link._wire is not None
        link._wire._transport.abort()

    link.send([("PING",)], break_)
    link.send([("PING",)], outcomes.append)
    link.flush()
    await until(lambda: len(outcomes) == 2)
    assert outcomes[0] == [b"PONG"]
    assert isinstance(outcomes[1], LinkLost)
    assert await link.call("PING") == b"PONG"


@WAYS
async def test_a_log_of_another_type(store: RedisStore, first: ExpectedVersion, then: ExpectedVersion) -> None:
    """What cannot be written is refused, and the head stays where it is."""
    await store.append("s", MESSAGE, expected_version=first)
    head = await store.links.call("HGET", store.keys.heads(0), "s")
    await store.links.call("SET", store.keys.log(0, b"s"), "harm")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await store.append("s", MESSAGE, expected_version=then)
    assert await store.links.call("HGET", store.keys.heads(0), "s") == head


@WAYS
async def test_a_head_beyond_all_bounds(store: RedisStore, first: ExpectedVersion, then: ExpectedVersion) -> None:
    """A version that Lua could not count any more is never given, and nothing is written."""
    await store.append("s", MESSAGE, expected_version=first)
    heads, feed, log = store.keys.heads(0), store.keys.feed(0), store.keys.log(0, b"s")
    for version in (BEYOND - 1, BEYOND, 2**53, 2**63):
        await store.links.call("HSET", heads, "s", f"{version}-1")
        with pytest.raises(StoreRefused, match="beyond all bounds"):
            await store.append("s", MESSAGE, expected_version=then)
    assert [await store.links.call("XLEN", key) for key in (feed, log)] == [1, 1]
    await store.links.call("HSET", heads, "s", f"{BEYOND - 2}-1")
    assert (await store.append("s", MESSAGE, expected_version=then)).version == BEYOND - 1


@pytest.mark.parametrize("expected", [ANY, NO_STREAM], ids=["alone", "general"])
async def test_a_session_that_was_forgotten(store: RedisStore, expected: ExpectedVersion) -> None:
    """Where a tombstone stands, nothing is written."""
    await store.links.call("HSET", store.keys.tombstones(0), tombstone_field(b"s"), "x")
    with pytest.raises(SessionForgotten):
        await store.append("s", MESSAGE, expected_version=expected)
    assert await store.links.call("EXISTS", store.keys.log(0, b"s"), store.keys.feed(0)) == 0
