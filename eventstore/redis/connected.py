"""What the parts of a store on Redis share: the links, the keys, and whether it is open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

from eventstore.archive.places import Archive
from eventstore.durability import ACCEPTED, Durability
from eventstore.errors import NotInitialized
from eventstore.ids import check_session_id, tombstone_field
from eventstore.redis.appender import Appender
from eventstore.redis.durable import Levels
from eventstore.redis.feed import RedisFeed
from eventstore.redis.keys import Keys
from eventstore.redis.links import Links
from eventstore.redis.nodes import PerLoop


class Connected:
    """A store's connection, open or closed: what it reads and writes stands on it."""

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

    async def forgotten(self, session_id: str) -> bool:
        """Return whether a session was forgotten."""
        self._check_open()
        session_key = check_session_id(session_id)
        tombstones = self.keys.tombstones(self.keys.partition(session_key))
        return bool(await self.links.call("HEXISTS", tombstones, tombstone_field(session_key)))

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

    def _check_open(self) -> None:
        if self._closed:
            raise NotInitialized("The store is closed. Open another one with open_store().")
