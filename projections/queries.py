"""The queries: a view brought up to date by its tail, so that no answer is ever stale."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from eventstore.errors import CorruptLog, FoldFailed, InvalidInput, NotPermitted, shown
from eventstore.events import RecordedEvent
from eventstore.feed import Position
from eventstore.store import EventStore
from projections import behind
from projections.checkpoints import Checkpoint
from projections.history import History, Message
from projections.projector import GROUP, Projector
from projections.session import SessionState, begins_a_session
from projections.views import Listed, Snapshot, Totals, ViewsChange, ViewStore, fold

T = TypeVar("T")

PATIENCE = 0.1
"""Seconds for which a list waits for the workers before it does their work itself."""
POLL = 0.002
ALIVE = 3.0
"""Seconds since its last sign of life for which a worker is worth waiting for."""
MISSING: Any = msgspec.UNSET


class SessionAt(msgspec.Struct, frozen=True):
    """A session as it is now."""

    session_id: str
    version: int
    state: SessionState


class HistoryAt(msgspec.Struct, frozen=True):
    """A session's history as it is now, and what is known of the session."""

    version: int
    state: SessionState
    history: History


class Page(msgspec.Struct, frozen=True):
    """Some sessions of a list, and where the next page begins; ``cursor`` is None on the last page."""

    sessions: list[SessionAt]
    cursor: str | None


class Queries:
    """Answers from the views, each in one round trip where a worker keeps up."""

    def __init__(self, store: EventStore, views: ViewStore, projector: Projector) -> None:
        """Take the log, the views, and who brings the views up to date when a tail has grown long."""
        self._store = store
        self._views = views
        self._projector = projector

    async def session(self, session_id: str) -> SessionAt | None:
        """Return a session as it is now, None if there are no events."""
        (snapshot,) = await self._views.read_sessions([session_id])
        change = await self._caught_up(snapshot)
        return SessionAt(session_id, change.version, change.after) if change.version else None

    async def exists(self, session_id: str) -> bool:
        """Return whether there is a session; one whose events cannot be folded is one."""
        (snapshot,) = await self._views.read_sessions([session_id])
        if snapshot.state.created_ms or _any_begins(snapshot.tail):
            return True
        return _any_begins(await self._projector.rest_of(snapshot))

    async def sessions_at(self, session_ids: Sequence[str]) -> list[SessionAt]:
        """Return sessions as they stand in a list: one that is parked, as it was before the event that parked it."""
        return await asyncio.gather(*map(self._listed, await self._views.read_sessions(session_ids)))

    async def history(self, session_id: str, last: int | None = None) -> list[Message]:
        """Return a history as a reader sees it, oldest first: a summary, if it has one, then the newest messages.

        ``last`` in all (1 or more), or everything if None.
        """
        return (await self.history_at(session_id, last)).history.newest(last)

    async def history_at(self, session_id: str, last: int | None = None) -> HistoryAt:
        """Return the history with its newest ``last`` messages (1 or more), with all if None; and the session."""
        snapshot = await self._views.read_history(session_id, last)
        change = await self._caught_up(snapshot)
        if change.history.dropped and last is not None:  # which of the newest have gone, all together can tell
            return await self.history_at(session_id)
        return HistoryAt(change.version, change.after, change.history.apply(snapshot.value))

    async def context(self, session_id: str, key: str) -> tuple[Any, int]:
        """Return the value of a context key, `MISSING` if it has none, and the version of the session's log."""
        snapshot = await self._views.read_context(session_id, key)
        change = await self._caught_up(snapshot)
        stored: Mapping[str, Any] = dict(zip([key], snapshot.value, strict=False))
        return change.context.apply(stored).get(key, MISSING), change.version

    async def context_keys(self, session_id: str) -> list[str]:
        """Return all context keys in alphabetical order."""
        snapshot = await self._views.read_context_keys(session_id)
        change = await self._caught_up(snapshot)
        return sorted(change.context.apply(dict.fromkeys(snapshot.value)))

    async def checkpoint(self, thread_id: str, checkpoint_id: str) -> Checkpoint | None:
        """Return a checkpoint, None if there is none of that id."""
        snapshot = await self._views.read_checkpoint(thread_id, checkpoint_id)
        change = await self._caught_up(snapshot)
        stored = {checkpoint["checkpoint_id"]: checkpoint for checkpoint in snapshot.value}
        return {**stored, **change.checkpoints.stored}.get(checkpoint_id)

    async def checkpoints(self, thread_id: str, limit: int | None = None) -> list[Checkpoint]:
        """Return the newest checkpoints, newest first; all if the limit is None."""
        snapshot = await self._views.read_checkpoints(thread_id, limit)
        change = await self._caught_up(snapshot)
        return change.checkpoints.newest(snapshot.value, limit)

    async def writes(self, thread_id: str, checkpoint_id: str) -> list[Any]:
        """Return all writes beside a checkpoint, in the order in which they were stored."""
        snapshot = await self._views.read_writes(thread_id, checkpoint_id)
        change = await self._caught_up(snapshot)
        found = change.checkpoints.writes_of(checkpoint_id, snapshot.value)
        return [write for writes in found for write in writes["writes"]]

    async def sessions(
        self,
        *,
        status: str | None = None,
        user_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page:
        """Return sessions by last activity, newest first.

        What had been appended when it was called is in it. A parked session stands in it as it was before the event
        that parked it.

        Raises:
            InvalidInput: The cursor is not one that a page gave.
        """
        after = _parse_cursor(cursor)
        lacking = {
            session.session_id: place
            for session in await self.sessions_at(await self._lacking())
            if (place := behind.place_of(session.session_id, session.state))
        }
        found: list[SessionAt] = []
        while limit is None or len(found) < limit:
            wanted = 1000 if limit is None else limit - len(found)
            stored = await self._views.listed(status=status, user_id=user_id, after=after, limit=wanted)
            listed, after = behind.page(stored, lacking, after=after, limit=wanted)
            found += [
                session
                for session in await self.sessions_at([place.session_id.decode() for place in listed])
                if status in (None, session.state.status) and user_id in (None, session.state.user_id)
            ]
            if after is None:
                return Page(found, None)
        return Page(found, _cursor(after))

    async def totals(self) -> Totals:
        """Return counts over all sessions. What had been appended when it was called is counted."""
        lacking = await self._lacking()
        while True:
            before = await self._views.read_sessions(lacking)
            stored = await self._views.totals()
            if not lacking:
                return stored
            # What a worker commits in between could count twice, or not at all.
            after = await asyncio.gather(*map(self._listed, await self._views.read_sessions(lacking)))
            counted = [(session.version, session.state) for session in before]
            if counted == [(session.version, session.state) for session in await self._views.read_sessions(lacking)]:
                return behind.totals(stored, counted, [(session.version, session.state) for session in after])

    async def stored_totals(self) -> Totals:
        """Return counts over all sessions, as far as the workers have come."""
        return await self._views.totals()

    async def catch_up(self) -> None:
        """Make sure that what has been appended by now is projected: wait for the workers a little, then help them.

        Raises:
            NotPermitted: The workers are behind, and this user may not help them.
        """
        goal = await self._goal()
        if not await self.projected(goal):
            await self._help(goal)

    async def _lacking(self) -> list[str]:
        """Return the sessions whose newest events may be in no list: none, unless this user may not see to that."""
        try:
            await self.catch_up()
        except NotPermitted:
            changed = await behind.changed_since(self._store)
            return sorted(set(changed) - await self._views.parked_among(changed))
        return []

    async def projected(self, goal: Position | None = None) -> bool:
        """Whether the workers have come to a place in the feeds (by default to where they end now), or do so soon."""
        goal = goal or await self._goal()
        if await self._reached(goal):
            return True
        if any(age < ALIVE for age in (await self._store.feed.heartbeats(GROUP)).values()):
            deadline = asyncio.get_running_loop().time() + PATIENCE
            while asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(POLL)
                if await self._reached(goal):
                    return True
        return False

    async def _goal(self) -> Position:
        return tuple(partition.end for partition in await self._store.feed.progress(GROUP))

    async def _reached(self, goal: Position) -> bool:
        progress = await self._store.feed.progress(GROUP)
        return all(partition.done >= end for partition, end in zip(progress, goal, strict=True))

    async def _help(self, goal: Position) -> None:
        """Work as one more consumer of the workers' group, taking over what others have not finished."""
        consumer = await self._store.feed.join(GROUP, "reader")
        try:
            while not await self._reached(goal):
                if not await self._projector.step(consumer, wait=0):
                    await self._projector.finish(consumer, await consumer.claim(idle=0, count=1000))
            await consumer.leave()
        finally:
            consumer.abandon()

    async def _listed(self, snapshot: Snapshot[None]) -> SessionAt:
        """Return a session as it stands in a list: if it cannot be brought up to date, as it was when it last could."""
        try:
            change = await self._caught_up(snapshot)
        except (CorruptLog, FoldFailed):
            return SessionAt(snapshot.session_id, snapshot.version, snapshot.state)
        return SessionAt(snapshot.session_id, change.version, change.after)

    async def _caught_up(self, snapshot: Snapshot[T]) -> ViewsChange:
        """Fold a snapshot's tail; if it is long, commit it, so that the next reader has it shorter."""
        events = await self._projector.rest_of(snapshot)
        change = fold(snapshot.session_id, snapshot.version, snapshot.state, events)
        if not snapshot.complete:
            await self._projector.project_if_permitted([snapshot.session_id])
        return change


def _any_begins(events: Sequence[RecordedEvent]) -> bool:
    return any(begins_a_session(event.session_id, event.data) for event in events)


def _cursor(after: Listed | None) -> str | None:
    return f"{after.active_ms}:{after.session_id.decode()}" if after else None


def _parse_cursor(cursor: str | None) -> Listed | None:
    if cursor is None:
        return None
    try:
        active_ms, session_id = cursor.split(":", 1)
        return Listed(int(active_ms), session_id.encode())
    except (ValueError, AttributeError, TypeError):
        raise InvalidInput(f"{shown(cursor)} is not a cursor: pass the one that the previous page gave.") from None
