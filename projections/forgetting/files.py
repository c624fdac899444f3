"""The files in which the log of a session lies, or lay until lately: whether the archive has them, and how they go."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from eventstore.archive.naming import prefix_of_digest, told_by
from eventstore.archive.places import ARCHIVE_VARIABLE
from eventstore.errors import FilesOutOfReach
from eventstore.ids import check_session_id
from eventstore.partitions import partition_of
from eventstore.proof.tombstones import Tombstone, name_of
from eventstore.raw import open_raw
from eventstore.store import EventStore


class ArchivedFiles:
    """The files of sessions in the archive of a store, if it was opened with one.

    Args:
        store: The log.
        without_archive: Whether the archive may lack some, or be none.
    """

    def __init__(self, store: EventStore, *, without_archive: bool) -> None:
        """Look for nothing yet."""
        self._store = store
        self._archive = store.archive
        self._without_archive = without_archive
        self._raw = open_raw(store)

    async def of(self, session_id: str) -> list[str]:
        """Return the files of a session, as far as they are known; none if it is forgotten: its tombstone tells them.

        Raises:
            FilesOutOfReach: The archive lacks some, or none was named, and that may not be.
        """
        if await self._store.forgotten(session_id):
            return []
        known = await self._known(session_id)
        self._refuse(session_id, await self._lacking(name_of(session_id), known))
        return known

    async def found(self, tombstone: Tombstone) -> Tombstone:
        """Return a tombstone that tells that this archive has all its files, if it does: so they may go one by one.

        Raises:
            FilesOutOfReach: It lacks some, or none was named, and that may not be.
        """
        if tombstone.done or not tombstone.files:
            return tombstone
        lacking = await self._out_of_reach(tombstone)
        self._refuse(tombstone.session, lacking)
        return msgspec.structs.replace(tombstone, archive=UNSET if lacking else str(self._archive))

    async def clear(self, tombstone: Tombstone) -> Tombstone:
        """Delete all files of a session, and return a tombstone that tells which others there may be.

        Those go too of which its log did not tell: whoever put them there may have died.
        """
        left = await self._out_of_reach(tombstone)
        if self._archive is not None:
            names = await self._archive.names(prefix_of_digest(tombstone.namespace, tombstone.session))
            for name in dict.fromkeys([*names, *(file for file in tombstone.files or () if file and file not in left)]):
                await self._archive.delete(name)
                await self._raw.forget_released(tombstone.partition, name)
        return msgspec.structs.replace(tombstone, files=left or UNSET, archive=UNSET)

    async def _known(self, session_id: str) -> list[str]:
        """Return the files that hold a session's log, as far as is known: the one that it names, and those released.

        A file whose name cannot be read is an empty string.
        """
        noted = await self._raw.archived(session_id)
        found = [] if noted is None else [noted.file]
        prefix = prefix_of_digest(self._store.namespace, name_of(session_id))
        partition = partition_of(check_session_id(session_id), self._store.partitions)
        found += sorted(name for name in await self._raw.released(partition) if name.startswith(prefix))
        return list(dict.fromkeys(name if name.startswith(prefix) and told_by(name) else "" for name in found))

    async def _out_of_reach(self, tombstone: Tombstone) -> list[str]:
        """Return the files of a tombstone that may be somewhere else than in this archive."""
        if self._archive is not None and tombstone.archive == str(self._archive):
            return []  # it had all of them, so what it lacks now is gone
        return await self._lacking(tombstone.session, tombstone.files or ())

    async def _lacking(self, digest: str, files: Sequence[str]) -> list[str]:
        """Return which of a session's files the archive lacks."""
        if not files or self._archive is None:
            return list(files)
        names = await self._archive.names(prefix_of_digest(self._store.namespace, digest))
        return [file for file in files if file not in names and (file or not names)]

    def _refuse(self, session: str, lacking: Sequence[str]) -> None:
        if lacking and not self._without_archive:
            raise FilesOutOfReach(session, lacking, self._archive, ARCHIVE_VARIABLE)
