"""Erasing a session from memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

from eventstore.ids import check_session_id, tombstone_field
from eventstore.memory.store import MemoryStore
from eventstore.proof.tombstones import decode
from eventstore.rawlog import RawEntry
from projections.forgetting.graves import Grave
from projections.memory import views_beside
from projections.sealing.keeping import in_memory


class MemoryEraser:
    """A `projections.forgetting.erasing.Eraser` of a store in memory."""

    def __init__(self, store: MemoryStore) -> None:
        """Erase from a store, from the views that were made of it, and from the digests beside it."""
        self._store = store

    async def hide(self, session_id: str, tombstone: bytes) -> bytes | None:
        """Put a session out of sight in one step."""
        check_session_id(session_id)
        stands = self._store.put_aside(session_id, tombstone)
        if stands is not None:
            for views in views_beside(self._store):
                views.forget(session_id)
            in_memory(self._store).forget(session_id)
        return stands

    async def aside(self, grave: Grave, *, after: int) -> AsyncIterator[list[RawEntry]]:
        """Give the entries of a log that was put aside."""
        entries = self._store.aside.get(grave.field, ())[after:]
        yield [RawEntry(version, ms, entry) for version, (ms, entry) in enumerate(entries, after + 1)]

    async def keep(self, grave: Grave, tombstone: bytes) -> None:
        """Replace a tombstone."""
        self._store.tombstones[grave.field] = tombstone

    async def unpoint(self, grave: Grave) -> None:
        """Take a session out of the feed."""
        self._store.feed.take_out(grave.partition, lambda name: tombstone_field(name.encode()) == grave.field)

    async def bury(self, grave: Grave, tombstone: bytes) -> None:
        """Let go of the log that was put aside, and leave this tombstone."""
        self._store.aside.pop(grave.field, None)
        self._store.tombstones[grave.field] = tombstone

    async def tombstone(self, grave: Grave) -> bytes | None:
        """Return the tombstone of a session."""
        return self._store.tombstones.get(grave.field)

    async def tombstones(self, partition: int) -> dict[Grave, bytes]:
        """Return the tombstones of a partition."""
        every = self._store.tombstones.items()
        return {Grave(partition, field): each for field, each in every if decode(each).partition == partition}

    async def remains(self) -> dict[str, list[str]]:
        """Look at the logs, and at those that were put aside."""
        found = {
            tombstone_field(name.encode()): ["log"] for name in self._store.names() if self._store.is_forgotten(name)
        }
        return found | {field: ["forgetting"] for field in self._store.aside}
