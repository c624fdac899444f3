"""How far views have come in the feeds, and bringing them there."""

from __future__ import annotations

import asyncio

from eventstore.feed import Position
from eventstore.store import EventStore
from projections.projector import Projector
from projections.views import ViewStore

PATIENCE = 0.1
"""Seconds for which a list waits for the workers before it does their work itself."""
POLL = 0.002
ALIVE = 3.0
"""Seconds since its last sign of life for which a worker is worth waiting for."""


class Following:
    """Views of one generation, and the feeds that their group follows.

    Args:
        store: The log.
        views: The views, pinned: what their group has acknowledged is in them.
    """

    def __init__(self, store: EventStore, views: ViewStore) -> None:
        """Take what is followed, and by what."""
        self._store = store
        self._group = views.group
        self._projector = Projector(store, views)

    async def catch_up(self) -> None:
        """Make sure that what has been appended by now is projected: wait for the workers a little, then help them."""
        goal = await self._goal()
        if not await self.reached_soon(goal):
            await self.help(goal)

    async def reached_soon(self, goal: Position | None = None) -> bool:
        """Whether the workers have come to a place in the feeds (by default to where they end now), or do so soon."""
        goal = goal or await self._goal()
        if await self._reached(goal):
            return True
        if any(age < ALIVE for age in (await self._store.feed.heartbeats(self._group)).values()):
            deadline = asyncio.get_running_loop().time() + PATIENCE
            while asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(POLL)
                if await self._reached(goal):
                    return True
        return False

    async def help(self, goal: Position | None = None) -> None:
        """Work as one more consumer of the workers' group, taking over what others have not finished."""
        goal = goal or await self._goal()
        consumer = await self._store.feed.join(self._group, "reader")
        try:
            while not await self._reached(goal):
                if not await self._projector.step(consumer, wait=0):
                    await self._projector.finish(consumer, await consumer.claim(idle=0, count=1000))
            await consumer.leave()
        finally:
            consumer.abandon()

    async def _goal(self) -> Position:
        return tuple(partition.end for partition in await self._store.feed.progress(self._group))

    async def _reached(self, goal: Position) -> bool:
        progress = await self._store.feed.progress(self._group)
        # A server that took over may have a shorter feed than the one that was asked for its end.
        return all(partition.done >= min(end, partition.end) for partition, end in zip(progress, goal, strict=True))
