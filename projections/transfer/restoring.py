"""From lines to a store, with versions, times and bytes as they were.

Nothing is kept of the progress but the store itself: a session that is there already is compared, and what is missing
of it is written. So a run that was killed is simply run again.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterable, Iterator

import msgspec

from eventstore.errors import SessionForgotten
from eventstore.proof.chain import genesis, link
from eventstore.raw import open_raw
from eventstore.rawlog import Head
from eventstore.store import EventStore
from projections.sealing.keeping import open_seals
from projections.transfer import records
from projections.transfer.reading import ExportFile

CHUNK_EVENTS = 500
CHUNK_BYTES = 4 * 1024 * 1024
TRIES = 3
"""How often a chunk is compared and written: once more after a lost reply or beside another import of the same."""


class Outcome(enum.Enum):
    """What has become of a session."""

    RESTORED = "restored"
    PRESENT = "already there"
    REFUSED = "refused"


class Restored(msgspec.Struct, frozen=True):
    """What has become of one session; and why it was refused, if it was."""

    session_id: str
    events: int
    outcome: Outcome
    reason: str = ""


class _Differs(Exception):
    """The target has something else."""


class Restorer:
    """Puts sessions back. A session that the target has, and that is another one, is refused and left as it is.

    Args:
        store: The target.
    """

    def __init__(self, store: EventStore) -> None:
        """Write nothing yet."""
        self.seals = 0
        self._store = store
        self._raw = open_raw(store)
        self._seals = open_seals(store)

    async def restore(self, file: ExportFile) -> AsyncIterator[Restored]:
        """Restore every session of a file, and tell of each; then the seals, where the target is a copy of the source.

        That is so where the target has the same namespace and partitions, no session was refused, and a partition has
        no seals yet.

        Raises:
            StoreUnavailable: The target does not answer. Run it again.
            StoreRefused: The target refuses.
        """
        header, complete = file.header, True
        for session_id, events in _sessions(file.lines()):
            done = await self._session(session_id, events)
            complete = complete and done.outcome is not Outcome.REFUSED
            yield done
        if complete and (header.namespace, header.partitions) == (self._store.namespace, self._store.partitions):
            await self._restore_seals(file)

    async def _session(self, session_id: str, events: Iterator[records.Event]) -> Restored:
        wrote, head, count = False, Head(0, 0), 0
        try:
            for chunk in _chunks(events):
                wrote = await self._chunk(session_id, head, chunk) or wrote
                head = Head(chunk[-1].version, chunk[-1].recorded_ms)
                count += len(chunk)
            longer = await self._raw.head(session_id) != head
        except _Differs as differs:
            for _ in events:
                count += 1
            return Restored(session_id, head.version, Outcome.REFUSED, str(differs))
        if longer:
            return Restored(session_id, count, Outcome.REFUSED, "the target has a session of this id that has gone on")
        return Restored(session_id, count, Outcome.RESTORED if wrote else Outcome.PRESENT)

    async def _chunk(self, session_id: str, before: Head, chunk: list[records.Event]) -> bool:
        """See to it that events stand in the target behind a head. Return whether any were missing."""
        wrote = False
        for _ in range(TRIES):
            there = await self._there(session_id, chunk)
            if there == len(chunk):
                return wrote
            rest = chunk[there:]
            after = before if not there else Head(chunk[there - 1].version, chunk[there - 1].recorded_ms)
            contents = [(event.recorded_ms, event.content) for event in rest]
            try:
                found = await self._raw.restore(session_id, after if after.version else None, contents)
            except SessionForgotten:
                raise _Differs("the session was forgotten in the target") from None
            wrote = True
            if found is None:
                return wrote
        raise _Differs("the target's head is not the end of its log, or somebody else writes to it")

    async def _there(self, session_id: str, chunk: list[records.Event]) -> int:
        """Return how many of these events the target has already.

        Raises:
            _Differs: It has others.
        """
        there = 0
        async for page in self._raw.entries(session_id, after=chunk[0].version - 1, until=chunk[-1].version):
            for found, event in zip(page, chunk[there:], strict=False):
                if found != (event.version, event.recorded_ms, event.content):
                    raise _Differs(f"the target has a session of this id, and its version {event.version} is another")
                there += 1
        return there

    async def _restore_seals(self, file: ExportFile) -> None:
        has_seals = {p for p in range(self._store.partitions) if await self._seals.seals(p)}
        sealed = [line for line in file.lines() if isinstance(line, records.Seal) and line.partition not in has_seals]
        if not sealed:
            return
        for session_id, events in _sessions(file.lines()):
            chain = genesis(session_id.encode())
            for chunk in _chunks(events):
                after, digests = chain.version, []
                for event in chunk:
                    chain = link(chain, event.recorded_ms, event.content)
                    digests.append(chain.digest)
                await self._seals.keep_links(session_id, after, digests)
        for line in sealed:
            self.seals += await self._seals.add(line.partition, line.number, line.seal.encode())


def _sessions(found: Iterable[records.Line]) -> Iterator[tuple[str, Iterator[records.Event]]]:
    """Give each session, and its events, which must be taken before the next session."""
    rest = iter(found)
    for line in rest:
        if isinstance(line, records.Event):
            yield line.session, _events(line, rest)


def _events(first: records.Event, rest: Iterator[records.Line]) -> Iterator[records.Event]:
    yield first
    for line in rest:
        if not isinstance(line, records.Event):
            return
        yield line


def _chunks(events: Iterable[records.Event]) -> Iterator[list[records.Event]]:
    chunk: list[records.Event] = []
    size = 0
    for event in events:
        chunk.append(event)
        size += len(event.content)
        if len(chunk) >= CHUNK_EVENTS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
