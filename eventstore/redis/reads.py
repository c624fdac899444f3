"""What a store on Redis reads: logs, heads, positions; once, or for as long as somebody follows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from functools import partial

import anyio

from eventstore.errors import InvalidInput, LogForked, SessionForgotten
from eventstore.events import RecordedEvent
from eventstore.feed import Pointer, Position, check_not_trimmed
from eventstore.ids import check_session_id
from eventstore.redis.commands import Script
from eventstore.redis.connected import Connected
from eventstore.redis.consumer import feed_id, told_by
from eventstore.redis.entries import recorded
from eventstore.redis.reading import Log, Pages, fields_of
from eventstore.store import PAGE, Reading, check_bounds, seen

HOLDS = Script.load("eventstore.redis", "holds.lua")
LONGEST_BLOCK = 5.0
"""Seconds for which one subscribing read blocks before it asks again."""
FEED_PAGE = 50


class Reads(Connected):
    """The part of a store that reads."""

    def log(self, session_id: str) -> Log:
        """Return a session's log.

        Raises:
            InvalidSessionId: The session id is none.
        """
        return Log(self.links, self.keys, self.archive, session_id)

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
        log = self.log(session_id)
        check_bounds(after, until, limit)
        pages = log.backwards if backwards else log.forwards
        return Reading(lambda: self._whole(log, pages(after + 1, until, limit)))

    def read_all(self, *, after: Position | None = None) -> Reading:
        """Read the events of all sessions. See `EventStore.read_all`."""
        self._check_open()
        if after is not None and len(after) != self.partitions:
            raise InvalidInput(f"This position has {len(after)} partitions, and the store has {self.partitions}.")

        async def pages() -> AsyncGenerator[list[RecordedEvent], None]:
            for partition in range(self.partitions):
                pointers = self._heads(partition) if after is None else self._appended(partition, after[partition])
                async for session_id, version, count in pointers:
                    with contextlib.suppress(SessionForgotten):
                        async for page in self.read(session_id, after=version - count, until=version).pages():
                            yield page

        return Reading(pages)

    async def heads(self) -> AsyncIterator[Pointer]:
        """Give every session once. See `EventStore.heads`."""
        self._check_open()
        for partition in range(self.partitions):
            async for pointer in self._heads(partition):
                yield pointer

    async def position(self) -> Position:
        """Return where the feeds stand now."""
        self._check_open()
        return await self.feed.ends()

    async def subscribe(
        self, session_id: str, *, after: int | RecordedEvent = 0
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Give a session's events and then follow it. See `EventStore.subscribe`."""
        self._check_open()
        session_key = check_session_id(session_id)
        newest, (after, _) = after, seen(session_id, after)
        log = self.keys.log(self.keys.partition(session_key), session_key)
        block = min(LONGEST_BLOCK, self.links.timeout)
        link = self.links.own(log, longest_block=block)
        try:
            await self._check_held(session_id, newest)
            while True:
                # An id of the highest sequence number: everything after it has a greater version.
                last = f"{after}-18446744073709551615"
                command = ("XREAD", "COUNT", PAGE, "BLOCK", int(block * 1000), "STREAMS", log, last)
                reply = await self.links.patiently(partial(link.call, *command))
                await self._check_held(session_id, newest)
                for found in reply[0][1] if reply else []:
                    event = recorded(session_id, found)
                    if event.version > after + 1:  # what comes before is in the archive, or was brought back just now
                        async for archived in self.read(session_id, after=after, until=event.version - 1):
                            yield archived
                    after, newest = event.version, event
                    yield event
                if not reply and await self.forgotten(session_id):
                    raise SessionForgotten(session_id)
        finally:
            with anyio.CancelScope(shield=True):
                await link.aclose()

    async def version(self, session_id: str) -> int:
        """Return the version of a session, 0 if it does not exist."""
        self._check_open()
        session_key = check_session_id(session_id)
        heads = self.keys.heads(self.keys.partition(session_key))
        head = await self.links.call("HGET", heads, session_key)
        return int(head.split(b"-")[0]) if head else 0

    async def now(self) -> datetime:
        """Return the server's time."""
        self._check_open()
        seconds, microseconds = await self.links.call("TIME")
        return datetime.fromtimestamp(int(seconds) + int(microseconds) / 1e6, UTC)

    async def _check_held(self, session_id: str, newest: int | RecordedEvent) -> None:
        """Make sure that a log holds what somebody has seen of it, now that it has been read again.

        Raises:
            LogForked: It does not.
            SessionForgotten: The session was forgotten.
        """
        session_key = check_session_id(session_id)
        version, place = seen(session_id, newest)
        partition = self.keys.partition(session_key)
        keys = [self.keys.heads(partition), self.keys.log(partition, session_key)]
        if version and not await self.links.evaluate(HOLDS, keys, [session_key, place]):
            raise SessionForgotten(session_id) if await self.forgotten(session_id) else LogForked(session_id, version)

    async def _whole(self, log: Log, pages: Pages) -> Pages:
        """Give pages of a log. Behind a full one, or a file, it ends because it does, or because it was forgotten."""
        full = False
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield page
                full = len(page) == PAGE
        if (full or log.filed) and await self.forgotten(log.session_id):
            raise SessionForgotten(log.session_id)

    async def _heads(self, partition: int) -> AsyncIterator[Pointer]:
        """Give every session of a partition, pointing at its whole log."""
        async for session_key, head in fields_of(self.links, self.keys.heads(partition)):
            version = int(head.split(b"-")[0])
            yield Pointer(session_key.decode(), version, version)

    async def _appended(self, partition: int, after: tuple[int, int]) -> AsyncIterator[Pointer]:
        """Give the pointers that a partition's feed holds after a position."""
        if not await self.feed.holds(partition, after):
            raise LogForked(None, None)
        while True:
            trimmed, entries = await self.feed.range(partition, after, FEED_PAGE)
            check_not_trimmed(trimmed, after)
            for entry in entries:
                after = feed_id(entry[0])
                for pointer in told_by(partition, *entry):
                    yield pointer
            if len(entries) < FEED_PAGE:
                return
