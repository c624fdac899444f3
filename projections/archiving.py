"""Archiving: the logs of sessions that have ended, out of Redis into files, and back.

1. The log is written to a file: the export of that session, packed. The file is read back and must come to the log.
2. In one step, if nobody has appended meanwhile, the log keeps its last entry alone and says which file holds the rest.
3. The views of the session are let go, but for the session view: so lists, totals and sessions are read as before.

Whoever dies on the way leaves a file of which no log tells, or views that could go; a later run sees to both. Reads go
on all the time: from the log, then from the file. Nothing is written back by a read, so whoever walks over all sessions
does not fill Redis again; `Archivist.restore` brings a session back for good.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import timedelta

import msgspec

from eventstore.archive.files import open_file
from eventstore.archive.naming import new_file_name, told_by
from eventstore.archive.places import ARCHIVE_VARIABLE
from eventstore.errors import CorruptLog, InvalidInput, StoreRefused, UnknownSession
from eventstore.logs import get_logger
from eventstore.proof.chain import ChainHead, genesis, link
from eventstore.raw import open_raw
from eventstore.rawlog import ARCHIVING_MS, Archived, Head
from eventstore.store import EventStore
from projections.past import past
from projections.projector import Projector
from projections.transfer import records
from projections.transfer.exporting import Exporter
from projections.transfer.packing import Packer
from projections.views import ViewStore

log = get_logger("archive")

SESSIONS_AT_ONCE = 250
LEFT_FOR = timedelta(milliseconds=2 * ARCHIVING_MS)
"""How long a file stays of which no log tells."""
TRIES = 10
"""How often it is tried to take the views of a session back while it goes on."""


class Outcome(enum.Enum):
    """What has become of a session."""

    ARCHIVED = "archived"
    PRESENT = "archived already"
    NOT_DUE = "not due"
    GONE_ON = "has gone on"
    REFUSED = "refused"
    RESTORED = "restored"
    NOT_ARCHIVED = "not archived"


class Filed(msgspec.Struct, frozen=True):
    """What has become of one session.

    Attributes:
        session_id: The session.
        outcome: What.
        version: Up to which version its log lay, or lies, in the archive; 0 if none of it does.
        entry_bytes: The bytes of the entries that were archived.
        file_bytes: The bytes of the file.
        reason: Why it was refused, or is not due.
    """

    session_id: str
    outcome: Outcome
    version: int = 0
    entry_bytes: int = 0
    file_bytes: int = 0
    reason: str = ""


class Swept(msgspec.Struct, frozen=True):
    """What stands in an archive beside what logs tell of.

    Attributes:
        deleted: Files of which no log told any more, and which are gone now.
        left: Files of which no log tells, but one has lately, or may do so: they are deleted two hours later.
        missing: Sessions whose logs tell of files that are not there, with these files.
    """

    deleted: list[str]
    left: list[str]
    missing: list[tuple[str, str]]


class Archivist:
    """Moves logs into the archive of a store, and back. Any number may be at work at once.

    Args:
        store: The log, opened with an archive.
        views: The views that live.
        sealed: Whether to archive only what has been sealed up to its end.

    Raises:
        InvalidInput: The store was opened without an archive.
    """

    def __init__(self, store: EventStore, views: ViewStore, *, sealed: bool = False) -> None:
        """Do nothing yet."""
        self._sealed = sealed
        if store.archive is None:
            raise InvalidInput(f"No archive is named: give archive='file:///directory', or set {ARCHIVE_VARIABLE}.")
        self._store = store
        self._archive = store.archive
        self._views = views
        self._raw = open_raw(store)
        self._projector = Projector(store, views)

    async def due(self, idle: timedelta) -> AsyncIterator[str]:
        """Give the sessions that have ended and to which nothing was appended for so long, and that are not archived.

        Those that are parked are left out: what they hold cannot be folded, so nobody could read it from the archive.
        """
        until_ms = (await self._store.now() - idle).timestamp() * 1000
        for partition in range(self._store.partitions):
            archived = await self._raw.all_archived(partition)
            heads = await self._raw.heads(partition)
            idlers = sorted(name for name, head in heads.items() if head.recorded_ms <= until_ms)
            for start in range(0, len(idlers), SESSIONS_AT_ONCE):
                batch = idlers[start : start + SESSIONS_AT_ONCE]
                await self._projector.project_or_park(batch)
                for snapshot in await self._views.read_sessions(batch):
                    session_id = snapshot.session_id
                    filed = session_id in archived and archived[session_id].version == heads[session_id].version
                    if snapshot.state.ended and not snapshot.value and not (filed and snapshot.let_go):
                        yield session_id

    async def archive(self, session_id: str, idle: timedelta = timedelta(0)) -> Filed:
        """Archive a session, if it has ended and nothing was appended to it for so long.

        Raises:
            UnknownSession: There is no such session.
            StoreUnavailable: The server or the archive cannot be reached. Run it again.
            NotPermitted: It takes the role ``custodian``. Nothing was done.
            CorruptLog: The log is damaged. It stays as it is.
        """
        head, before = await self._raw.head(session_id), await self._raw.archived(session_id)
        if head is None:
            raise UnknownSession(session_id)
        if reason := await self._not_due(session_id, head, idle):
            return Filed(session_id, Outcome.NOT_DUE, reason=reason)
        if before is not None and before.version == head.version:
            await self._views.let_go(session_id, before.version)
            return Filed(session_id, Outcome.PRESENT, before.version, file_bytes=before.size)
        begun_ms = int((await self._store.now()).timestamp() * 1000)
        content, end, entry_bytes, reason = await self._written(session_id)
        if reason:
            return Filed(session_id, Outcome.REFUSED, reason=reason)
        name = new_file_name(self._store.namespace, session_id, end.version, begun_ms)
        digest = hashlib.sha256(content).hexdigest()
        archived = Archived(end.version, end.recorded_ms, name, digest, len(content), begun_ms)
        await self._archive.put(name, content)
        await self._read_back(session_id, archived, end)
        try:
            done = await self._raw.archive(session_id, archived, before)
        except StoreRefused:
            await self._archive.delete(name)
            raise
        if not done:
            await self._archive.delete(name)
            return Filed(session_id, Outcome.GONE_ON)
        await self._views.let_go(session_id, archived.version)
        log.info("Session archived.", action="session_archived", session_id=session_id, version=end.version, file=name)
        return Filed(session_id, Outcome.ARCHIVED, end.version, entry_bytes, len(content))

    async def restore(self, session_id: str) -> Filed:
        """Bring a session's log and views back, so that they need the archive no more.

        Raises:
            UnknownSession: There is no such session.
            StoreUnavailable: The server or the archive cannot be reached. Run it again.
            CorruptLog: The archive does not have what it should. Everything stays as it is.
        """
        if await self._raw.head(session_id) is None:
            raise UnknownSession(session_id)
        restored, outcome = None, Outcome.NOT_ARCHIVED
        while (archived := await self._raw.archived(session_id)) is not None:
            if await self._raw.bring_back(session_id, archived):
                restored, outcome = archived, Outcome.RESTORED
        took_back = await self._take_back(session_id)
        if restored is None:
            return Filed(session_id, Outcome.RESTORED if took_back else Outcome.NOT_ARCHIVED)
        if await self._raw.head(session_id) is None:  # it was forgotten meanwhile
            raise UnknownSession(session_id)
        log.info("Session restored.", action="session_restored", session_id=session_id, version=restored.version)
        return Filed(session_id, outcome, restored.version, file_bytes=restored.size)

    async def archived(self) -> AsyncGenerator[tuple[str, Archived], None]:
        """Give every session whose log tells of a file, and what it tells."""
        for partition in range(self._store.partitions):
            for session_id, archived in sorted((await self._raw.all_archived(partition)).items()):
                yield session_id, archived

    async def sweep(self, released_for: timedelta = LEFT_FOR) -> Swept:
        """Delete the files of this namespace of which no log has told for long, and none can come to tell any more.

        Not those that were released just now: a server that fails may come back with a log that tells of them.

        Args:
            released_for: How long ago a log must have told of a file.
        """
        namespace = self._store.namespace
        names = await self._archive.names(f"log-{namespace}-")
        told = {archived.file: session_id async for session_id, archived in self.archived()}  # after the names
        released = {  # after what is told: from there they come
            file: (partition, since_ms)
            for partition in range(self._store.partitions)
            for file, since_ms in (await self._raw.released(partition)).items()
        }
        now_ms = (await self._store.now()).timestamp() * 1000
        deleted, left = list[str](), list[str]()
        for name in sorted({*names, *released} - told.keys()):
            found = told_by(name)
            if found is None or found.namespace != namespace:
                continue
            partition, since_ms = released.get(name, (None, found.begun_ms))
            if since_ms > now_ms - _milliseconds(LEFT_FOR if partition is None else released_for):
                left.append(name)
                continue
            await self._archive.delete(name)
            if partition is not None:
                await self._raw.forget_released(partition, name)
            deleted.append(name)
        there = set(names)
        gone = [(session_id, name) for name, session_id in told.items() if name not in there]
        left = [name for name in left if name in there]
        return Swept(deleted, left, [each for each in gone if await self._still_missing(*each)])

    async def _still_missing(self, session_id: str, name: str) -> bool:
        """Whether a log tells of a file that is not there, and not only because it was put there just now."""
        archived = await self._raw.archived(session_id)
        return archived is not None and archived.file == name and await self._archive.get(name) is None

    async def _not_due(self, session_id: str, head: Head, idle: timedelta) -> str:
        """Return why a session is not to be archived, nothing if it is. Its views are up to date then."""
        await self._views.refresh()
        now = await self._store.now()
        if head.recorded_ms > (now - idle).timestamp() * 1000:
            return "something was appended to it too recently"
        await self._projector.project_or_park([session_id])
        (snapshot,) = await self._views.read_sessions([session_id])
        if snapshot.value:
            return "it is parked: its events cannot be folded"
        return "" if snapshot.state.ended else "it has not ended"

    async def _written(self, session_id: str) -> tuple[bytes, ChainHead, int, str]:
        """Return a log as a file, where its chain ends, the bytes of its entries; and why it had better stay."""
        exporter = Exporter(self._store)
        chain, entry_bytes, reason = genesis(session_id.encode()), 0, ""
        packer, at = Packer(), dict[int, str]()
        async for text in exporter.lines([session_id]):
            await packer.add(text)
            line = records.decode(text)
            if isinstance(line, records.Event):
                chain = link(chain, line.recorded_ms, line.content)
                at[chain.version] = chain.digest.hex()
                entry_bytes += len(line.content)
            elif isinstance(line, records.Session):
                reason = self._doubt(line, at)
        return await packer.finish(), chain, entry_bytes, reason

    def _doubt(self, session: records.Session, at: Mapping[int, str]) -> str:
        """Return what speaks against archiving a log, given the digests of its chain: what its newest seal says."""
        proof = session.proof
        if proof is not None and at.get(proof.version) != proof.head:
            return "its log is not what was sealed: run verify.py"
        if self._sealed and (proof is None or proof.version < session.version):
            return "it is not sealed up to its end: run seal.py"
        return ""

    async def _read_back(self, session_id: str, archived: Archived, end: ChainHead) -> None:
        """Read a file that was just put into the archive, and see that it comes to the log.

        Raises:
            CorruptLog: It does not.
        """
        file = await open_file(session_id, archived, self._archive)
        chain = genesis(session_id.encode())
        if file is not None:
            async for page in file.pages(1, end.version):
                for entry in page:
                    chain = link(chain, entry.recorded_ms, entry.entry or b"")
        if chain != end:
            raise CorruptLog(session_id, chain.version + 1, f"the archive {self._archive} did not keep it")

    async def _take_back(self, session_id: str) -> bool:
        """Bring the views of a session back. Return whether they had been let go."""
        for _ in range(TRIES):
            await self._projector.project_or_park([session_id])
            (snapshot,) = await self._views.read_sessions([session_id])
            if not snapshot.let_go:
                return False
            whole = await past(self._store, session_id, at_version=snapshot.version)
            if await self._views.take_back(whole.as_change()):
                return True
        log.warning(
            "The views are still folded from the log: it goes on.", action="views_let_go", session_id=session_id
        )
        return False


def _milliseconds(time: timedelta) -> float:
    return time / timedelta(milliseconds=1)
