"""A server that does not keep up: callers wait, and memory does not grow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from support.servers import Server
from support.waiting import until

from eventstore import Appended, EventStore, MessageAdded, open_store
from eventstore.redis import appender
from eventstore.redis.store import RedisStore

TEXT = "x" * 1000
ROOM = 10_000
FIT = 5
"""Appends of one such text that fit into the room: each counts 1 KiB more than its event."""
CALLERS = 100


@pytest.fixture(autouse=True)
def _little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender, "MOST_ON_THE_WAY", ROOM)


@contextlib.asynccontextmanager
async def crowded(server: Server) -> AsyncIterator[tuple[EventStore, list[asyncio.Task[Appended]]]]:
    """Give a store on a server that stands still, and callers of whom all wait for room but those who fit."""
    async with open_store(server.url, timeout=20) as store:
        assert isinstance(store, RedisStore)
        await store.append("s", MessageAdded("user", "first"))
        server.freeze()
        appends = [asyncio.create_task(store.append("s", MessageAdded("user", f"{n} {TEXT}"))) for n in range(CALLERS)]
        room = store._appenders.here()._room
        await until(lambda: len(room._waiting) >= CALLERS - FIT)
        assert len(room._waiting) == CALLERS - FIT
        yield store, appends
        assert (room._left, len(room._waiting)) == (ROOM, 0)


@pytest.mark.guarantee("S10")
async def test_callers_wait_while_the_server_stands_still(server: Server) -> None:
    """What does not fit waits with its caller; when the server goes on, all of it is stored, in the callers' order."""
    async with crowded(server) as (_store, appends):
        server.thaw()
        versions = [(await append).version for append in appends]
        assert versions == list(range(2, CALLERS + 2))


@pytest.mark.guarantee("S10")
async def test_who_gives_up_waiting_leaves_no_trace(server: Server) -> None:
    """An append that is cancelled while it waits for room is not stored, and keeps nobody else waiting."""
    async with crowded(server) as (store, appends):
        for append in appends[FIT::2]:
            append.cancel()
        await asyncio.wait(appends[FIT::2])
        assert len(store._appenders.here()._room._waiting) == len(appends[FIT + 1 :: 2])  # type: ignore[attr-defined]
        server.thaw()
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        kept = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
        assert kept == [n for n in range(CALLERS) if n < FIT or (n - FIT) % 2]
        stored = [event.data.content for event in await store.read("s", after=1)]  # type: ignore[union-attr]
        assert stored == [f"{n} {TEXT}" for n in kept]


async def test_what_is_larger_than_the_room_goes_alone(server: Server) -> None:
    """An append that is larger than all the room is stored nevertheless."""
    async with open_store(server.url) as store:
        events = [MessageAdded("user", TEXT)] * 50
        results = await asyncio.gather(*(store.append("s", events) for _ in range(5)))
        assert sorted(result.version for result in results) == [50, 100, 150, 200, 250]
