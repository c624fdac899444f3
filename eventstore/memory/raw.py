"""The log in memory, as it lies there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from eventstore.feed import FeedId
from eventstore.ids import check_session_id
from eventstore.memory.store import MemoryStore
from eventstore.partitions import partition_of
from eventstore.rawlog import Archived, Head, Pointers, RawEntry
from eventstore.store import PAGE


class MemoryRaw:
    """An `eventstore.rawlog.RawLog` of a log in memory."""

    def __init__(self, store: MemoryStore) -> None:
        """Look into a store."""
        self._store = store

    async def entries(
        self, session_id: str, *, after: int = 0, until: int | None = None
    ) -> AsyncIterator[list[RawEntry]]:
        """Give a session's entries, page by page."""
        last = len(self._store.stored(session_id))
        last = last if until is None else min(last, until)
        for start in range(after, last, PAGE):
            yield await self._store.entries_of(session_id, range(start + 1, min(start + PAGE, last) + 1))

    async def heads(self, partition: int) -> dict[str, Head]:
        """Return the heads of a partition's sessions."""
        count = self._store.partitions
        names = [name for name in self._store.names() if partition_of(name.encode(), count) == partition]
        return {name: head for name in names if (head := await self.head(name)) is not None}

    async def head(self, session_id: str) -> Head | None:
        """Return the head of a session."""
        log = self._store.stored(session_id)
        return Head(len(log), log[-1][0]) if log else None

    async def logs(self) -> set[str]:
        """Return the sessions that have a log."""
        return set(self._store.names())

    async def pointers(self, partition: int, after: FeedId = (0, 0)) -> Pointers:
        """Return what a partition's feed holds after a place."""
        found, end, trimmed = self._store.feed.held(partition, after[1])
        return Pointers(found, (0, end), trimmed, [])

    async def restore(self, session_id: str, after: Head | None, entries: Sequence[tuple[int, bytes]]) -> Head | None:
        """Write entries with their own times behind a head."""
        check_session_id(session_id)
        if not self._store.put_back(session_id, after.version if after else 0, after and after.recorded_ms, entries):
            return await self.head(session_id) or Head(0, 0)
        return None

    async def archived(self, session_id: str) -> Archived | None:
        """Return what a session's log says of a file in the archive."""
        check_session_id(session_id)
        return self._store.archived.get(session_id)

    async def all_archived(self, partition: int) -> dict[str, Archived]:
        """Return what the logs of a partition say of files in the archive."""
        count = self._store.partitions
        found = self._store.archived.items()
        return {name: archived for name, archived in found if partition_of(name.encode(), count) == partition}

    async def archive(self, session_id: str, archived: Archived, before: Archived | None) -> bool:
        """Keep of a log its last entry alone, and note which file holds all of it."""
        check_session_id(session_id)
        return self._store.let_go(session_id, archived, before)

    async def bring_back(self, session_id: str, archived: Archived) -> bool:
        """Put a log together again, out of the archive and what follows."""
        entries = [entry async for page in self.entries(session_id, until=archived.version) for entry in page]
        return self._store.take_back(session_id, archived, entries)

    async def released(self, partition: int) -> dict[str, int]:
        """Return the files of which logs of a partition told once."""
        return dict(self._store.released[partition])

    async def forget_released(self, partition: int, file: str) -> None:
        """Forget that a file was released."""
        self._store.released[partition].pop(file, None)
