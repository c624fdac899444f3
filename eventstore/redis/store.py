"""The log on Redis Streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self

import anyio

from eventstore.appending import EncodedAppend, encode_append
from eventstore.archive.places import Archive
from eventstore.conflicts import told_in_full
from eventstore.durability import ACCEPTED, Durability
from eventstore.errors import (
    ContextEngineError,
    CorruptLog,
    SessionArchived,
    StoreRefused,
    StoreUnavailable,
    WrongExpectedVersion,
)
from eventstore.events import Event
from eventstore.outcome import outcome_of
from eventstore.redis.appender import Appender
from eventstore.redis.fitness import check_servers, open_namespace
from eventstore.redis.link import LinkLost
from eventstore.redis.links import Links
from eventstore.redis.pending import Pending, PerhapsArchived
from eventstore.redis.reads import Reads
from eventstore.store import ANY, Append, Appended, ExpectedVersion


class RedisStore(Reads):
    """An `eventstore.store.EventStore` on a Redis or Valkey server, or a cluster. `eventstore.open_store` makes one."""

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
        *,
        create: bool = True,
    ) -> Self:
        """Check the server and the namespace, and return the store. ``on_close`` is awaited after the store's close.

        Raises:
            StoreUnavailable: The server does not answer.
            ServerUnfit: Its version or settings would lose events, or cannot reach the durability.
            StoreRefused: The server refuses the credentials.
            PartitionCountMismatch: The namespace was made with another count.
            UnknownNamespace: There is no such namespace, and ``create`` is False.
        """
        try:
            await links.discover()
            await check_servers(links)
            count = await open_namespace(links, namespace, partitions, create=create)
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
        promises: list[Pending] = []
        try:
            for append in encoded:
                promises.append(await appender.submit(append))  # noqa: PERF401 - who is cancelled needs the first ones
            return [await self._result(*each, level) for each in zip(encoded, promises, strict=True)]
        finally:
            for promise in promises:
                promise.cancel()  # who was cancelled asks no more

    async def outcome(self, session_id: str, event_ids: Sequence[str]) -> Appended | None:
        """Return what became of an append whose outcome was unknown. See `EventStore.outcome`."""
        return await outcome_of(self, session_id, event_ids)

    async def _result(
        self, append: EncodedAppend, pending: Pending, level: Durability
    ) -> Appended | ContextEngineError:
        """Return what became of an append, or its error."""
        try:
            try:
                return await pending
            except (WrongExpectedVersion, PerhapsArchived) as missed:
                return await self._looked_up(append, level, missed)
        except ContextEngineError as error:
            return error

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
