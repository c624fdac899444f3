"""Importing: each stream is compared with what the target holds of it already, and what is missing is appended."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import AsyncIterator

import msgspec

from eventstore import CorruptLog, Event, EventStore, InvalidInput, RecordedEvent, WrongExpectedVersion
from eventstore.appending import MAX_EVENTS_PER_APPEND
from eventstore.codec import encode
from eventstore.ids import check_session_id, new_event_id
from importing import MARK, Counts, Planned, Refused
from importing.planning import events_of
from importing.source import Held, Source, changed, shown
from projections.session import GLOBAL

BATCH_BYTES = 16 * 1024 * 1024
"""About how large one append becomes."""

NOT_IMPORTED = "the target has a session of this id already, and it was not imported"
HALF_IMPORTED = "its import was interrupted, and then somebody else wrote to it"
DIFFERS = "it is not what was imported as version {version} before: the source has changed since, or is another one"
LESS = "the source holds less of it than was imported before"


class Verdict(enum.Enum):
    """What has become of a stream."""

    IMPORTED = "imported"
    PRESENT = "already there"
    REFUSED = "refused"


class Outcome(msgspec.Struct, frozen=True):
    """What has become of one stream, or of a key that holds many.

    Attributes:
        name: The stream; or the key.
        verdict: What has become of it.
        counts: What the source holds of it, as far as that is known.
        refusal: Why it was refused.
    """

    name: str
    verdict: Verdict
    counts: Counts
    refusal: Refused | None = None


class Importer:
    """Copies everything that a source holds to a log.

    Args:
        source: The original's Redis. It is only read.
        target: The log.
        dry_run: Whether to append nothing, and only tell what would become of each stream.
        max_event_bytes: The target's limit.
    """

    def __init__(self, source: Source, target: EventStore, *, dry_run: bool, max_event_bytes: int) -> None:
        """Take where from and where to."""
        self._source = source
        self._target = target
        self._dry_run = dry_run
        self._max_event_bytes = max_event_bytes
        self.streams = 0

    async def run(self) -> AsyncIterator[Outcome]:
        """Import one stream after the other, and tell of each. ``streams`` is how many there are, once it has begun.

        Raises:
            ContextEngineError: The target does not answer, or refuses. What was told of is imported; run it again.
            redis.exceptions.RedisError: The source does not answer, or refuses.
        """
        names, refused = await self._source.ids()
        self.streams = len(names) + len(refused)
        for refusal in refused:
            yield Outcome(refusal.key, Verdict.REFUSED, Counts(), refusal)
        for name in names:
            yield await self._stream(name)

    async def _stream(self, name: bytes) -> Outcome:
        counts = Counts()
        try:
            session_id = _checked(name)
            held = await self._source.held(name)
            counts = held.counts()
            imported = await self._import(session_id, held)
        except Refused as refusal:
            return Outcome(shown(name), Verdict.REFUSED, counts, refusal)
        return Outcome(session_id, Verdict.IMPORTED if imported else Verdict.PRESENT, counts)

    async def _import(self, session_id: str, held: Held) -> bool:
        """Bring a stream to where it must be. Return whether anything was missing."""
        while True:
            there, total, digest = await self._compare(session_id, events_of(self._source, session_id, held))
            if there == total or self._dry_run:
                return there < total
            try:
                await self._append(session_id, events_of(self._source, session_id, held), there, digest)
            except WrongExpectedVersion:
                continue  # somebody has appended meanwhile; if it is another import, there is less to do now
            return True

    async def _compare(self, session_id: str, planned: AsyncIterator[Planned]) -> tuple[int, int, bytes]:
        """Check every event of a plan, and that what the target holds is the beginning of it.

        Returns:
            How many of the events the target holds, how many there are, and what tells whether they are the same later.

        Raises:
            Refused: An event cannot be stored, or the target holds something else.
        """
        log = aiter(self._target.read(session_id))
        found = await self._next(session_id, log)
        there, total, digest = 0, 0, hashlib.sha256()
        async for event in planned:
            total += 1
            digest.update(self._encoded(event))
            if found is None:
                continue
            if not _is_imported(found):
                raise Refused(session_id, HALF_IMPORTED if there else NOT_IMPORTED)
            if found.data != event.event:
                raise Refused(event.key, DIFFERS.format(version=found.version))
            there += 1
            found = await self._next(session_id, log)
        if found is not None and _is_imported(found):
            raise Refused(session_id, LESS)
        return there, total, digest.digest()

    async def _append(self, session_id: str, planned: AsyncIterator[Planned], there: int, digest: bytes) -> None:
        """Append a plan's events after the first so many. The last batch leaves when all are known to be the same."""
        again, batch, size, version, number = hashlib.sha256(), list[Event](), 0, there, 0
        async for event in planned:
            number += 1
            encoded = self._encoded(event)
            again.update(encoded)
            if number <= there:
                continue
            if batch and (len(batch) == MAX_EVENTS_PER_APPEND or size + len(encoded) > BATCH_BYTES):
                version = await self._append_batch(session_id, batch, version)
                batch, size = [], 0
            batch.append(event.event)
            size += len(encoded)
        if again.digest() != digest:
            raise changed(session_id)
        await self._append_batch(session_id, batch, version)

    async def _append_batch(self, session_id: str, batch: list[Event], version: int) -> int:
        try:
            return (await self._target.append(session_id, batch, expected_version=version, meta=MARK)).version
        except InvalidInput as error:
            raise Refused(session_id, str(error)) from None

    async def _next(self, session_id: str, log: AsyncIterator[RecordedEvent]) -> RecordedEvent | None:
        try:
            return await anext(log, None)
        except CorruptLog as error:
            raise Refused(session_id, str(error)) from None

    def _encoded(self, planned: Planned) -> bytes:
        try:
            return encode(_ANY_ID, planned.event, MARK, self._max_event_bytes)
        except InvalidInput as error:
            raise Refused(planned.key, str(error)) from None


_ANY_ID = new_event_id()


def _is_imported(event: RecordedEvent) -> bool:
    return event.meta == MARK


def _checked(name: bytes) -> str:
    """Return an id of the source as one of ours.

    Raises:
        Refused: It cannot be one.
    """
    try:
        session_id = name.decode()
        check_session_id(session_id)
    except ValueError as error:
        raise Refused(shown(name), str(error)) from None
    if session_id == GLOBAL:
        raise Refused(session_id, "the target keeps its global context under this id")
    return session_id
