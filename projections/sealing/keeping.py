"""Where chains and seals are kept: beside the log, for anybody to read. What makes them worth anything is the key."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

from eventstore.errors import InvalidInput
from eventstore.memory.store import MemoryStore
from eventstore.redis.store import RedisStore
from eventstore.store import EventStore
from projections.redis.seals import RedisSeals


class SealStore(Protocol):
    """Keeps seals, and for each session the digest after each of its entries."""

    async def seals(self, partition: int, after: int = 0) -> list[tuple[int, bytes]]:
        """Return a partition's seals after a number, with their numbers, oldest first."""
        ...

    async def add(self, partition: int, number: int, seal: bytes) -> bool:
        """Keep a seal. Return whether it was the first one of this number, and is kept now."""
        ...

    async def links(self, session_id: str) -> bytes:
        """Return the digests of a session's chain, one after the other, from that after version 1 on."""
        ...

    async def keep_links(self, session_id: str, after: int, links: Sequence[bytes]) -> None:
        """Keep the digests after the entries that come after a version."""
        ...


class MemorySeals:
    """A `SealStore` in memory."""

    def __init__(self, store: MemoryStore) -> None:
        """Begin empty."""
        self._store = weakref.ref(store)
        self._seals: list[dict[int, bytes]] = [{} for _ in range(store.partitions)]
        self._links: dict[str, bytes] = {}

    async def seals(self, partition: int, after: int = 0) -> list[tuple[int, bytes]]:
        """Return a partition's seals after a number."""
        return sorted((number, seal) for number, seal in self._seals[partition].items() if number > after)

    async def add(self, partition: int, number: int, seal: bytes) -> bool:
        """Keep a seal."""
        return self._seals[partition].setdefault(number, seal) is seal

    async def links(self, session_id: str) -> bytes:
        """Return the digests of a session's chain."""
        return self._links.get(session_id, b"")

    async def keep_links(self, session_id: str, after: int, links: Sequence[bytes]) -> None:
        """Keep digests."""
        new = b"".join(links)
        store = self._store()
        if not new or (store is not None and store.is_forgotten(session_id)):
            return
        size = len(links[0])
        before = self._links.get(session_id, b"").ljust(after * size, b"\0")
        self._links[session_id] = before[: after * size] + new + before[after * size + len(new) :]

    def forget(self, session_id: str) -> None:
        """Drop the digests of a session's chain."""
        self._links.pop(session_id, None)


_in_memory: WeakKeyDictionary[MemoryStore, MemorySeals] = WeakKeyDictionary()


def in_memory(store: MemoryStore) -> MemorySeals:
    """Return the seals beside a log in memory."""
    return _in_memory.setdefault(store, MemorySeals(store))


def open_seals(store: EventStore) -> SealStore:
    """Return the seals that are kept beside a log, on the same server or in the same memory.

    Raises:
        InvalidInput: The store is of a kind for which there are none.
    """
    match store:
        case RedisStore():
            return RedisSeals(store)
        case MemoryStore():
            return in_memory(store)
    raise InvalidInput(f"There are no seals for a {type(store).__name__}.")
