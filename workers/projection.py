"""The projection worker: keeps views up to date, one of any number that share the feeds."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence

import anyio

from eventstore.errors import StoreRefused, StoreUnavailable
from eventstore.feed import Consumer, Delivery
from eventstore.logs import get_logger
from eventstore.store import EventStore
from projections import GROUP, Projector, ViewStore

log = get_logger("worker")

LONGEST_WAIT = 1.0
"""Seconds for which a worker waits for news before it beats its heart and looks after the dead again."""
CLAIM_AFTER = 30.0
"""Seconds after which a worker that has not acknowledged its entries is taken for dead. A batch takes under one."""
TRIM_EVERY = 10.0
PAUSE = 0.5
SUSPICIOUS = 3
"""Entries that are handed out so often have seen two workers die."""
MAX_ATTEMPTS = 3
"""How often a session may be at hand when its worker dies before it is parked."""


def default_name() -> str:
    """Return a consumer name that no other process has."""
    return f"{socket.gethostname()}-{os.getpid()}"


class ProjectionWorker:
    """Takes what changed from the feeds, projects it, acknowledges it; takes over from workers that died.

    Args:
        store: The log.
        views: The views.
        name: The consumer's name. One that stays the same over restarts takes up its own unfinished work soonest.
        claim_after: Seconds after which the unfinished work of another worker is taken over.
    """

    def __init__(
        self, store: EventStore, views: ViewStore, *, name: str | None = None, claim_after: float = CLAIM_AFTER
    ) -> None:
        """Begin stopped."""
        self.name = name or default_name()
        self.projector = Projector(store, views)
        self._store = store
        self._views = views
        self._claim_after = claim_after
        self._consumer: Consumer | None = None
        self._interrupted: set[str] = set()
        self._stopping = anyio.Event()

    async def run(self) -> None:
        """Work until `stop` is called, then finish what is in hand and leave.

        While the server is away it keeps trying; views do not suffer, for readers bring them up to date themselves.
        """
        while not self._stopping.is_set():
            try:
                await self._work()
            except (StoreUnavailable, StoreRefused) as error:
                log.warning("The server does not serve.", action="worker_waiting", worker=self.name, error=str(error))
                with anyio.move_on_after(PAUSE):
                    await self._stopping.wait()

    async def stop(self) -> None:
        """Ask the worker to finish what it has in hand. `run` returns soon after."""
        self._stopping.set()
        if self._consumer is not None:
            await self._consumer.wake()

    async def _work(self) -> None:
        consumer = self._consumer = await self._store.feed.join(GROUP, self.name)
        log.info("Worker started.", action="worker_started", worker=self.name, group=GROUP)
        loop = asyncio.get_running_loop()
        claim_at = trim_at = loop.time()
        try:
            while not self._stopping.is_set():
                await consumer.beat()
                if loop.time() >= claim_at:
                    await self.take_over(consumer)
                    claim_at = loop.time() + self._claim_after / 3
                if loop.time() >= trim_at:
                    await self._store.feed.trim()
                    trim_at = loop.time() + TRIM_EVERY
                await self.projector.step(consumer, wait=0 if self._stopping.is_set() else LONGEST_WAIT)
            await consumer.leave()
        finally:
            self._consumer = None
            consumer.abandon()
        log.info("Worker stopped.", action="worker_stopped", worker=self.name, group=GROUP)

    async def take_over(self, consumer: Consumer) -> None:
        """Do the work that a dead worker left, carefully where it may have been what killed it."""
        while claimed := await consumer.claim(idle=self._claim_after, count=256):
            log.info("Taking over.", action="worker_took_over", worker=self.name, entries=len(claimed))
            suspect = [delivery for delivery in claimed if delivery.attempts >= SUSPICIOUS]
            await self._carefully(suspect)
            await self.projector.finish(consumer, claimed)

    async def _carefully(self, deliveries: Sequence[Delivery]) -> None:
        """Project sessions one by one, counting each before its work begins, so that a crash is counted too."""
        for session_id in {pointer.session_id for d in deliveries for pointer in d.pointers}:
            if session_id in self._interrupted:
                await self._views.forget_attempts(session_id)
                self._interrupted.remove(session_id)
            attempts = await self._views.count_attempt(session_id)
            if attempts > MAX_ATTEMPTS:
                await self.projector.park(session_id, 0, f"It was at hand when its worker died, {attempts - 1} times.")
                continue
            try:
                await self.projector.project_or_park([session_id])
            except (StoreUnavailable, StoreRefused):
                self._interrupted.add(session_id)  # the server is at fault, not the session
                raise
            await self._views.forget_attempts(session_id)
