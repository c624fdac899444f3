"""The compaction worker: looks at the sessions that changed, and compacts those that have reached a threshold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio

from eventstore import ContextEngineError, EventStore, StoreRefused, StoreUnavailable
from eventstore.feed import Consumer, Delivery
from eventstore.logs import get_logger
from workers.compaction.compactor import CompactionBusy, Compactor
from workers.following import CLAIM_AFTER, LONGEST_WAIT, FeedWorker

log = get_logger("compaction")

GROUP = "compaction"
CONFIGURED = "compaction-configured"
"""The group of those who compact only sessions with settings of their own. They must not take anything from the others,
who compact all."""
AT_ONCE = 8
"""Sessions that are compacted at the same time."""
PAUSE = 0.05
"""Seconds between two looks at the feeds: nobody waits for a compaction, and a busy session is looked at once."""


class CompactionWorker(FeedWorker):
    """Compacts what has grown long. Any number share the work; a lease keeps two from doing the same.

    Where the defaults say that nothing is compacted by itself, it works for the sessions with settings of their own.

    Args:
        store: The log.
        compactor: What compacts a session, and how.
        name: The consumer's name, unique among the group.
        claim_after: Seconds after which the unfinished work of another worker is taken over. A slow model's time is
            added.
    """

    def __init__(
        self,
        store: EventStore,
        compactor: Compactor,
        *,
        name: str | None = None,
        claim_after: float = CLAIM_AFTER,
    ) -> None:
        """Begin stopped."""
        patience = claim_after + 2 * compactor.defaults.config.compression_timeout
        group = GROUP if compactor.defaults.config.auto_compress_enabled else CONFIGURED
        super().__init__(store, group, name=name, claim_after=patience)
        self._compactor = compactor
        self._room = anyio.CapacityLimiter(AT_ONCE)

    async def begin(self, consumer: Consumer) -> None:
        """Look at every session, where this consumer's group is new: what the feed would tell may be dropped by now."""
        if not consumer.founded:
            return
        cursor = None
        while True:
            session_ids, cursor = await self._compactor.page(cursor)
            await self._compact(consumer, await self._compactor.may_be_due(session_ids))
            if cursor is None:
                return

    async def work(self, consumer: Consumer, *, wait: float) -> None:
        """Look at what is new."""
        if deliveries := await consumer.take(count=256, wait=wait):
            await self.work_again(consumer, deliveries)
            with anyio.move_on_after(PAUSE):
                await self.stopped()

    async def work_again(self, consumer: Consumer, claimed: Sequence[Delivery]) -> None:
        """Compact what is due of the sessions that changed. What another compactor is at is left for later."""
        changed = {pointer.session_id for delivery in claimed for pointer in delivery.pointers}
        due = await self._compactor.may_be_due(sorted(changed))
        left = await self._compact(consumer, due) if due else set()
        await consumer.ack([d for d in claimed if left.isdisjoint(pointer.session_id for pointer in d.pointers)])

    async def _compact(self, consumer: Consumer, session_ids: Sequence[str]) -> set[str]:
        """Compact sessions side by side, giving signs of life meanwhile. Return those that others are at."""
        pending = {asyncio.create_task(self._compact_one(session_id)) for session_id in session_ids}
        left: set[str] = set()
        try:
            while pending:
                done, pending = await asyncio.wait(pending, timeout=LONGEST_WAIT)
                left.update(*(task.result() for task in done))
                await consumer.beat()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)  # each ends its lease
        return left

    async def _compact_one(self, session_id: str) -> set[str]:
        async with self._room:
            try:
                await self._compactor.compact_if_due(session_id, wait=False)
            except CompactionBusy:
                return {session_id}
            except (StoreUnavailable, StoreRefused):
                raise
            except ContextEngineError as error:
                log.error(  # noqa: TRY400 - the message says all
                    "A session was not compacted.",
                    action="compaction_failed",
                    session_id=session_id,
                    error=f"{type(error).__name__}: {error}",
                )
            except Exception:
                log.exception("A session was not compacted.", action="compaction_failed", session_id=session_id)
        return set()
