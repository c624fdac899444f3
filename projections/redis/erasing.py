"""Erasing a session from Redis. All of its keys live in one slot, so it goes out of sight in one script call."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator

from eventstore.errors import CorruptLog
from eventstore.ids import check_session_id, tombstone_field
from eventstore.rawlog import RawEntry
from eventstore.redis.commands import Argument, Script
from eventstore.redis.consumer import feed_id
from eventstore.redis.keys import namespace_key
from eventstore.redis.reading import fields_of, keys_like, raw_entry
from eventstore.redis.store import RedisStore
from eventstore.store import PAGE
from projections.forgetting.graves import Grave, grave_of
from projections.redis.names import Names
from projections.redis.seals import CHAIN
from projections.redis.views import COMPACTING
from projections.redis.writes import COUNTS
from projections.views import GENERATION

FORGET = Script.load("projections.redis", "forget.lua")
UNPOINT = Script.load("projections.redis", "unpoint.lua")
BURY = Script.load("projections.redis", "bury.lua")
SCANNED = 1000
"""Keys or entries that are looked at in one round trip."""
AT_ONCE = 50
"""Entries of a feed that are told anew in one script call."""
ASIDE = b"forgetting"

_GENERATION = re.compile(rb"(?:views|building|begun)@(\d+)\Z")
_OF_SESSION = re.compile(
    rb"\{[^}]*\}:(?P<what>log|compacting|forgetting|whole:[0-9a-f]+|[a-z-]+@[0-9.]+):(?P<name>.*)\Z", re.DOTALL
)


class RedisEraser:
    """A `projections.forgetting.erasing.Eraser` of a store on Redis."""

    def __init__(self, store: RedisStore) -> None:
        """Use the store's connections and keys."""
        self._links = store.links
        self._keys = store.keys
        self._feed = store.feed
        self._namespace = namespace_key(store.namespace)

    async def hide(self, session_id: str, tombstone: bytes) -> bytes | None:
        """Put a session out of sight in one step; once more if views were begun meanwhile that may know of it."""
        stands, hidden, marks = None, set[str](), await self._generations()
        while not marks.keys() <= hidden:
            stands = await self._hide(session_id, tombstone, list(marks.values()))
            if stands is None:
                return None
            hidden, marks = set(marks), await self._generations()
        return stands

    async def aside(self, grave: Grave, *, after: int) -> AsyncIterator[list[RawEntry]]:
        """Give the entries of a log that was put aside."""
        aside = self._aside(grave)
        start = f"({after}-{2**64 - 1}"
        while True:
            found = await self._links.call("XRANGE", aside, start, "+", "COUNT", PAGE)
            if found:
                yield [raw_entry(*each) for each in found]
            if len(found) < PAGE:
                return
            start = "(" + found[-1][0].decode()

    async def keep(self, grave: Grave, tombstone: bytes) -> None:
        """Replace a tombstone."""
        await self._write(grave, tombstone, let_go=0)

    async def unpoint(self, grave: Grave) -> None:
        """Take a session out of the feed, page by page. It takes no appends, so no new pointer comes."""
        feed, after = self._keys.feed(grave.partition), (0, 0)
        while True:
            _, entries = await self._feed.range(grave.partition, after, SCANNED)
            places: dict[bytes, list[Argument]] = defaultdict(list)
            for place, fields in entries:
                for session_key in dict.fromkeys(fields[::2]):
                    if tombstone_field(session_key) == grave.field:
                        places[session_key].append(place)
            for session_key, found in places.items():
                for start in range(0, len(found), AT_ONCE):
                    await self._links.evaluate(UNPOINT, [feed], [session_key, *found[start : start + AT_ONCE]])
            if len(entries) < SCANNED:
                return
            after = feed_id(entries[-1][0])

    async def bury(self, grave: Grave, tombstone: bytes) -> None:
        """Let go of the log that was put aside, and leave this tombstone."""
        await self._write(grave, tombstone, let_go=1)

    async def _write(self, grave: Grave, tombstone: bytes, *, let_go: int) -> None:
        keys = [self._keys.tombstones(grave.partition), self._aside(grave)]
        await self._links.evaluate(BURY, keys, [grave.field, tombstone, let_go])

    async def tombstone(self, grave: Grave) -> bytes | None:
        """Return the tombstone of a session."""
        found: bytes | None = await self._links.call("HGET", self._keys.tombstones(grave.partition), grave.field)
        return found

    async def tombstones(self, partition: int) -> dict[Grave, bytes]:
        """Return the tombstones of a partition."""
        fields = fields_of(self._links, self._keys.tombstones(partition))
        return {Grave(partition, field.decode()): tombstone async for field, tombstone in fields}

    async def remains(self) -> dict[str, list[str]]:
        """Look at all keys of the namespace, and at the heads."""
        keys, found = self._keys, defaultdict[str, list[str]](list)
        fields = {grave.field for partition in range(keys.partitions) for grave in await self.tombstones(partition)}
        if not fields:
            return found
        async for key in keys_like(self._links, keys.every(b"*")):
            if (field := self._field_of(key)) in fields:
                found[field].append(key.decode(errors="backslashreplace"))
        for partition in range(keys.partitions):
            async for session_key, _ in fields_of(self._links, keys.heads(partition)):
                if (field := tombstone_field(session_key)) in fields:
                    found[field].append(keys.heads(partition).decode())
        return {field: sorted(set(names)) for field, names in found.items()}

    def _field_of(self, key: bytes) -> str | None:
        """Return the field of the session to which a key belongs; None if it belongs to none."""
        whose = _OF_SESSION.match(key)
        if whose is None or whose["what"].startswith(b"sessions@"):
            return None
        if whose["what"] == ASIDE:
            return whose["name"].decode(errors="backslashreplace")
        return tombstone_field(whose["name"].partition(b"\0")[0])

    def _aside(self, grave: Grave) -> bytes:
        """Return where the log of a session is put aside."""
        return self._keys.shared(grave.partition, ASIDE + b":" + grave.field.encode())

    async def _generations(self) -> dict[str, Names]:
        """Return every generation of views that was begun, by whatever folds, and of each the next; by mark."""
        said = await self._links.call("HGETALL", self._namespace)
        newest = {GENERATION: 1}
        for field, value in zip(said[::2], said[1::2], strict=True):
            if of_folds := _GENERATION.match(field):
                folds = int(of_folds[1])
                newest[folds] = max(newest.get(folds, 1), int(value))
        every = [Names(folds, build) for folds, last in newest.items() for build in range(1, last + 2)]
        return {names.mark: names for names in every}

    async def _hide(self, session_id: str, tombstone: bytes, generations: list[Names]) -> bytes | None:
        session_key = check_session_id(session_id)
        keys, partition = self._keys, self._keys.partition(session_key)
        named = [
            keys.tombstones(partition),
            keys.heads(partition),
            keys.log(partition, session_key),
            self._aside(grave_of(session_id, keys.partitions)),
            keys.of_session(COMPACTING, session_key),
            keys.of_session(CHAIN, session_key),
            keys.archived(partition),
        ]
        for names in generations:
            of_session = (names.session, names.history, names.compaction, names.context)
            stored = (names.checkpoints, names.order, names.writes)
            shared = (names.sessions, names.totals, names.parked, names.attempts)
            named += [keys.of_session(what, session_key) for what in (*of_session, *stored)]
            named += [keys.shared(partition, what) for what in shared]
        counts = [word for count in ({"events": "version"} | COUNTS).items() for word in count]
        found = await self._links.evaluate(FORGET, named, [session_key, tombstone, *counts])
        if isinstance(found, list):
            raise CorruptLog(
                session_id,
                0,
                "a view of it cannot be read; make it anew with scripts/rebuild.py --drop-old, then forget it",
            )
        return None if found is None else bytes(found)
