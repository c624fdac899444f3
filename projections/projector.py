"""The projector brings views up to date: read the view and its tail, fold, commit."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from eventstore.errors import CorruptLog, FoldFailed, NotPermitted, OutOfMemory, SessionArchived, SessionForgotten
from eventstore.events import RecordedEvent
from eventstore.feed import Consumer, Delivery
from eventstore.logs import get_logger
from eventstore.store import EventStore
from projections.changes import ViewsChange, fold, is_short
from projections.exchange import sessions_of
from projections.session import SessionState
from projections.side_by_side import side_by_side
from projections.views import GROUP, Forked, Parked, Snapshot, ViewStore

__all__ = ["GROUP", "Projector"]

log = get_logger("projector")

Failure: TypeAlias = FoldFailed | CorruptLog | SessionArchived
"""Why a session could not be brought up to date."""
CHUNK = 1000
"""The most events of a session that one commit takes in ..."""
CHUNK_BYTES = 1024 * 1024
"""... and about how many bytes of them, if all are as large as those of the view's tail."""
SESSIONS_AT_ONCE = 256
LONG_AT_ONCE = 2
"""Sessions of which more is read than the tails of their views: their events are in memory together ..."""
PORTIONS_AT_ONCE = 3
"""... with those of so many portions: the server reads and writes some while others are folded."""


class Projector:
    """Folds logs into views. Any number may work on the same session: a commit whose base is stale does nothing."""

    def __init__(self, store: EventStore, views: ViewStore) -> None:
        """Take the log and the views."""
        self.store = store
        self.views = views
        self._permitted = True

    async def project(self, session_ids: Iterable[str], *, though_parked: bool = False) -> list[Failure]:
        """Bring the views of sessions to the end of their logs. Return what could not be folded.

        Parked sessions are left out, unless ``though_parked``.
        """
        views = await self.views.pinned()
        failures: dict[str, Failure] = {}
        waiting = list(dict.fromkeys(session_ids))
        while waiting:
            batch, waiting = waiting[:SESSIONS_AT_ONCE], waiting[SESSIONS_AT_ONCE:]
            portions = _portions(await views.read_sessions(batch))
            jobs = (self._project(views, portion, though_parked=though_parked) for portion in portions)
            async with contextlib.aclosing(side_by_side(jobs, PORTIONS_AT_ONCE)) as projected:
                async for left, failed in projected:
                    waiting += left
                    failures |= {failure.session_id: failure for failure in failed}
        return list(failures.values())

    async def changes(
        self, snapshots: Iterable[Snapshot[bool]], *, though_parked: bool = False
    ) -> tuple[list[ViewsChange], list[Failure]]:
        """Return what is to be written of sessions, and what could not be folded."""
        # Where the tail is all there is, there is nothing to wait for; a task each would cost more than the fold.
        at_hand: list[Snapshot[bool]] = []
        long: list[Snapshot[bool]] = []
        for snapshot in snapshots:
            if though_parked or not snapshot.value:
                (long if _needs_more(snapshot) else at_hand).append(snapshot)
        found = [await self._change(snapshot) for snapshot in at_hand]
        if long:
            found += await asyncio.gather(*map(self._change, long))
        changes = [change for change, _ in found if change is not None]
        return changes, [failure for _, failure in found if failure is not None]

    async def step(self, consumer: Consumer, *, wait: float, count: int = SESSIONS_AT_ONCE) -> int:
        """Take what is new in the feeds, project it, acknowledge it. Return how many entries that were."""
        deliveries = await consumer.take(count=count, wait=wait)
        await self.finish(consumer, deliveries)
        return len(deliveries)

    async def finish(self, consumer: Consumer, deliveries: Sequence[Delivery]) -> None:
        """Project what a consumer was handed, then acknowledge it."""
        if deliveries:
            await self.project_or_park(sessions_of(deliveries))
            await consumer.ack(deliveries)

    async def project_or_park(self, session_ids: Iterable[str]) -> None:
        """Project sessions, leaving out the parked ones and parking those that cannot be folded."""
        pinned = Projector(self.store, await self.views.pinned())
        await pinned.park_all(await pinned.project(session_ids))

    async def project_if_permitted(self, session_ids: Iterable[str]) -> None:
        """Do as `project_or_park`, unless the server lets this user write no views, or has no memory for them."""
        if not self._permitted:
            return
        try:
            await self.project_or_park(session_ids)
        except NotPermitted as refused:
            self._permitted = False
            log.debug("Views are read, and not written.", action="views_read_only", reason=str(refused))
        except OutOfMemory as refused:
            log.debug("The views wait for memory.", action="views_out_of_memory", reason=str(refused))

    async def park_all(self, failures: Iterable[Failure]) -> None:
        """Park what could not be folded."""
        for failure in failures:
            await self.park(failure.session_id, failure.version, str(failure), failure)

    async def park(self, session_id: str, version: int, reason: str, error: BaseException | None = None) -> None:
        """Park a session, and say so in the log file."""
        trace = "".join(traceback.format_exception(error)) if error else ""
        await self.views.park(Parked(session_id, version, reason, trace, time.time_ns() // 1_000_000))
        log.error("Session parked.", action="session_parked", session_id=session_id, version=version, reason=reason)

    async def retry(self, session_id: str) -> Parked | None:
        """Try a parked session again. Return why it is parked still, None if it is not.

        It stays parked until it has been folded: one that kills whoever folds it is still parked if it kills this one.
        """
        failures = await self.project([session_id], though_parked=True)
        await self.park_all(failures)
        if not failures:
            await self.views.unpark(session_id)
            await self.project_or_park([session_id])  # what workers passed over in between
        return next((parked for parked in await self.views.parked() if parked.session_id == session_id), None)

    async def _project(
        self, views: ViewStore, snapshots: Iterable[Snapshot[bool]], *, though_parked: bool
    ) -> tuple[list[str], list[Failure]]:
        """Fold what stands after snapshots, and write it. Return what is to be looked at again, and what failed."""
        changes, failures = await self.changes(snapshots, though_parked=though_parked)
        return unfinished(changes, await views.commit(changes)), failures

    async def _change(self, snapshot: Snapshot[Any]) -> tuple[ViewsChange | None, Failure | None]:
        """Fold what stands after a snapshot; up to an event that cannot be folded, if there is one."""
        if snapshot.current:
            return None, None
        try:
            chunk = _chunk(snapshot)
            events = await self.rest_of(snapshot, chunk)
            change = await self.change(snapshot, events)
            if len(events) >= chunk and (not snapshot.complete or _filed(snapshot)):
                change = msgspec.structs.replace(change, more=True)
            return (change if snapshot.forked is None else await self._anew(change, snapshot.forked)), None
        except SessionForgotten:
            return None, None
        except SessionArchived as failure:
            return None, failure
        except (FoldFailed, CorruptLog) as failure:
            return (await self._before(snapshot, failure.version) if snapshot.forked is None else None), failure

    async def _before(self, snapshot: Snapshot[Any], version: int) -> ViewsChange | None:
        """Fold what stands between a snapshot and an event that cannot be folded; None if nothing does."""
        try:
            if version <= snapshot.version + 1:
                return None
            rest = self.store.read(snapshot.session_id, after=snapshot.version, until=version - 1, limit=CHUNK)
            return await self.change(snapshot, await rest)
        except (FoldFailed, CorruptLog, SessionArchived, SessionForgotten):
            return None

    async def change(self, snapshot: Snapshot[Any], events: Sequence[RecordedEvent]) -> ViewsChange:
        """Return what the events after a snapshot do to the views that are stored.

        That is all that has ever happened, if the session was short and is so no longer. None is short of which the log
        lies in an archive: to fold it costs more than to read a view.
        """
        session_id, base = snapshot.session_id, snapshot.version
        change = fold(session_id, base, snapshot.state, events)
        if snapshot.short is None or (not base and _filed(snapshot)):
            return change
        size = snapshot.short + _size(events)
        short = msgspec.structs.replace(change, short=size)
        if is_short(change.version, size):
            return short
        if not base:
            return change
        try:
            earlier = await self.store.read(session_id, until=base)
        except SessionArchived:  # then whoever reads more than the session view needs the archive anyway
            return short
        whole = fold(session_id, 0, SessionState(), [*earlier, *events])
        return msgspec.structs.replace(whole, base=base, before=snapshot.state, anew=True)

    async def _anew(self, change: ViewsChange, forked: Forked) -> ViewsChange:
        """Let a fold from the log's beginning take the place of views whose log has become another one, and say so.

        Raises:
            SessionForgotten: The log is gone because the session was forgotten.
        """
        if not change.version and await self.store.forgotten(change.session_id):
            raise SessionForgotten(change.session_id)
        log.error(
            "Views do not fit their log, which has lost events, or they were damaged: they are made anew.",
            action="log_forked",
            session_id=change.session_id,
            views_version=forked.version,
            log_version=await self.store.version(change.session_id),
        )
        return msgspec.structs.replace(change, base=forked.version, before=forked.state, anew=True, forked=True)

    async def rest_of(self, snapshot: Snapshot[Any], limit: int | None = None) -> Sequence[RecordedEvent]:
        """Return the events after a snapshot, up to a limit: its tail, and what did not fit into it.

        Raises:
            CorruptLog: One of them cannot be read.
            SessionArchived: One of them lies in an archive, and the store has none.
            SessionForgotten: The session was forgotten since.
        """
        if snapshot.damage is not None:
            raise snapshot.damage
        if _filed(snapshot):
            return await self.store.read(snapshot.session_id, after=snapshot.version, limit=limit)
        if snapshot.complete:
            return snapshot.tail
        if limit is not None and limit <= len(snapshot.tail):
            return snapshot.tail
        left = None if limit is None else limit - len(snapshot.tail)
        rest = await self.store.read(snapshot.session_id, after=snapshot.version + len(snapshot.tail), limit=left)
        if not rest and await self.store.forgotten(snapshot.session_id):
            raise SessionForgotten(snapshot.session_id)
        return snapshot.tail + rest


def at_once(snapshots: Sequence[Snapshot[bool]]) -> tuple[Sequence[Snapshot[bool]], Sequence[Snapshot[bool]]]:
    """Divide snapshots into those that are folded and written together, and those whose turn comes after them."""
    long = 0
    for number, snapshot in enumerate(snapshots):
        long += not snapshot.complete or _filed(snapshot)
        if long > LONG_AT_ONCE:
            return snapshots[:number], snapshots[number:]
    return snapshots, []


def _portions(snapshots: Sequence[Snapshot[bool]]) -> Iterator[Sequence[Snapshot[bool]]]:
    while snapshots:
        portion, snapshots = at_once(snapshots)
        yield portion


def unfinished(changes: Iterable[ViewsChange], written: Iterable[bool]) -> list[str]:
    """Return the sessions that are to be looked at again, given what was to be written of them, and what was."""
    return [
        change.session_id
        for change, done in zip(changes, written, strict=True)
        if not done or change.forked or change.more
    ]


def _needs_more(snapshot: Snapshot[Any]) -> bool:
    """Whether the fold needs more of the log than the snapshot's tail."""
    grown = snapshot.short and not is_short(
        snapshot.version + len(snapshot.tail), snapshot.short + _size(snapshot.tail)
    )
    return not snapshot.complete or bool(grown)


def _chunk(snapshot: Snapshot[Any]) -> int:
    """Return how many of the events after a snapshot are to be folded together."""
    tail = snapshot.tail
    if not tail or _filed(snapshot):  # nothing tells how large they are
        return CHUNK
    return min(CHUNK, max(len(tail), CHUNK_BYTES * len(tail) // _size(tail)))


def _filed(snapshot: Snapshot[Any]) -> bool:
    """Whether what comes next after a snapshot lies in an archive."""
    return bool(snapshot.tail) and snapshot.tail[0].version > snapshot.version + 1


def _size(events: Sequence[RecordedEvent]) -> int:
    return sum([len(event.entry) for event in events])
