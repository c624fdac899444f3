"""The projection worker: keeps views up to date, one of any number that share the feeds."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.feed import Consumer, Delivery
from eventstore.store import EventStore
from projections import Projector, ViewStore
from projections.exchange import Taken, sessions_of, take
from projections.projector import at_once, unfinished
from workers.compaction import worker as compaction
from workers.following import CLAIM_AFTER, FeedWorker

LAPSING = (compaction.GROUP, compaction.CONFIGURED)
"""Groups that may be forgotten while nobody works in them: their workers look at all sessions when they come back."""
SUSPICIOUS = 3
"""Entries that are handed out so often have seen two workers die."""
AT_ONCE = 256
"""Entries of the feeds that are taken together."""
MAX_ATTEMPTS = 3
"""How often a session may be at hand when its worker dies before it is parked."""


class ProjectionWorker(FeedWorker):
    """Projects what changed. Carefully, where that may have been what killed another.

    What it has folded, and what is to be folded next, are exchanged in one round trip, as long as there is something.

    Args:
        store: The log.
        views: The views.
        name: The consumer's name, unique among the group.
        claim_after: Seconds after which the unfinished work of another worker is taken over.
    """

    def __init__(
        self, store: EventStore, views: ViewStore, *, name: str | None = None, claim_after: float = CLAIM_AFTER
    ) -> None:
        """Begin stopped."""
        super().__init__(store, views.group, name=name, claim_after=claim_after)
        self.projector = Projector(store, views)
        self._views = views
        self._bound = self.projector
        self._taken = Taken()
        self._projected: list[Delivery] = []
        self._interrupted: set[str] = set()
        self._silent: set[str] = set()

    async def group(self) -> str:
        """Return the group of the views that are live now: when others become live, it moves over to them."""
        await self._views.refresh()
        return self._views.group

    async def tidy(self) -> None:
        """Trim the feeds, which nobody may keep who follows views of old, or in whose group nobody works any more.

        Projection workers alone do so: what is dropped before their group exists would never come into a list.
        """
        feed = self._store.feed
        silent = {group for group in LAPSING if not await feed.heartbeats(group)}
        # Twice: one who is just joining has not said yet that it is alive.
        for group in [*self._views.retired(), *(silent & self._silent)]:
            await feed.disband(group)
        self._silent = silent
        await feed.trim()

    async def begin(self, consumer: Consumer) -> None:  # noqa: ARG002 - whichever it is
        """Let go of what was taken before the connection broke: it is handed out again, or was in another group.

        A group belongs to one generation of views, so what is taken in it is written there.
        """
        self._bound = Projector(self._store, await self._views.pinned())
        self._taken, self._projected = Taken(), []

    async def work(self, consumer: Consumer, *, wait: float) -> None:
        """Project what was taken last, and take what is new; wait for that only if nothing is to be acknowledged."""
        taken, projected, self._taken, self._projected = self._taken, self._projected, Taken(), []
        if not taken.deliveries and not projected:
            self._taken = await take(self._bound.views, consumer, count=AT_ONCE, wait=wait)
            return
        now, later = at_once(taken.snapshots)
        changes, failures = await self._bound.changes(now)
        written, following = await self._bound.views.exchange(consumer, changes, projected, count=AT_ONCE)
        await self._bound.park_all(failures)
        if left := [*unfinished(changes, written), *(snapshot.session_id for snapshot in later), *taken.rest]:
            await self._bound.project_or_park(left)
        self._taken, self._projected = following, taken.deliveries

    async def end(self, consumer: Consumer) -> None:
        """Project what was taken last."""
        taken, projected, self._taken, self._projected = self._taken, self._projected, Taken(), []
        await self.projector.project_or_park(sessions_of(taken.deliveries))
        await consumer.ack([*projected, *taken.deliveries])

    async def work_again(self, consumer: Consumer, claimed: Sequence[Delivery]) -> None:
        """Project what another worker left, first what it may have died of."""
        await self._carefully([delivery for delivery in claimed if delivery.attempts >= SUSPICIOUS])
        await self.projector.finish(consumer, claimed)

    async def _carefully(self, deliveries: Sequence[Delivery]) -> None:
        """Project sessions one by one, counting each before its work begins, so that a crash is counted too."""
        for session_id in sessions_of(deliveries):
            if session_id in self._interrupted:  # the server was at fault, not the session
                await self._views.forget_attempts(session_id)
            self._interrupted.add(session_id)
            attempts = await self._views.count_attempt(session_id)
            if attempts > MAX_ATTEMPTS:
                await self.projector.park(session_id, 0, f"It was at hand when its worker died, {attempts - 1} times.")
            else:
                await self.projector.project_or_park([session_id])
                await self._views.forget_attempts(session_id)
            self._interrupted.remove(session_id)
