"""How the replies to appends are given out: each to its caller, whatever the others are."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from support.waiting import until

from eventstore import Append, Appended, AppendOutcomeUnknown, MessageAdded, WrongExpectedVersion
from eventstore.redis.appender import Appender, Group
from eventstore.redis.commands import Command
from eventstore.redis.link import LinkLost
from eventstore.redis.pending import Pending
from eventstore.redis.store import RedisStore

LATER = 99_999_999_999_999
"""Milliseconds, far ahead of any clock."""
MESSAGE = MessageAdded("user", "a")


async def test_what_is_known_of_a_session_is_known_to_the_next_append(
    own_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on after an append, and appends again at once, is not ahead of what its reply told."""
    known = list[int]()
    command = Appender._command

    def noted(self: Appender, group: Group) -> Command:
        known.extend(pending.at_least for pending in group.members)
        return command(self, group)

    await own_store.append("s", MESSAGE)
    monkeypatch.setattr(Appender, "_command", noted)
    for _ in range(4):
        await own_store.append("s", MESSAGE)
    assert known == [1, 2, 3, 4]


@pytest.mark.parametrize("harm", ["an odd entry", "no stream", "a head beyond all bounds"])
async def test_a_conflict_over_a_damaged_log(own_store: RedisStore, harm: str) -> None:
    """It bears what can be read of what got there first, and those that left with it are told what they have done."""
    await own_store.append("s", [MESSAGE, MESSAGE])
    log, heads = own_store.keys.log(0, b"s"), own_store.keys.heads(0)
    if harm == "an odd entry":
        await own_store.links.call("XADD", log, f"3-{LATER}", "e", "harm")
        await own_store.links.call("HSET", heads, "s", f"3-{LATER}")
    elif harm == "no stream":
        await own_store.links.call("SET", log, "harm")
    else:
        await own_store.links.call("HSET", heads, "s", f"{10**30}-1")
    with anyio.fail_after(10):
        conflict, *others = await own_store.append_many(
            [Append("s", [MESSAGE], 1), *(Append(f"other-{number}", [MESSAGE]) for number in range(5))]
        )
    assert isinstance(conflict, WrongExpectedVersion)
    assert [event.version for event in conflict.events] == ([2] if harm == "an odd entry" else [])
    assert [other.version for other in others if isinstance(other, Appended)] == [1] * 5
    assert [await own_store.version(f"other-{number}") for number in range(5)] == [1] * 5


async def test_a_reply_that_nobody_understands_holds_nobody_up(
    own_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller is told that the outcome is not known, and why; the others have theirs."""
    settle = Pending.settle

    def odd(self: Pending, result: Any, known: dict[bytes, int]) -> None:
        settle(self, ["odd"] if self.append.session_id == "other-2" else result, known)

    monkeypatch.setattr(Pending, "settle", odd)
    with anyio.fail_after(10):
        results = await own_store.append_many([Append(f"other-{number}", [MESSAGE]) for number in range(5)])
    unknown = results.pop(2)
    assert isinstance(unknown, AppendOutcomeUnknown)
    assert isinstance(unknown.__cause__, AttributeError | IndexError)
    assert [other.version for other in results if isinstance(other, Appended)] == [1] * 4
    assert await own_store.outcome(unknown.session_id, unknown.event_ids) is not None


async def test_a_link_that_was_broken_in_the_midst_gives_nothing_more(own_store: RedisStore) -> None:
    """The replies behind belong to a connection that is no more, and so do those who wait for them."""
    link = own_store.links.shared()
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
