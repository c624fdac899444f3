"""The log on Redis, as it lies there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

from eventstore.errors import SessionForgotten
from eventstore.feed import FeedId, Pointer
from eventstore.ids import check_session_id
from eventstore.rawlog import Head, Pointers, RawEntry
from eventstore.redis.commands import Argument, Script
from eventstore.redis.consumer import feed_id, pointers_of
from eventstore.redis.reading import fields_of
from eventstore.redis.store import RedisStore
from eventstore.redis.topology import Node
from eventstore.store import PAGE

RESTORE = Script.load("eventstore.redis", "restore.lua")
FIELD = b"e"
NO_HEAD = Head(0, 0)
SCANNED = 1000
"""Keys that are looked at in one round trip."""


class RedisRaw:
    """An `eventstore.rawlog.RawLog` of a log on Redis."""

    def __init__(self, store: RedisStore) -> None:
        """Use the store's connections and keys."""
        self._links = store.links
        self._keys = store.keys
        self._feed = store.feed

    async def entries(
        self, session_id: str, *, after: int = 0, until: int | None = None
    ) -> AsyncIterator[list[RawEntry]]:
        """Give a session's entries, page by page."""
        log = self._log(check_session_id(session_id))
        start, last = f"({after}-{2**64 - 1}", "+" if until is None else str(until)
        while True:
            found = await self._links.call("XRANGE", log, start, last, "COUNT", PAGE)
            if found:
                yield [_raw(*each) for each in found]
            if len(found) < PAGE:
                return
            start = "(" + found[-1][0].decode()

    async def heads(self, partition: int) -> dict[str, Head]:
        """Return the heads of a partition's sessions."""
        fields = fields_of(self._links, self._keys.heads(partition))
        return {_name(name): _head(head) async for name, head in fields}

    async def head(self, session_id: str) -> Head | None:
        """Return the head of a session."""
        session_key = check_session_id(session_id)
        head = await self._links.call("HGET", self._keys.heads(self._keys.partition(session_key)), session_key)
        return None if head is None else _head(head)

    async def logs(self) -> set[str]:
        """Return the sessions that have a log."""
        names: set[str] = set()
        for node in self._links.topology.nodes:
            async for key in self._keys_on(node):
                name = key.partition(b"}:log:")[2]
                if key == self._log(name):  # elsewhere nobody would look for it
                    names.add(_name(name))
        return names

    async def _keys_on(self, node: Node) -> AsyncIterator[bytes]:
        """Give the keys of logs that a node holds."""
        pattern = self._keys.shared(0, b"").split(b":")[0] + b":*}:log:*"
        cursor = b"0"
        while True:
            scan = partial(self._links.to(node).call, "SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED)
            cursor, found = await self._links.patiently(scan)
            for key in found:
                yield key
            if cursor == b"0":
                return

    async def pointers(self, partition: int, after: FeedId = (0, 0)) -> Pointers:
        """Return what a partition's feed holds after a place."""
        pointers: list[Pointer] = []
        malformed: list[FeedId] = []
        trimmed = False
        while True:
            dropped, found = await self._feed.range(partition, after, SCANNED)
            trimmed = trimmed or dropped > (0, 0)
            for place, fields in found:
                after = feed_id(place)
                try:
                    pointers += pointers_of(fields)
                except ValueError:
                    malformed.append(after)
            if len(found) < SCANNED:
                return Pointers(pointers, after, trimmed, malformed)

    async def restore(self, session_id: str, after: Head | None, entries: Sequence[tuple[int, bytes]]) -> Head | None:
        """Write entries with their own times behind a head."""
        session_key = check_session_id(session_id)
        partition = self._keys.partition(session_key)
        arguments: list[Argument] = [session_key, f"{after.version}-{after.recorded_ms}" if after else "", len(entries)]
        for version, (recorded_ms, entry) in enumerate(entries, after.version + 1 if after else 1):
            arguments += (f"{version}-{recorded_ms}", entry)
        keys = [
            self._keys.heads(partition),
            self._keys.feed(partition),
            self._log(session_key),
            self._keys.tombstones(partition),
        ]
        found = await self._links.evaluate(RESTORE, keys, arguments)
        if found == b"forgotten":
            raise SessionForgotten(session_id)
        return None if found is None else _head(found)

    def _log(self, session_key: bytes) -> bytes:
        return self._keys.log(self._keys.partition(session_key), session_key)


def _raw(place: bytes, fields: Sequence[bytes]) -> RawEntry:
    version, recorded_ms = place.split(b"-")
    return RawEntry(int(version), int(recorded_ms), fields[1] if len(fields) == 2 and fields[0] == FIELD else None)  # noqa: PLR2004 - a name and a value


def _head(text: bytes) -> Head:
    try:
        version, recorded_ms = text.split(b"-")
        return Head(int(version), int(recorded_ms))
    except ValueError:
        return NO_HEAD


def _name(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
