"""The log in this process's memory: for tests and first steps. It keeps nothing, and no other process sees it.

It stores the same encoded entries as Redis does, so what is refused or changed there is refused or changed here.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

from eventstore.appending import encode_append
from eventstore.archive.places import Archive
from eventstore.codec import decode
from eventstore.conflicts import told_in_full
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
from eventstore.ids import check_session_id
from eventstore.memory.logs import Logs
from eventstore.outcome import outcome_of
from eventstore.store import (
    ANY,
    PAGE,
    Append,
    Appended,
    ExpectedVersion,
    Reading,
    check_bounds,
    seen,
)


class MemoryStore(Logs):
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
        super().__init__(partitions, archive)
        self.durability = _kept_here(durability)
        self.namespace = namespace
        self._max_event_bytes = max_event_bytes
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


def _kept_here(durability: str | None) -> Durability:
    """Return the one level that memory has.

    Raises:
        InvalidInput: Another was asked for.
    """
    if durability is not None and Durability(durability) != ACCEPTED:
        raise InvalidInput(f"memory:// keeps nothing, so nothing in it can be {durability!r}: use a server.")
    return ACCEPTED
