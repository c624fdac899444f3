"""The log on Redis, as it lies there."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence

import anyio
import msgspec

from eventstore.errors import CorruptLog, SessionForgotten
from eventstore.feed import FeedId, Pointer
from eventstore.ids import check_session_id
from eventstore.rawlog import ARCHIVING_MS, Archived, Head, Pointers, RawEntry
from eventstore.redis.batches import Batch
from eventstore.redis.commands import Argument, Script, refusal
from eventstore.redis.consumer import feed_id, pointers_of
from eventstore.redis.reading import FIELD, archived_of, fields_of, keys_like
from eventstore.redis.store import RedisStore

RESTORE = Script.load("eventstore.redis", "restore.lua")
ARCHIVE = Script.load("eventstore.redis", "archive.lua")
BRING_BACK = Script.load("eventstore.redis", "bring_back.lua")
_encode = msgspec.json.Encoder().encode

NO_HEAD = Head(0, 0)
POINTERS = 1000
"""Entries of a feed that are read in one round trip."""


class RedisRaw:
    """An `eventstore.rawlog.RawLog` of a log on Redis."""

    def __init__(self, store: RedisStore) -> None:
        """Use the store's connections and keys."""
        self._store = store
        self._links = store.links
        self._keys = store.keys
        self._feed = store.feed

    async def entries(
        self, session_id: str, *, after: int = 0, until: int | None = None
    ) -> AsyncIterator[list[RawEntry]]:
        """Give a session's entries, page by page."""
        async with contextlib.aclosing(self._store.log(session_id).entries(after, until)) as pages:
            async for page in pages:
                yield page

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
        async for key in keys_like(self._links, self._keys.every(b"log:*")):
            name = key.partition(b"}:log:")[2]
            if key == self._log(name):  # elsewhere nobody would look for it
                names.add(_name(name))
        return names

    async def pointers(self, partition: int, after: FeedId = (0, 0)) -> Pointers:
        """Return what a partition's feed holds after a place."""
        pointers: list[Pointer] = []
        malformed: list[FeedId] = []
        trimmed = False
        while True:
            dropped, found = await self._feed.range(partition, after, POINTERS)
            trimmed = trimmed or dropped > (0, 0)
            for place, fields in found:
                after = feed_id(place)
                try:
                    pointers += pointers_of(fields)
                except ValueError:
                    malformed.append(after)
            if len(found) < POINTERS:
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

    async def archived(self, session_id: str) -> Archived | None:
        """Return what a session's log says of a file in the archive."""
        noted = await self._store.log(session_id).note()
        return None if noted is None else archived_of(noted)

    async def all_archived(self, partition: int) -> dict[str, Archived]:
        """Return what the logs of a partition say of files in the archive."""
        fields = fields_of(self._links, self._keys.archived(partition))
        return {_name(name): archived_of(noted) async for name, noted in fields}

    async def archive(self, session_id: str, archived: Archived, before: Archived | None) -> bool:
        """Keep of a log its last entry alone, and note which file holds all of it."""
        log = self._store.log(session_id)
        head = f"{archived.version}-{archived.recorded_ms}"
        noted = _encode(archived)
        arguments: list[Argument] = [
            *(log.session_key, head, noted, _encode(before) if before else b""),
            *(archived.begun_ms, ARCHIVING_MS, before.file if before else b""),
        ]
        partition = self._keys.partition(log.session_key)
        keys = [self._keys.heads(partition), log.notes, log.key, self._keys.released(partition)]
        done: int = await self._links.evaluate(ARCHIVE, keys, arguments)
        return done == 1 or await log.note() == noted  # it was this very call, whose reply was lost

    async def bring_back(self, session_id: str, archived: Archived) -> bool:
        """Put a log together again, out of the archive and what follows."""
        log = self._store.log(session_id)
        whole = self._keys.of_session(b"whole:" + uuid.uuid4().hex.encode(), log.session_key)
        partition = self._keys.partition(log.session_key)
        keys = [self._keys.heads(partition), log.notes, log.key, self._keys.released(partition), whole]
        last = 0
        try:
            async for page in self.entries(session_id):
                for entry in page:
                    if entry.version != last + 1 or entry.entry is None:
                        raise CorruptLog(session_id, last + 1, "it is missing, or no entry of ours")
                    last = entry.version
                await self._put(whole, page)
            arguments: list[Argument] = [log.session_key, _encode(archived), archived.file]
            done = await self._links.evaluate(BRING_BACK, keys, arguments)
        finally:
            with anyio.CancelScope(shield=True):
                await self._links.call("UNLINK", whole)
        if done == b"gap":
            raise CorruptLog(session_id, last + 1, "it does not end where its head says")
        return done == 1 or await log.note() is None

    async def released(self, partition: int) -> dict[str, int]:
        """Return the files of which logs of a partition told once, and since when none does."""
        fields = fields_of(self._links, self._keys.released(partition))
        return {name.decode(errors="replace"): int(ms) async for name, ms in fields if ms.isdigit()}

    async def forget_released(self, partition: int, file: str) -> None:
        """Forget that a file was released, because it is gone."""
        await self._links.call("HDEL", self._keys.released(partition), file)

    async def _put(self, whole: bytes, page: Sequence[RawEntry]) -> None:
        """Add entries to a log that is being put together. If nobody goes on with it, it vanishes."""
        adds = [("XADD", whole, f"{e.version}-{e.recorded_ms}", FIELD, e.entry or b"") for e in page]
        batch = Batch(whole, [*adds, ("PEXPIRE", whole, ARCHIVING_MS)])
        for reply in (await self._links.answers([batch]))[0]:
            # One that is there already was put there by a try whose reply was lost.
            if isinstance(reply, Exception) and "equal or smaller" not in str(reply):
                raise refusal(reply)

    def _log(self, session_key: bytes) -> bytes:
        return self._keys.log(self._keys.partition(session_key), session_key)


def _head(text: bytes) -> Head:
    try:
        version, recorded_ms = text.split(b"-")
        return Head(int(version), int(recorded_ms))
    except ValueError:
        return NO_HEAD


def _name(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
