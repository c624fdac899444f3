"""How the replies to appends are given out: each to its caller, whatever the others are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.servers import Server, binaries
from support.waiting import until

from eventstore import Append, Appended, AppendOutcomeUnknown, MessageAdded, WrongExpectedVersion, open_store
from eventstore.redis.appender import Appender, Group
from eventstore.redis.commands import Command
from eventstore.redis.link import LinkLost
from eventstore.redis.pending import Pending
from eventstore.redis.store import RedisStore

SERVERS = binaries()
LATER = 99_999_999_999_999
"""Milliseconds, far ahead of any clock."""
MESSAGE = MessageAdded("user", "a")


@pytest.fixture(params=SERVERS)
async def store(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[RedisStore]:
    """A store on each kind of server in turn."""
    with Server(SERVERS[request.param], directory) as server:
        async with open_store(server.url, partitions=1) as store:
            assert isinstance(store, RedisStore)
            yield store


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


@pytest.mark.parametrize("harm", ["an odd entry", "no stream", "a head beyond all bounds"])
async def test_a_conflict_over_a_damaged_log(store: RedisStore, harm: str) -> None:
    """It bears what can be read of what got there first, and those that left with it are told what they have done."""
    await store.append("s", [MESSAGE, MESSAGE])
    log, heads = store.keys.log(0, b"s"), store.keys.heads(0)
    if harm == "an odd entry":
        await store.links.call("XADD", log, f"3-{LATER}", "e", "harm")
        await store.links.call("HSET", heads, "s", f"3-{LATER}")
    elif harm == "no stream":
        await store.links.call("SET", log, "harm")
    else:
        await store.links.call("HSET", heads, "s", f"{10**30}-1")
    with anyio.fail_after(10):
        conflict, *others = await store.append_many(
            [Append("s", [MESSAGE], 1), *(Append(f"other-{number}", [MESSAGE]) for number in range(5))]
        )
    assert isinstance(conflict, WrongExpectedVersion)
    assert [event.version for event in conflict.events] == ([2] if harm == "an odd entry" else [])
    assert [other.version for other in others if isinstance(other, Appended)] == [1] * 5
    assert [await store.version(f"other-{number}") for number in range(5)] == [1] * 5


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
