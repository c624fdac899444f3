"""The queries: a view brought up to date by its tail, so that no answer is ever stale."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from eventstore.errors import (
    CorruptLog,
    FoldFailed,
    InvalidInput,
    NotPermitted,
    OutOfMemory,
    SessionArchived,
    SessionForgotten,
    shown,
)
from eventstore.events import RecordedEvent
from eventstore.store import EventStore
from projections import behind
from projections.changes import ViewsChange, fold
from projections.checkpoints import Checkpoint
from projections.following import Following
from projections.history import History, Message
from projections.past import past
from projections.projector import Projector
from projections.session import SessionState, begins_a_session
from projections.views import Listed, Snapshot, Totals, ViewStore

T = TypeVar("T")
A = TypeVar("A")

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
        stored, change = await self._now(await self._views.read_history(session_id, last), History())
        if (
            change.history.dropped or change.history.removed
        ) and last is not None:  # which of the newest have gone, all together can tell
            return await self.history_at(session_id)
        return HistoryAt(change.version, change.after, change.history.apply(stored))

    async def context(self, session_id: str, key: str) -> tuple[Any, int]:
        """Return the value of a context key, `MISSING` if it has none, and the version of the session's log."""
        found, change = await self._now(await self._views.read_context(session_id, key), [])
        stored: Mapping[str, Any] = dict(zip([key], found, strict=False))
        return change.context.apply(stored).get(key, MISSING), change.version

    async def context_keys(self, session_id: str) -> list[str]:
        """Return all context keys in alphabetical order."""
        stored, change = await self._now(await self._views.read_context_keys(session_id), [])
        return sorted(change.context.apply(dict.fromkeys(stored)))

    async def checkpoint(self, thread_id: str, checkpoint_id: str) -> Checkpoint | None:
        """Return a checkpoint, None if there is none of that id."""
        found, change = await self._now(await self._views.read_checkpoint(thread_id, checkpoint_id), [])
        stored = {checkpoint["checkpoint_id"]: checkpoint for checkpoint in found}
        return {**stored, **change.checkpoints.stored}.get(checkpoint_id)

    async def checkpoints(self, thread_id: str, limit: int | None = None) -> list[Checkpoint]:
        """Return the newest checkpoints, newest first; all if the limit is None."""
        stored, change = await self._now(await self._views.read_checkpoints(thread_id, limit), [])
        return change.checkpoints.newest(stored, limit)

    async def writes(self, thread_id: str, checkpoint_id: str) -> list[Any]:
        """Return all writes beside a checkpoint, in the order in which they were stored."""
        stored, change = await self._now(await self._views.read_writes(thread_id, checkpoint_id), [])
        found = change.checkpoints.writes_of(checkpoint_id, stored)
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
        return await self._of_live(lambda views, lacking: self._page(views, lacking, status, user_id, after, limit))

    async def totals(self) -> Totals:
        """Return counts over all sessions. What had been appended when it was called is counted."""
        return await self._of_live(self._totals)

    async def stored_totals(self) -> Totals:
        """Return counts over all sessions, as far as the workers have come."""
        return await self._views.totals()

    async def projected(self) -> bool:
        """Whether the workers have come to where the feeds end now, or do so soon."""
        await self._views.refresh()
        return await Following(self._store, await self._views.pinned()).reached_soon()

    async def _of_live(self, ask: Callable[[ViewStore, list[str]], Awaitable[A]]) -> A:
        """Ask views in which everything is that has been appended by now; again, if others have become live meanwhile.

        Views that are live when they have been asked were so all the time, and nobody had given them up.
        """
        while True:
            views = await self._views.pinned()
            answer = await ask(views, await self._lacking(views))
            await self._views.refresh()
            if self._views.group == views.group:
                return answer

    async def _lacking(self, views: ViewStore) -> list[str]:
        """Return the sessions whose newest events may be in no list: none, unless that cannot be seen to now."""
        try:
            await Following(self._store, views).catch_up()
        except (NotPermitted, OutOfMemory):
            changed = await behind.changed_since(self._store, views.group)
            return sorted(each.session_id for each in await views.read_sessions(changed) if not each.value)
        return []

    async def _page(
        self,
        views: ViewStore,
        lacking_ids: list[str],
        status: str | None,
        user_id: str | None,
        after: Listed | None,
        limit: int | None,
    ) -> Page:
        lacking = {
            session.session_id: place
            for session in await self.sessions_at(lacking_ids)
            if (place := behind.place_of(session.session_id, session.state))
        }
        found: list[SessionAt] = []
        while limit is None or len(found) < limit:
            wanted = 1000 if limit is None else limit - len(found)
            stored = await views.listed(status=status, user_id=user_id, after=after, limit=wanted)
            listed, after = behind.page(stored, lacking, after=after, limit=wanted)
            found += [
                session
                for session in await self.sessions_at([place.session_id.decode() for place in listed])
                if session.state.created_ms  # else it was forgotten just now
                and status in (None, session.state.status)
                and user_id in (None, session.state.user_id)
            ]
            if after is None:
                return Page(found, None)
        return Page(found, _cursor(after))

    async def _totals(self, views: ViewStore, lacking: list[str]) -> Totals:
        while True:
            before = await views.read_sessions(lacking)
            stored = await views.totals()
            if not lacking:
                return stored
            # What a worker commits in between could count twice, or not at all.
            after = await asyncio.gather(*map(self._listed, await views.read_sessions(lacking)))
            counted = [(session.version, session.state) for session in before]
            if counted == [(session.version, session.state) for session in await views.read_sessions(lacking)]:
                return behind.totals(stored, counted, [(session.version, session.state) for session in after])

    async def _listed(self, snapshot: Snapshot[Any]) -> SessionAt:
        """Return a session as it stands in a list: if it cannot be brought up to date, as it was when it last could."""
        try:
            change = await self._caught_up(snapshot)
        except (CorruptLog, FoldFailed, SessionArchived):
            return SessionAt(snapshot.session_id, snapshot.version, snapshot.state)
        except SessionForgotten:
            return SessionAt(snapshot.session_id, 0, SessionState())
        return SessionAt(snapshot.session_id, change.version, change.after)

    async def _now(self, snapshot: Snapshot[T], nothing: T) -> tuple[T, ViewsChange]:
        """Return what is stored of a view, and what has happened since; everything, where the view was let go."""
        if snapshot.let_go:
            return nothing, (await past(self._store, snapshot.session_id)).as_change()
        return snapshot.value, await self._caught_up(snapshot)

    async def _caught_up(self, snapshot: Snapshot[T]) -> ViewsChange:
        """Fold a snapshot's tail; if it is long, commit it, so that the next reader has it shorter."""
        events = () if snapshot.current else await self._projector.rest_of(snapshot)
        change = fold(snapshot.session_id, snapshot.version, snapshot.state, events)
        if not snapshot.complete or snapshot.forked is not None:
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
