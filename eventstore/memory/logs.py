"""The logs that a store in memory holds, with what of them was archived or forgotten. Each change is made at once."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeAlias

from eventstore.appending import EncodedAppend
from eventstore.archive.files import missing, open_file
from eventstore.archive.places import Archive
from eventstore.codec import decode
from eventstore.conflicts import CONFLICTING_EVENTS
from eventstore.errors import SessionForgotten, WrongExpectedVersion
from eventstore.events import RecordedEvent
from eventstore.feed import Pointer
from eventstore.ids import tombstone_field
from eventstore.memory.feed import Bell, MemoryFeed
from eventstore.partitions import partition_of
from eventstore.rawlog import ARCHIVING_MS, Archived, RawEntry
from eventstore.store import ANY, EXISTS, NO_STREAM, Appended, Expected, ExpectedVersion

Stored: TypeAlias = tuple[int, bytes | None]
"""When an entry was recorded, in Unix milliseconds, and its bytes; None if these lie in the archive alone."""


class Logs:
    """The logs of one namespace."""

    def __init__(self, partitions: int, archive: Archive | None) -> None:
        """Begin empty."""
        self.archive = archive
        self.archived: dict[str, Archived] = {}
        self.released: dict[int, dict[str, int]] = defaultdict(dict)
        self.partitions = partitions
        self.feed = MemoryFeed(partitions)
        self._logs: dict[str, list[Stored]] = {}
        self.tombstones: dict[str, bytes] = {}
        self.aside: dict[str, Sequence[Stored]] = {}
        self._lock = threading.Lock()
        self._bell = Bell()

    def events(self, session_id: str, after: int, limit: int) -> list[RecordedEvent]:
        """Return events at once, for views that are read at the same moment: none of those in the archive."""
        rest = enumerate(self._logs.get(session_id, ())[after:], after + 1)
        kept = ((version, ms, entry) for version, (ms, entry) in rest if entry is not None)
        return [decode(session_id, *found) for found in itertools.islice(kept, limit)]

    async def entries_of(self, session_id: str, versions: Sequence[int]) -> list[RawEntry]:
        """Return entries, wherever they lie.

        Raises:
            SessionArchived: Some lie in the archive, and there is none.
            CorruptLog: The archive does not have what it should.
        """
        found: dict[int, RawEntry] = {}
        lacking = None
        while True:
            log = self._logs.get(session_id, [])
            found |= {v: RawEntry(v, *log[v - 1]) for v in versions if v <= len(log) and log[v - 1][1] is not None}
            archived, beyond = self.archived.get(session_id), [v for v in versions if v not in found]
            if archived is None or not beyond:
                return [found[version] for version in versions if version in found]
            if archived == lacking:
                raise missing(session_id, archived, self.archive)
            if (file := await open_file(session_id, archived, self.archive)) is not None:
                async for page in file.pages(min(beyond), min(max(beyond), file.version)):
                    found |= {entry.version: entry for entry in page}
            lacking = archived if file is None else None

    def is_forgotten(self, session_id: str) -> bool:
        """Return whether a session was forgotten, at once."""
        return bool(self.tombstones) and tombstone_field(session_id.encode()) in self.tombstones

    def names(self) -> list[str]:
        """Return all sessions."""
        return list(self._logs)

    def stored(self, session_id: str) -> Sequence[Stored]:
        """Return a session's entries as they are stored."""
        return self._logs.get(session_id, ())

    def _append(self, append: EncodedAppend) -> Appended:
        session_id, expected = append.session_id, append.expected
        with self._lock:
            self._check_not_forgotten(session_id)
            log = self._logs.get(session_id, [])
            version = len(log)
            if not _as_expected(expected, version):
                after = expected if isinstance(expected, int) else 0
                named = expected.value if isinstance(expected, Expected) else expected
                raise WrongExpectedVersion(
                    session_id, named, version, self.events(session_id, after, CONFLICTING_EVENTS)
                )
            now = max(time.time_ns() // 1_000_000, log[-1][0] if log else 0)
            log += [(now, entry) for entry in append.entries]
            self._logs[session_id] = log
            pointer = Pointer(session_id, len(log), len(append.entries))
            self.feed.add(partition_of(append.session_key, self.partitions), pointer)
        self._bell.ring()
        return Appended(session_id, pointer.version, append.event_ids)

    def put_back(
        self, session_id: str, version: int, recorded_ms: int | None, entries: Sequence[tuple[int, bytes]]
    ) -> bool:
        """Add entries with their own times, if the session stands at this version and time. Return whether it did."""
        with self._lock:
            self._check_not_forgotten(session_id)
            log = self._logs.get(session_id, [])
            if len(log) != version or (log and log[-1][0] != recorded_ms):
                return False
            self._logs[session_id] = [*log, *entries]
            pointer = Pointer(session_id, version + len(entries), len(entries))
            self.feed.add(partition_of(session_id.encode(), self.partitions), pointer)
        self._bell.ring()
        return True

    def let_go(self, session_id: str, archived: Archived, before: Archived | None) -> bool:
        """Keep of a log its last entry alone, if nothing has changed meanwhile. Return whether it did."""
        with self._lock:
            log = self._logs.get(session_id, [])
            late = time.time_ns() // 1_000_000 - archived.begun_ms > ARCHIVING_MS
            head = (len(log), log[-1][0]) if log else (0, 0)
            if late or head != (archived.version, archived.recorded_ms) or self.archived.get(session_id) != before:
                return False
            if before is not None:
                self._release(session_id, before)
            self.archived[session_id] = archived
            self._logs[session_id] = [*((ms, None) for ms, _ in log[:-1]), log[-1]]
            return True

    def take_back(self, session_id: str, archived: Archived, entries: Sequence[RawEntry]) -> bool:
        """Fill in the entries of a log that lie in the archive, unless its log says of another file by now."""
        with self._lock:
            if self.archived.get(session_id) != archived:
                return False
            kept = self._logs[session_id][archived.version :]
            self._logs[session_id] = [*((e.recorded_ms, e.entry) for e in entries[: archived.version]), *kept]
            del self.archived[session_id]
            self._release(session_id, archived)
            return True

    def _release(self, session_id: str, archived: Archived) -> None:
        partition = partition_of(session_id.encode(), self.partitions)
        self.released[partition][archived.file] = time.time_ns() // 1_000_000

    def put_aside(self, session_id: str, tombstone: bytes) -> bytes | None:
        """Put a session's log where nobody reads it, and a tombstone in its place, unless it has one.

        Return the tombstone that is there; None if there is no such session.
        """
        field = tombstone_field(session_id.encode())
        with self._lock:
            if session_id not in self._logs and field not in self.tombstones:
                return None
            tombstone = self.tombstones.setdefault(field, tombstone)
            self.archived.pop(session_id, None)
            if session_id in self._logs:
                self.aside[field] = self._logs.pop(session_id)
                self.archived.pop(session_id, None)
        self._bell.ring()
        return tombstone

    def _holds(self, session_id: str, version: int, place: str) -> bool:
        """Whether a log holds the event in a place: none is ever taken away here, but it may never have been here."""
        log = self.stored(session_id)
        return version <= len(log) and (place == str(version) or place == f"{version}-{log[version - 1][0]}")

    def _check_not_forgotten(self, session_id: str) -> None:
        if session_id not in self._logs and self.is_forgotten(session_id):
            raise SessionForgotten(session_id)


def _as_expected(expected: ExpectedVersion, version: int) -> bool:
    if expected is ANY:
        return True
    if expected is NO_STREAM:
        return version == 0
    if expected is EXISTS:
        return version > 0
    return expected == version
