"""The log on Redis Streams."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import anyio

from eventstore.appending import EncodedAppend, encode_append
from eventstore.archive.places import Archive
from eventstore.conflicts import told_in_full
from eventstore.durability import ACCEPTED, Durability
from eventstore.errors import (
    ContextEngineError,
    CorruptLog,
    InvalidInput,
    LogForked,
    NotInitialized,
    SessionArchived,
    SessionForgotten,
    StoreRefused,
    StoreUnavailable,
    WrongExpectedVersion,
)
from eventstore.events import Event, RecordedEvent
from eventstore.feed import Pointer, Position, check_not_trimmed
from eventstore.ids import check_session_id, tombstone_field
from eventstore.outcome import outcome_of
from eventstore.redis.appender import Appender
from eventstore.redis.commands import Script
from eventstore.redis.consumer import feed_id, pointers_of
from eventstore.redis.durable import Levels
from eventstore.redis.entries import recorded
from eventstore.redis.feed import RedisFeed
from eventstore.redis.fitness import check_servers, open_namespace
from eventstore.redis.keys import Keys
from eventstore.redis.link import LinkLost
from eventstore.redis.links import Links
from eventstore.redis.nodes import PerLoop
from eventstore.redis.pending import PerhapsArchived
from eventstore.redis.reading import Log, Pages, fields_of
from eventstore.store import ANY, PAGE, Append, Appended, ExpectedVersion, Reading, check_bounds, seen

HOLDS = Script.load("eventstore.redis", "holds.lua")
LONGEST_BLOCK = 5.0
"""Seconds for which one subscribing read blocks before it asks again."""
FEED_PAGE = 50


class RedisStore:
    """An `eventstore.store.EventStore` on a Redis or Valkey server, or a cluster. `eventstore.open_store` makes one."""

    def __init__(
        self,
        links: Links,
        namespace: str,
        partitions: int,
        max_event_bytes: int,
        on_close: Callable[[], Awaitable[None]] | None,
        archive: Archive | None = None,
        durability: Durability = ACCEPTED,
    ) -> None:
        """Take the parts; `open` makes them."""
        self.links = links
        self.archive = archive
        self.namespace = namespace
        self.partitions = partitions
        self.keys = Keys(namespace, partitions)
        self.feed = RedisFeed(links, self.keys)
        self._max_event_bytes = max_event_bytes
        self._appenders = PerLoop(lambda: Appender(links, self.keys))
        self._levels = Levels(links, self.keys)
        self.durability = durability
        self._on_close = on_close
        self._closed = False

    @classmethod
    async def open(
        cls,
        links: Links,
        namespace: str,
        partitions: int | None,
        max_event_bytes: int,
        on_close: Callable[[], Awaitable[None]] | None = None,
        archive: Archive | None = None,
        durability: Durability = ACCEPTED,
    ) -> Self:
        """Check the server and the namespace, and return the store. ``on_close`` is awaited after the store's close.

        Raises:
            StoreUnavailable: The server does not answer.
            ServerUnfit: Its version or settings would lose events, or cannot reach the durability.
            StoreRefused: The server refuses the credentials.
            PartitionCountMismatch: The namespace was made with another count.
        """
        try:
            await links.discover()
            await check_servers(links)
            count = await open_namespace(links, namespace, partitions)
            store = cls(links, namespace, count, max_event_bytes, on_close, archive, durability)
            await store._appender(durability)  # it refuses a level that cannot be reached
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await links.aclose()
            if isinstance(error, LinkLost) and error.answered:
                advice = "Check the credentials, the certificates and the URL."
                raise StoreRefused(f"Redis answers, and it cannot be used. {error} {advice}") from error
            if isinstance(error, LinkLost):
                advice = "Check that it runs, and the URL and credentials."
                raise StoreUnavailable(f"No Redis answers. {error} {advice}") from error
            raise
        return store

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
        append = encode_append(session_id, events, expected_version, meta, self._max_event_bytes)
        level = self.durability if durability is None else Durability(durability)
        appender = self._appenders.here() if level == ACCEPTED else await self._levels.appender(level)
        try:
            return await (appender.submit_now(append) or await appender.submit(append))
        except (WrongExpectedVersion, PerhapsArchived) as missed:
            return await self._looked_up(append, level, missed)

    async def append_many(
        self, appends: Sequence[Append], *, durability: str | None = None
    ) -> list[Appended | ContextEngineError]:
        """Append to several sessions in one go. See `EventStore.append_many`."""
        self._check_open()
        encoded: list[EncodedAppend] = [
            encode_append(a.session_id, a.events, a.expected_version, a.meta, self._max_event_bytes) for a in appends
        ]
        level = self.durability if durability is None else Durability(durability)
        appender = await self._appender(level)
        futures = [await appender.submit(append) for append in encoded]
        results: list[Appended | ContextEngineError] = []
        for append, future in zip(encoded, futures, strict=True):
            try:
                try:
                    results.append(await future)
                except (WrongExpectedVersion, PerhapsArchived) as missed:
                    results.append(await self._looked_up(append, level, missed))
            except ContextEngineError as error:
                results.append(error)
        return results

    async def outcome(self, session_id: str, event_ids: Sequence[str]) -> Appended | None:
        """Return what became of an append whose outcome was unknown. See `EventStore.outcome`."""
        return await outcome_of(self, session_id, event_ids)

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

    async def forgotten(self, session_id: str) -> bool:
        """Return whether a session was forgotten."""
        self._check_open()
        session_key = check_session_id(session_id)
        tombstones = self.keys.tombstones(self.keys.partition(session_key))
        return bool(await self.links.call("HEXISTS", tombstones, tombstone_field(session_key)))

    async def now(self) -> datetime:
        """Return the server's time."""
        self._check_open()
        seconds, microseconds = await self.links.call("TIME")
        return datetime.fromtimestamp(int(seconds) + int(microseconds) / 1e6, UTC)

    async def aclose(self) -> None:
        """Close the connections."""
        self._closed = True
        await self._levels.aclose()
        await self.links.aclose()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            await on_close()

    async def __aenter__(self) -> Self:
        """Return the store."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the store."""
        await self.aclose()

    async def _looked_up(
        self, append: EncodedAppend, level: Durability, missed: WrongExpectedVersion | PerhapsArchived
    ) -> Appended:
        """Look for an append in the archive, and send it as if anew if it is not there; or tell a conflict in full.

        Raises:
            WrongExpectedVersion: The session is not as expected.
            AppendOutcomeUnknown: The archive cannot be read; or it is there, and nobody knows how durable it is.
        """
        if isinstance(missed, PerhapsArchived):
            try:
                found = await self.outcome(append.session_id, append.event_ids)
            except (SessionArchived, CorruptLog):
                raise missed from None
            if found is not None and level == ACCEPTED:
                return found
            if found is not None:
                raise missed
            try:
                return await (await (await self._appender(level)).submit(append))
            except WrongExpectedVersion as conflict:
                missed = conflict
        raise await told_in_full(self, missed) from None

    async def _appender(self, level: Durability) -> Appender:
        """Return the running loop's appender of a level."""
        return self._appenders.here() if level == ACCEPTED else await self._levels.appender(level)

    def _check_open(self) -> None:
        if self._closed:
            raise NotInitialized("The store is closed. Open another one with open_store().")

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
                for pointer in pointers_of(entry[1]):
                    yield pointer
            if len(entries) < FEED_PAGE:
                return
