"""Reading what is long, page by page: a log, wherever its parts lie, and a hash."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgspec

from eventstore.archive.files import LogFile, missing, open_file
from eventstore.archive.places import Archive
from eventstore.codec import decode
from eventstore.events import RecordedEvent
from eventstore.ids import check_session_id
from eventstore.rawlog import UNREADABLE, Archived, RawEntry
from eventstore.redis.commands import Command, Script
from eventstore.redis.entries import all_recorded
from eventstore.redis.keys import Keys
from eventstore.redis.link import LinkLost, Replies
from eventstore.redis.links import Links
from eventstore.store import PAGE

AHEAD = 3
"""Pages of a long read that are on their way while one is worked on."""
SCANNED = 1000
"""Keys that are looked at in one round trip."""

Pages: TypeAlias = AsyncGenerator[list[RecordedEvent], None]

NOTED = Script.load("eventstore.redis", "noted.lua")
FIELD = b"e"

_archived = msgspec.json.Decoder(Archived).decode


class Log:
    """A session's log. What Redis keeps of it is its end; the beginning may lie in the archive.

    Who reads from a version that Redis has no more is given a later one, for the last entry always stays; that is how
    it is noticed, and who meets no gap asks nothing more.
    """

    def __init__(self, links: Links, keys: Keys, archive: Archive | None, session_id: str) -> None:
        """Take where it lies.

        Raises:
            InvalidSessionId: The session id is none.
        """
        self.session_id = session_id
        self.session_key = check_session_id(session_id)
        partition = keys.partition(self.session_key)
        self.key = keys.log(partition, self.session_key)
        self.notes = keys.archived(partition)
        self.archive = archive
        self.filed = False
        self._links = links

    async def forwards(self, low: int, high: int | None, limit: int | None) -> Pages:
        """Give the events from one version to another, oldest first, ``limit`` at most.

        Once a page was full, the next ones are asked for ahead: versions have no gaps, so it is known where they begin.
        Where one comes back short, the log ends, is damaged, or was archived at this moment, and it goes on from there
        page by page.
        """
        ahead: deque[Replies] = deque()
        try:
            while limit != 0 and (high is None or low <= high):
                count = PAGE if limit is None else min(PAGE, limit)
                asked_ahead, ask = bool(ahead), ("XRANGE", self.key, low, _end(high), "COUNT", count)
                reply = await (self._arrived(ahead.popleft(), ask) if ahead else self._links.call(*ask))
                if _version(reply[0]) > low if reply else not asked_ahead and high is not None:
                    _cancel(ahead)
                    file, reply = await self.file_with(low, ask)
                    if file is not None:
                        last = min(bound for bound in (file.version, high, limit and low + limit - 1) if bound)
                        async for entries in file.pages(low, last):
                            yield [decode(self.session_id, *entry) for entry in entries]  # type: ignore[arg-type]
                        low, limit = last + 1, limit and limit - (last - low + 1)
                        continue
                page = all_recorded(self.session_id, reply)
                if page:
                    yield page
                    low = page[-1].version + 1
                limit = None if limit is None else limit - len(page)
                if len(page) < count:
                    if not asked_ahead:
                        return
                    _cancel(ahead)
                elif limit is None:
                    begins = range(low + len(ahead) * PAGE, low + AHEAD * PAGE, PAGE)
                    link = self._links.shared(self.key)
                    ahead.extend(
                        link.submit([("XRANGE", self.key, begin, _end(begin + PAGE - 1, high))])
                        for begin in begins
                        if high is None or begin <= high
                    )
        finally:
            _cancel(ahead)

    async def _arrived(self, asked_for: Replies, ask: Command) -> list[Any]:
        """Return what was asked for ahead; ask again where the node did not answer it, or serves it no more."""
        with contextlib.suppress(LinkLost):
            (reply,) = await asked_for
            if isinstance(reply, list):
                return reply
        found: list[Any] = await self._links.call(*ask)
        return found

    async def backwards(self, low: int, high: int | None, limit: int | None) -> Pages:
        """Give the events from one version to another, newest first, ``limit`` at most."""
        while limit != 0 and (high is None or low <= high):
            count = PAGE if limit is None else min(PAGE, limit)
            ask = ("XREVRANGE", self.key, _end(high), low, "COUNT", count)
            file, reply = None, await self._links.call(*ask)
            if len(reply) < count and (_version(reply[-1]) > low if reply else high is not None):
                file, reply = await self.file_with(low, ask)
            page = all_recorded(self.session_id, reply)
            if page:
                yield page
                high = page[-1].version - 1
            limit = None if limit is None else limit - len(page)
            if file is not None and limit != 0:
                last = file.version if high is None else min(file.version, high)
                async for entries in file.pages_back(low if limit is None else max(low, last - limit + 1), last):
                    yield [decode(self.session_id, *entry) for entry in entries]  # type: ignore[arg-type]
                return
            if len(page) < count:
                return

    async def entries(self, after: int, until: int | None) -> AsyncGenerator[list[RawEntry], None]:
        """Give the entries as they lie there, page by page, in stored order."""
        start, last = f"({after}-{2**64 - 1}", "+" if until is None else str(until)
        while True:
            ask = ("XRANGE", self.key, start, last, "COUNT", PAGE)
            found = await self._links.call(*ask)
            if _version(found[0]) > after + 1 if found else until is not None and after < until:
                file, found = await self.file_with(after + 1, ask)
                if file is not None:
                    after, low = file.version if until is None else min(file.version, until), after + 1
                    async for page in file.pages(low, after):
                        yield page
                    start = f"({after}-{2**64 - 1}"
                    continue
            if found:
                yield [raw_entry(*each) for each in found]
                after = _version(found[-1])
            if len(found) < PAGE:
                return
            start = "(" + found[-1][0].decode()

    async def note(self) -> bytes | None:
        """Return what is noted of a file, as it is stored; None if nothing is."""
        noted: bytes | None = await self._links.call("HGET", self.notes, self.session_key)
        return noted

    async def file_with(self, version: int, ask: Command) -> tuple[LogFile | None, list[Any]]:
        """Return the file that holds a version, None if that is not in the archive; and a reply of the same moment.

        Raises:
            SessionArchived: It is in an archive, and none was named.
            CorruptLog: The archive does not have what it should.
        """
        lacking = None
        while True:
            arguments = [self.session_key, ask[0], *ask[2:]]
            noted, reply = await self._links.evaluate(NOTED, [self.notes, self.key], arguments)
            archived = None if noted is None else archived_of(noted)
            if archived is None or archived.version < version:
                return None, reply
            if archived == lacking:
                raise missing(self.session_id, archived, self.archive)
            if (file := await open_file(self.session_id, archived, self.archive)) is not None:
                self.filed = True
                return file, reply
            lacking = archived  # unless it was replaced or brought back just now


def archived_of(noted: bytes) -> Archived:
    """Return what a log says of its file."""
    try:
        return _archived(noted)
    except (ValueError, RecursionError):
        return UNREADABLE


async def fields_of(links: Links, key: bytes) -> AsyncGenerator[tuple[bytes, bytes], None]:
    """Give each field of a hash once, and its value."""
    seen: set[bytes] = set()  # HSCAN may give a field twice while the hash is being resized
    cursor, server = b"0", None
    while True:
        cursor, found = await links.call("HSCAN", key, cursor, "COUNT", PAGE)
        link = links.shared(key)
        again, server = server not in {None, (link, link.epoch)}, (link, link.epoch)
        for field, value in zip(found[::2], found[1::2], strict=True):
            if field not in seen:
                seen.add(field)
                yield field, value
        if again:
            cursor = b"0"  # another server's cursor, or one from before a restart, passes over some
        elif cursor == b"0":
            return


async def keys_like(links: Links, pattern: bytes) -> AsyncGenerator[bytes, None]:
    """Give the keys that fit a pattern, of all nodes; one may come twice."""
    for node in links.topology.nodes:
        cursor = b"0"
        while True:
            scan = partial(links.to(node).call, "SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED)
            cursor, found = await links.patiently(scan)
            for key in found:
                yield key
            if cursor == b"0":
                break


def _version(found: Sequence[Any]) -> int:
    return int(found[0].split(b"-")[0])


def raw_entry(place: bytes, fields: Sequence[bytes]) -> RawEntry:
    """Return an entry as it lies in a stream."""
    version, recorded_ms = place.split(b"-")
    return RawEntry(int(version), int(recorded_ms), fields[1] if len(fields) == 2 and fields[0] == FIELD else None)  # noqa: PLR2004 - a name and a value


def _end(*versions: int | None) -> str:
    """Return the last id of a range: that of the smallest version; the stream's end if there is none."""
    bounds = [version for version in versions if version is not None]
    return str(min(bounds)) if bounds else "+"


def _cancel(ahead: deque[Replies]) -> None:
    while ahead:
        ahead.popleft().cancel()
