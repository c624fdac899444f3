"""A link that is broken before it has begun to connect: who waits for it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from eventstore import EventStore, MessageAdded, StoreUnavailable
from eventstore.redis.link import Link, LinkLost
from eventstore.redis.store import RedisStore

CALLS: dict[str, Callable[[EventStore], Awaitable[Any]]] = {
    "append": lambda store: store.append("s", MessageAdded("user", "x")),
    "read": lambda store: store.read("s"),
    "version": lambda store: store.version("s"),
}


async def ended(link: Link) -> None:
    """Break a link's connection, and return when it is broken."""
    runner = link._runner
    link.drop()
    if runner is not None:
        await asyncio.wait([runner])


@pytest.mark.parametrize("end", [ended, Link.aclose])
async def test_what_was_submitted_in_the_same_turn(
    own_store: RedisStore, end: Callable[[Link], Awaitable[None]]
) -> None:
    """The link's task has not taken its first step yet, and so will never take one."""
    link = own_store.links.shared()
    await ended(link)
    replies = link.submit([("PING",)])
    await end(link)
    with anyio.fail_after(5), pytest.raises(LinkLost) as lost:
        await replies
    assert not lost.value.sent


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_while_its_store_is_closed(own_store: RedisStore, call: str) -> None:
    """A call that has to connect first says that nothing was done."""

    async def begin() -> None:
        await CALLS[call](own_store)

    await own_store.append("s", MessageAdded("user", "x"))  # who was alone with the last one sends the next at once
    await ended(own_store.links.shared())
    calling = asyncio.create_task(begin())
    closing = asyncio.create_task(own_store.aclose())
    with anyio.fail_after(5), pytest.raises(StoreUnavailable):
        await calling
    await closing
