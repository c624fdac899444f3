"""The forgetter: erases a session in steps, each of which may be the last and be done again.

1. The log is read, for the digest by which the tombstone can be held against seals and manifests. The archive is asked
   for its files: if it lacks any, nothing is done, unless it may.
2. In one step the session goes out of sight: a tombstone stands in its place, and its log is put aside. From then on it
   takes no appends and reads as one that never was; views, lists and totals know nothing of it.
3. What had been appended in between is added to the digest. The feed and the archive are cleared.
4. In one step the log that was put aside goes, and the tombstone says so.

Whoever is interrupted does it all again, and finds in the tombstone what was known.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from eventstore.errors import CorruptLog, InvalidInput, SessionArchived, SessionShared, UnknownSession
from eventstore.ids import check_name, check_session_id
from eventstore.logs import get_logger
from eventstore.partitions import partition_of
from eventstore.proof.chain import ChainHead, genesis, link
from eventstore.proof.tombstones import Tombstone, decode, encode, name_of
from eventstore.raw import open_raw
from eventstore.rawlog import RawEntry
from eventstore.store import EventStore
from projections.forgetting.erasing import open_eraser
from projections.forgetting.files import ArchivedFiles
from projections.forgetting.graves import Grave, grave_of
from projections.forgetting.relatives import relatives
from projections.session import GLOBAL

if TYPE_CHECKING:
    from eventstore.proof.signing import Signer

log = get_logger("forgetter")


class Forgetter:
    """Forgets sessions.

    Args:
        store: The log.
        signer: The key that signs tombstones; None to leave them unsigned, which proves nothing to anybody.
        without_archive: Whether to go on where the archive lacks files of a session, or none is named. They may hold
            its content still, so its tombstone names them.
    """

    def __init__(self, store: EventStore, signer: Signer | None, *, without_archive: bool = False) -> None:
        """Erase nothing yet."""
        self._store = store
        self._raw = open_raw(store)
        self._eraser = open_eraser(store)
        self._signer = signer
        self._files = ArchivedFiles(store, without_archive=without_archive)

    async def family(self, session_ids: Sequence[str], *, along: bool = False) -> list[str]:
        """Return the sessions that have to be forgotten so that these are: they themselves, and their relatives.

        Args:
            session_ids: The sessions.
            along: Whether relatives that are not named may be forgotten, too.

        Raises:
            InvalidInput: A session id is none, or that of the global context.
            SessionShared: A session has relatives, and they may not.
            FilesOutOfReach: The archive lacks a file of one of them, or of one that may be a relative.
        """
        named = list(dict.fromkeys(session_ids))
        for session_id in named:
            check_session_id(session_id)
            if session_id == GLOBAL:
                raise InvalidInput(f"{GLOBAL!r} is where the global context is kept: delete its values instead.")
        for session_id in named:
            await self._files.of(session_id)
        found = await relatives(self._store, named, self._files)
        for session_id, others in found.items():
            unnamed = [other for other in others if other not in named]
            if unnamed and not along:
                raise SessionShared(session_id, unnamed)
        family = list(dict.fromkeys([*named, *(other for others in found.values() for other in others)]))
        for session_id in family[len(named) :]:
            await self._files.of(session_id)
        return family

    async def forget(self, session_id: str, *, by: str = "", reason: str = "") -> Tombstone:
        """Forget one session, whoever is related to it. What was begun and interrupted is completed.

        Args:
            session_id: The session.
            by: Who wants it. It is kept in the tombstone for good, so it should name no person.
            reason: Why. Likewise.

        Returns:
            The tombstone: the one from before, if the session had been forgotten already.

        Raises:
            UnknownSession: There is no such session, and there was none.
            NotPermitted: The user may not erase. Nothing was done.
            StoreUnavailable: The server or the archive does not answer. Run it again.
            FilesOutOfReach: Files of it are not in the archive, or none is named. Nothing was done.
            CorruptLog: A view cannot be read. Nothing was done.
        """
        begun = Tombstone(
            namespace=self._store.namespace,
            partition=partition_of(check_session_id(session_id), self._store.partitions),
            session=name_of(session_id),
            by=_checked(by, "name of who forgets"),
            reason=_checked(reason, "reason"),
            begun_ms=await self._now(),
            archived=await self._raw.archived(session_id) is not None,
        )
        walk = Walk(genesis(session_id.encode()))
        try:
            await walk.through(self._raw.entries(session_id))
        except (CorruptLog, SessionArchived):  # what is to go need not be whole, and its file may have gone before
            head = await self._raw.head(session_id)
            walk.broken(head.version if head else 0)
        begun = msgspec.structs.replace(begun, files=await self._files.of(session_id) or UNSET)
        stands = await self._eraser.hide(session_id, encode(walk.noted(begun).signed(self._signer)))
        if stands is None:
            raise UnknownSession(session_id)
        return await self._completed(grave_of(session_id, self._store.partitions), decode(stands))

    async def complete(self) -> list[Tombstone]:
        """Complete what was begun and interrupted, of whatever session: a tombstone tells all that it takes."""
        completed = []
        for partition in range(self._store.partitions):
            for grave, stored in (await self._eraser.tombstones(partition)).items():
                if not (tombstone := decode(stored)).done:
                    completed.append(await self._completed(grave, tombstone))
        return completed

    async def _completed(self, grave: Grave, tombstone: Tombstone) -> Tombstone:
        """Do what is left to do for a session that is out of sight."""
        tombstone = await self._files.found(tombstone)
        if not tombstone.done:
            walk = Walk.behind(tombstone)
            await walk.through(self._eraser.aside(grave, after=tombstone.version))
            tombstone = walk.noted(tombstone).signed(self._signer)
            await self._eraser.keep(grave, encode(tombstone))
        await self._eraser.unpoint(grave)
        before, tombstone = tombstone, await self._files.clear(tombstone)
        if not tombstone.done:
            tombstone = msgspec.structs.replace(tombstone, forgotten_ms=await self._now())
        if tombstone != before:
            tombstone = tombstone.signed(self._signer)
        await self._eraser.bury(grave, encode(tombstone))
        log.info("Session forgotten.", action="session_forgotten", session=tombstone.session, version=tombstone.version)
        return tombstone

    async def _now(self) -> int:
        return int((await self._store.now()).timestamp() * 1000)


class Walk:
    """Goes through a log for its digest, as far as it is whole, and to its end in any case."""

    def __init__(self, chain: ChainHead) -> None:
        """Begin behind a chain."""
        self._chain = chain
        self._version = chain.version
        self._whole = True

    @classmethod
    def behind(cls, tombstone: Tombstone) -> Walk:
        """Begin where a tombstone says that the log stood."""
        walk = cls(ChainHead(tombstone.version, tombstone.recorded_ms, bytes.fromhex(tombstone.digest)))
        walk._whole = bool(tombstone.digest)
        return walk

    async def through(self, pages: AsyncIterator[list[RawEntry]]) -> None:
        """Go through what comes next."""
        async for page in pages:
            for version, recorded_ms, entry in page:
                self._whole = self._whole and version == self._chain.version + 1 and entry is not None
                self._version = max(self._version, version)
                if self._whole and entry is not None:
                    self._chain = link(self._chain, recorded_ms, entry)

    def broken(self, version: int) -> None:
        """Say that the rest, up to a version, cannot be read."""
        self._whole, self._version = False, max(self._version, version)

    def noted(self, tombstone: Tombstone) -> Tombstone:
        """Return a tombstone that tells of it."""
        digest = self._chain.digest.hex() if self._whole else ""
        return msgspec.structs.replace(
            tombstone, version=self._version, recorded_ms=self._chain.recorded_ms, digest=digest
        )


def _checked(text: object, name: str) -> str:
    """Return a text that may stand in a tombstone for good.

    Raises:
        InvalidInput: It is none.
    """
    return check_name(text, name).decode() if text != "" else ""
