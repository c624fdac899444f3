"""Chains and seals on Redis: a stream of seals per partition, a string of digests per session."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.errors import StoreRefused
from eventstore.ids import check_session_id
from eventstore.redis.commands import Argument, Script
from eventstore.redis.store import RedisStore

UNLESS_FORGOTTEN = Script.load("projections.redis", "unless_forgotten.lua")
SEALS, CHAIN = b"seals@1", b"chain@1"
PAGE = 500


class RedisSeals:
    """A `projections.sealing.keeping.SealStore` beside the log on Redis."""

    def __init__(self, store: RedisStore) -> None:
        """Use the store's connections and keys."""
        self._links = store.links
        self._keys = store.keys

    async def seals(self, partition: int, after: int = 0) -> list[tuple[int, bytes]]:
        """Return a partition's seals after a number."""
        key, seals = self._keys.shared(partition, SEALS), []
        start = f"{after + 1}-0"
        while True:
            found = await self._links.call("XRANGE", key, start, "+", "COUNT", PAGE)
            seals += [(int(place.split(b"-")[0]), fields[1]) for place, fields in found]
            if len(found) < PAGE:
                return seals
            start = "(" + found[-1][0].decode()

    async def add(self, partition: int, number: int, seal: bytes) -> bool:
        """Keep a seal: a stream takes each id once, and none below its last."""
        key = self._keys.shared(partition, SEALS)
        try:
            await self._links.call("XADD", key, f"{number}-0", "e", seal)
        except StoreRefused as refused:
            if "equal or smaller" not in str(refused):
                raise
            # Perhaps this very seal, whose reply was lost.
            found = await self._links.call("XRANGE", key, f"{number}-0", f"{number}-0")
            return bool(found) and bool(found[0][1][1] == seal)
        return True

    async def links(self, session_id: str) -> bytes:
        """Return the digests of a session's chain."""
        return bytes(await self._links.call("GET", self._chain(session_id)) or b"")

    async def keep_links(self, session_id: str, after: int, links: Sequence[bytes]) -> None:
        """Keep digests. Written twice, they come to the same."""
        if links:
            session_key = check_session_id(session_id)
            keys = [self._keys.tombstones(self._keys.partition(session_key)), self._chain(session_id)]
            written: list[Argument] = [session_key, "SETRANGE", after * len(links[0]), b"".join(links)]
            await self._links.evaluate(UNLESS_FORGOTTEN, keys, written)

    def _chain(self, session_id: str) -> bytes:
        return self._keys.of_session(CHAIN, check_session_id(session_id))
