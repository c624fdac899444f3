"""The log in this process's memory: for tests and first steps. It keeps nothing, and no other process sees it.

It stores the same encoded entries as Redis does, so what is refused or changed there is refused or changed here.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self, TypeAlias

from eventstore.appending import EncodedAppend, encode_append
from eventstore.archive.files import missing, open_file
from eventstore.archive.places import Archive
from eventstore.codec import decode
from eventstore.conflicts import CONFLICTING_EVENTS, told_in_full
from eventstore.durability import ACCEPTED, Durability
from eventstore.errors import (
    ContextEngineError,
    InvalidInput,
    LogForked,
    NotInitialized,
    SessionForgotten,
    WrongExpectedVersion,
)
from eventstore.events import Event, RecordedEvent
from eventstore.feed import Pointer, Position
from eventstore.ids import check_session_id, tombstone_field
from eventstore.memory.feed import Bell, MemoryFeed
from eventstore.outcome import outcome_of
from eventstore.partitions import partition_of
from eventstore.rawlog import ARCHIVING_MS, Archived, RawEntry
from eventstore.store import (
    ANY,
    EXISTS,
    NO_STREAM,
    PAGE,
    Append,
    Appended,
    Expected,
    ExpectedVersion,
    Reading,
    check_bounds,
    seen,
)

Stored: TypeAlias = tuple[int, bytes | None]
"""When an entry was recorded, in Unix milliseconds, and its bytes; None if these lie in the archive alone."""


class MemoryStore:
    """An `eventstore.store.EventStore` in memory. Make one with ``open_store("memory://")``."""

    def __init__(
        self,
        namespace: str,
        partitions: int,
        max_event_bytes: int,
        archive: Archive | None = None,
        durability: Durability = ACCEPTED,
    ) -> None:
        """Begin empty.

        Raises:
            InvalidInput: The durability is more than memory has.
        """
        self.durability = _kept_here(durability)
        self.archive = archive
        self.archived: dict[str, Archived] = {}
        self.released: dict[str, int] = {}
        self.namespace = namespace
        self.partitions = partitions
        self.feed = MemoryFeed(partitions)
        self._max_event_bytes = max_event_bytes
        self._logs: dict[str, list[Stored]] = {}
        self.tombstones: dict[str, bytes] = {}
        self.aside: dict[str, Sequence[Stored]] = {}
        self._lock = threading.Lock()
        self._bell = Bell()
        self._closed = False

    async def append(
        self,
        session_id: str,
        events: Sequence[Event] | Event,
        *,
        expected_version: ExpectedVersion = ANY,
        meta: Mapping[str, Any] | None = None,
        durability: str | None = None,
    ) -> Appended:
        """Append events to a session, all or none. See `EventStore.append`."""
        self._check_open()
        _kept_here(durability)
        try:
            return self._append(encode_append(session_id, events, expected_version, meta, self._max_event_bytes))
        except WrongExpectedVersion as conflict:
            raise await told_in_full(self, conflict) from None

    async def append_many(
        self, appends: Sequence[Append], *, durability: str | None = None
    ) -> list[Appended | ContextEngineError]:
        """Append to several sessions in one go. See `EventStore.append_many`."""
        self._check_open()
        _kept_here(durability)
        encoded = [
            encode_append(a.session_id, a.events, a.expected_version, a.meta, self._max_event_bytes) for a in appends
        ]
        results: list[Appended | ContextEngineError] = []
        for append in encoded:
            try:
                results.append(self._append(append))
            except WrongExpectedVersion as conflict:
                results.append(await told_in_full(self, conflict))
            except ContextEngineError as error:
                results.append(error)
        return results

    async def outcome(self, session_id: str, event_ids: Sequence[str]) -> Appended | None:
        """Return what became of an append whose outcome was unknown. See `EventStore.outcome`."""
        return await outcome_of(self, session_id, event_ids)

    def read(
        self,
        session_id: str,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Reading:
        """Read a session's events. See `EventStore.read`."""
        self._check_open()
        check_session_id(session_id)
        check_bounds(after, until, limit)

        async def pages() -> AsyncGenerator[list[RecordedEvent], None]:
            high = len(self._logs.get(session_id, ()))
            high = high if until is None else min(high, until)
            versions = range(high, after, -1) if backwards else range(after + 1, high + 1)
            versions = versions if limit is None else versions[:limit]
            for start in range(0, len(versions), PAGE):
                if session_id not in self._logs:
                    raise SessionForgotten(session_id)
                found = await self.entries_of(session_id, versions[start : start + PAGE])
                yield [decode(session_id, *entry) for entry in found]  # type: ignore[arg-type]

        return Reading(pages)

    def read_all(self, *, after: Position | None = None) -> Reading:
        """Read the events of all sessions. See `EventStore.read_all`."""
        self._check_open()
        if after is not None and len(after) != self.partitions:
            raise InvalidInput(f"This position has {len(after)} partitions, and the store has {self.partitions}.")

        async def pages() -> AsyncGenerator[list[RecordedEvent], None]:
            if after is None:
                pointers = [Pointer(session_id, len(log), len(log)) for session_id, log in self._logs.items()]
            else:
                pointers = self.feed.since(after)
            for session_id, version, count in pointers:
                with contextlib.suppress(SessionForgotten):
                    async for page in self.read(session_id, after=version - count, until=version).pages():
                        yield page

        return Reading(pages)

    async def heads(self) -> AsyncIterator[Pointer]:
        """Give every session once. See `EventStore.heads`."""
        self._check_open()
        for session_id, log in list(self._logs.items()):
            yield Pointer(session_id, len(log), len(log))

    async def position(self) -> Position:
        """Return where the feeds stand now."""
        self._check_open()
        return self.feed.ends()

    async def subscribe(
        self, session_id: str, *, after: int | RecordedEvent = 0
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Give a session's events and then follow it. See `EventStore.subscribe`."""
        self._check_open()
        check_session_id(session_id)
        after, place = seen(session_id, after)
        if not self._holds(session_id, after, place):
            raise LogForked(session_id, after)
        with self._bell.listening() as rung:
            while True:
                rung.clear()
                async for event in self.read(session_id, after=after):
                    after = event.version
                    yield event
                if await self.forgotten(session_id):
                    raise SessionForgotten(session_id)
                await rung.wait()

    async def version(self, session_id: str) -> int:
        """Return the version of a session, 0 if it does not exist."""
        self._check_open()
        check_session_id(session_id)
        return len(self._logs.get(session_id, ()))

    async def forgotten(self, session_id: str) -> bool:
        """Return whether a session was forgotten."""
        self._check_open()
        check_session_id(session_id)
        return self.is_forgotten(session_id)

    async def now(self) -> datetime:
        """Return this process's time."""
        self._check_open()
        return datetime.now(UTC)

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
                self.released[before.file] = time.time_ns() // 1_000_000
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
            self.released[archived.file] = time.time_ns() // 1_000_000
            return True

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

    async def aclose(self) -> None:
        """Refuse further use. The events are gone with the last reference to the store."""
        self._closed = True

    async def __aenter__(self) -> Self:
        """Return the store."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the store."""
        await self.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise NotInitialized("The store is closed. Open another one with open_store().")

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

    def _holds(self, session_id: str, version: int, place: str) -> bool:
        """Whether a log holds the event in a place: none is ever taken away here, but it may never have been here."""
        log = self.stored(session_id)
        return version <= len(log) and (place == str(version) or place == f"{version}-{log[version - 1][0]}")

    def _check_not_forgotten(self, session_id: str) -> None:
        if session_id not in self._logs and self.is_forgotten(session_id):
            raise SessionForgotten(session_id)


def _kept_here(durability: str | None) -> Durability:
    """Return the one level that memory has.

    Raises:
        InvalidInput: Another was asked for.
    """
    if durability is not None and Durability(durability) != ACCEPTED:
        raise InvalidInput(f"memory:// keeps nothing, so nothing in it can be {durability!r}: use a server.")
    return ACCEPTED


def _as_expected(expected: ExpectedVersion, version: int) -> bool:
    if expected is ANY:
        return True
    if expected is NO_STREAM:
        return version == 0
    if expected is EXISTS:
        return version > 0
    return expected == version
