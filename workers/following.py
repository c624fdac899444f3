"""What all workers have in common: a consumer group on the feeds, shared with others, taken over from the dead."""

from __future__ import annotations

import abc
import asyncio
import os
import socket
from collections.abc import Sequence

import anyio

from eventstore.errors import NotPermitted, StoreRefused, StoreUnavailable
from eventstore.feed import Consumer, Delivery
from eventstore.logs import get_logger
from eventstore.store import EventStore

log = get_logger("worker")

LONGEST_WAIT = 1.0
"""Seconds for which a worker waits for news before it beats its heart and looks after the dead again."""
CLAIM_AFTER = 30.0
"""Seconds after which a worker that has not acknowledged its entries is taken for dead. A batch takes under one."""
BEAT_EVERY = 1.0
"""Seconds after which a worker says that it is alive, and looks whether it is in the right group still."""
TRIM_EVERY = 10.0
PAUSE = 0.5
FINISH_WITHIN = 2.0
"""Seconds for which a worker that is to stop waits for a server that has failed."""


def default_name() -> str:
    """Return a consumer name that no other process has."""
    return f"{socket.gethostname()}-{os.getpid()}"


class FeedWorker(abc.ABC):
    """Takes what changed from the feeds, works on it, acknowledges it; takes over from workers that died.

    Args:
        store: The log.
        group: The consumer group, whose members share the work.
        name: The consumer's name. One that stays the same over restarts takes up its own unfinished work soonest.
        claim_after: Seconds after which the unfinished work of another worker is taken over.
    """

    def __init__(self, store: EventStore, group: str, *, name: str | None, claim_after: float) -> None:
        """Begin stopped."""
        self.name = name or default_name()
        self._store = store
        self._group = group
        self._claim_after = claim_after
        self._consumer: Consumer | None = None
        self._stopping = anyio.Event()
        self._worked = False

    @abc.abstractmethod
    async def work(self, consumer: Consumer, *, wait: float) -> None:
        """Take what is new, waiting for it so many seconds at most; work on it; acknowledge it."""

    @abc.abstractmethod
    async def work_again(self, consumer: Consumer, claimed: Sequence[Delivery]) -> None:
        """Work on what another worker left; acknowledge it."""

    async def begin(self, consumer: Consumer) -> None:  # noqa: B027 - most have nothing to do
        """Do what comes before the feed."""

    async def end(self, consumer: Consumer) -> None:  # noqa: B027 - most have nothing left to do
        """Finish what is in hand."""

    async def group(self) -> str:
        """Return the group to which this worker is to belong now."""
        return self._group

    async def tidy(self) -> None:  # noqa: B027 - most leave it to others
        """Let go of what nobody needs any more."""

    async def run(self) -> None:
        """Work until `stop` is called, then finish what is in hand and leave.

        While the server is away it keeps trying; views do not suffer, for readers bring them up to date themselves.

        Raises:
            NotPermitted: It may not work at all: its user has another role.
        """
        while not self._stopping.is_set():
            try:
                await self._follow()
            except (StoreUnavailable, StoreRefused) as error:
                if isinstance(error, NotPermitted) and not self._worked:
                    raise
                log.warning("The server does not serve.", action="worker_waiting", worker=self.name, error=str(error))
                with anyio.move_on_after(PAUSE):
                    await self._stopping.wait()
                if self._stopping.is_set():
                    await self._finish()

    async def _finish(self) -> None:
        """Finish what was in hand when the server failed, if it is back: nobody else would look at it for long."""
        try:
            with anyio.fail_after(FINISH_WITHIN):
                await self._follow()
        except (StoreUnavailable, StoreRefused, TimeoutError) as error:
            log.warning("Work is left to others.", action="worker_left_work", worker=self.name, error=str(error))

    async def stop(self) -> None:
        """Ask the worker to finish what it has in hand. `run` returns soon after."""
        self._stopping.set()
        if self._consumer is not None:
            await self._consumer.wake()

    async def stopped(self) -> None:
        """Wait until it is asked to stop."""
        await self._stopping.wait()

    async def _follow(self) -> None:
        group = await self.group()
        consumer = self._consumer = await self._store.feed.join(group, self.name)
        loop = asyncio.get_running_loop()
        claim_at = trim_at = loop.time()
        beat_at = loop.time() + BEAT_EVERY
        try:
            await consumer.beat()
            await self.begin(consumer)
            log.info("Worker started.", action="worker_started", worker=self.name, group=group)
            # Where the connection broke, or it died and has its name again:
            while left := await consumer.unfinished(count=256):
                await self.work_again(consumer, left)
            while not self._stopping.is_set():
                if loop.time() >= beat_at:
                    await consumer.beat()
                    beat_at = loop.time() + BEAT_EVERY
                    if await self.group() != group:
                        break
                if loop.time() >= claim_at:
                    await self.take_over(consumer)
                    claim_at = loop.time() + self._claim_after / 3
                if loop.time() >= trim_at:
                    await self.tidy()
                    trim_at = loop.time() + TRIM_EVERY
                await self.work(consumer, wait=0 if self._stopping.is_set() else LONGEST_WAIT)
                self._worked = True
            await self.end(consumer)
            await consumer.leave()
        finally:
            self._consumer = None
            consumer.abandon()
        log.info("Worker stopped.", action="worker_stopped", worker=self.name, group=group)

    async def take_over(self, consumer: Consumer) -> None:
        """Do the work that a dead worker left."""
        while claimed := await consumer.claim(idle=self._claim_after, count=256):
            log.info("Taking over.", action="worker_took_over", worker=self.name, entries=len(claimed))
            await self.work_again(consumer, claimed)
