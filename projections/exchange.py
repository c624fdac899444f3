"""What a worker and the views exchange: what it has folded goes, and what has changed meanwhile comes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from eventstore.feed import Consumer, Delivery
from projections.changes import ViewsChange

if TYPE_CHECKING:
    from projections.views import Snapshot

READ_AT_MOST = 256
"""Session views that are read together with what tells of them: each brings its tail."""


class Taken(msgspec.Struct, frozen=True):
    """Entries of the feeds, and of what they tell.

    Attributes:
        deliveries: The entries.
        snapshots: The views of sessions that changed, and whether each is parked ...
        rest: ... and the sessions of which they have not been read.
    """

    deliveries: list[Delivery] = []
    snapshots: list[Snapshot[bool]] = []
    rest: list[str] = []


class Folded(Protocol):
    """What a worker needs of a `projections.views.ViewStore`."""

    async def read_sessions(self, session_ids: Sequence[str]) -> list[Snapshot[bool]]:
        """Return the session views, and whether each is parked."""
        ...

    async def commit(self, changes: Sequence[ViewsChange]) -> list[bool]:
        """Write changes; return which were written."""
        ...


async def take(views: Folded, consumer: Consumer, *, count: int, wait: float) -> Taken:
    """Take new entries, waiting up to ``wait`` seconds for the first one, then read what changed."""
    deliveries = await consumer.take(count=count, wait=wait)
    changed = sessions_of(deliveries)
    return Taken(deliveries, await views.read_sessions(changed[:READ_AT_MOST]), changed[READ_AT_MOST:])


async def in_turn(
    views: Folded, consumer: Consumer, changes: Sequence[ViewsChange], done: Sequence[Delivery], *, count: int
) -> tuple[list[bool], Taken]:
    """Do what `projections.views.ViewStore.exchange` does, one after the other."""
    written = await views.commit(changes)
    await consumer.ack(done)
    return written, await take(views, consumer, count=count, wait=0)


def sessions_of(deliveries: Iterable[Delivery]) -> list[str]:
    """Return the sessions of which entries tell, each once."""
    return list(dict.fromkeys(pointer.session_id for each in deliveries for pointer in each.pointers))
