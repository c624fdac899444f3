"""The engine's sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from contextengine.arguments import count_of, dict_of, limit_of, seconds_of, text_of
from contextengine.runtime import Open
from contextengine.values import Session, SessionPage
from eventstore import (
    EXISTS,
    NO_STREAM,
    Append,
    Appended,
    AppendOutcomeUnknown,
    ContextEngineError,
    Event,
    HistoryCleared,
    InvalidInput,
    SessionEnded,
    SessionForgotten,
    SessionStarted,
    SessionUpdated,
    StoreUnavailable,
    UnknownSession,
    WrongExpectedVersion,
)
from eventstore.errors import shown
from eventstore.ids import check_name
from projections import SessionAt
from projections.session import ACTIVE, COUNTERS

FIXED = frozenset({"session_id", "created_at", "last_activity", "message_count", "version"})
CLEARED = "cleared"
EXPIRED = "expired"


class Sessions(Open):
    """Sessions: who, since when, in which state, and what was counted."""

    async def create_session(
        self, session_id: str, user_id: str | None = None, metadata: dict[str, Any] | None = None
    ) -> Session:
        """Create a session and return it. One that was created before is returned unchanged.

        A session that began by itself, with somebody's message, takes the user id and the metadata now.

        Raises:
            InvalidInput: An argument cannot be accepted.
        """
        if user_id is not None:
            check_name(user_id, "user id")
        runtime = self._here()
        started = SessionStarted(user_id, dict_of(metadata, "metadata"))
        event_ids: list[str] = []
        try:
            event_ids = (await runtime.append(session_id, started, expected_version=NO_STREAM)).event_ids
        except WrongExpectedVersion:
            while (session := await runtime.queries.session(session_id)) and not session.state.created:
                try:
                    begins = not session.state.created_ms
                    await runtime.append(session_id, started, expected_version=session.version, begins=begins)
                except WrongExpectedVersion:
                    continue
        try:
            return await self._existing(session_id)
        except StoreUnavailable as error:
            if not event_ids:
                raise
            raise AppendOutcomeUnknown(session_id, event_ids, f"it was created, then {error}") from error

    async def get_session(
        self, session_id: str, *, at_version: int | None = None, at: datetime | None = None
    ) -> Session | None:
        """Return a session, None if it does not exist.

        Args:
            session_id: The session.
            at_version: As it was at this version of its log (0: before its first event) ...
            at: ... or at this time, by the server's clock; naive means UTC, a time to come means now.

        Raises:
            InvalidInput: Both were given, or the session has not come to that version yet.
        """
        if at_version is None and at is None:
            session = await self._here().queries.session(session_id)
        else:
            then = await self._past(session_id, at_version, at)
            session = SessionAt(session_id, then.version, then.state)
        return Session.of(session) if session and session.state.created_ms else None

    async def update_session(
        self,
        session_id: str,
        updates: Mapping[str, Any] | None = None,
        increment_requests: bool = False,
        add_processing_time: float = 0.0,
        mark_error: bool = False,
    ) -> bool:
        """Count a request, processing time or an error, and replace fields. Exact under any concurrency.

        Args:
            session_id: A session that exists.
            updates: New values: of ``user_id``, ``status`` (which an ended session keeps), ``metadata`` (merged), or of
                a counter. Other keys go into the metadata.
            increment_requests: Count one request.
            add_processing_time: Seconds, 0 or more.
            mark_error: Count one error.

        Returns:
            True.

        Raises:
            UnknownSession: The session does not exist; a thread that holds but checkpoints is none.
            InvalidInput: An argument cannot be accepted, or a field cannot be replaced.
        """
        updated = SessionUpdated(
            requests=int(_flag(increment_requests, "increment_requests")),
            errors=int(_flag(mark_error, "mark_error")),
            processing_time=seconds_of(add_processing_time, "add_processing_time"),
            changes=_checked_changes(dict_of(updates, "updates")),
        )
        await self._append_existing(session_id, updated)
        return True

    async def end_session(self, session_id: str, status: str = "completed") -> bool:
        """End a session. With the status ``cleared``, its current history becomes empty too; the log keeps everything.

        Returns:
            True.

        Raises:
            UnknownSession: The session does not exist; a thread that holds but checkpoints is none.
            InvalidInput: The status is empty or ``active``.
        """
        if text_of(status, "status") == ACTIVE:
            raise InvalidInput("A session cannot end as 'active': use completed, failed, expired, cleared ...")
        check_name(status, "status")
        ended: list[Event] = [SessionEnded(status)]
        await self._append_existing(session_id, *ended, *([HistoryCleared()] if status == CLEARED else []))
        return True

    async def list_sessions(
        self,
        status: str | None = None,
        user_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionPage:
        """Return sessions, the last active first.

        What had been written when it was called is in it. A session that becomes active while pages are being fetched
        moves to the front, so a walk over pages may meet it again or not at all.

        Args:
            status: Only sessions in this status.
            user_id: Only sessions of this user.
            limit: At most so many; None or 0 for all.
            cursor: The ``cursor`` of the previous page.

        Raises:
            InvalidInput: An argument cannot be accepted.
        """
        if status is not None:
            check_name(status, "status")
        if user_id is not None:
            check_name(user_id, "user id")
        page = await self._here().queries.sessions(status=status, user_id=user_id, limit=limit_of(limit), cursor=cursor)
        return SessionPage(map(Session.of, page.sessions), page.cursor)

    async def cleanup_inactive_sessions(self, max_idle_seconds: float = 1800) -> int:
        """End, as ``expired``, the active sessions in which nothing happened for so long. Nothing is deleted.

        A session in which something happens meanwhile stays active.

        Returns:
            How many sessions it ended.

        Raises:
            InvalidInput: The time is not a number from 0.
        """
        idle = seconds_of(max_idle_seconds, "max_idle_seconds")
        runtime = self._here()
        until = await runtime.store.now() - timedelta(seconds=idle)
        page = await runtime.queries.sessions(status=ACTIVE)
        stale = [
            Append(session.session_id, [SessionEnded(EXPIRED)], expected_version=session.version)
            for session in page.sessions
            if session.state.active_ms <= until.timestamp() * 1000
        ]
        results = await runtime.append_many(stale)
        failures = [r for r in results if isinstance(r, ContextEngineError) and not isinstance(r, WrongExpectedVersion)]
        if failures:
            raise failures[0]
        return sum(isinstance(result, Appended) for result in results)

    async def cleanup_expired_sessions(self, max_idle_hours: float = 24) -> int:
        """Do as `cleanup_inactive_sessions`, in hours."""
        return await self.cleanup_inactive_sessions(seconds_of(max_idle_hours, "max_idle_hours") * 3600)

    async def outcome(self, session_id: str, event_ids: Sequence[str]) -> Appended | None:
        """Return what became of a call that raised `AppendOutcomeUnknown`, None if nothing was stored.

        Args:
            session_id: The ``session_id`` of the error.
            event_ids: Its ``event_ids``.

        Raises:
            InvalidInput: An argument cannot be accepted.
            StoreUnavailable: The server is not back yet: ask again.
        """
        return await self._here().store.outcome(session_id, event_ids)

    async def _existing(self, session_id: str) -> Session:
        session = await self.get_session(session_id)
        if session is None:
            raise await self._unknown(session_id)
        return session

    async def _append_existing(self, session_id: str, *events: Event) -> None:
        runtime = self._here()
        if not await runtime.exists(session_id):
            raise await self._unknown(session_id)
        try:
            await runtime.append(session_id, *events, expected_version=EXISTS)
        except WrongExpectedVersion:  # it did exist, and its server came back with less
            raise UnknownSession(session_id) from None

    async def _unknown(self, session_id: str) -> UnknownSession:
        """Return what to say of a session that does not exist: whether it was forgotten."""
        forgotten = await self._here().store.forgotten(session_id)
        return SessionForgotten(session_id) if forgotten else UnknownSession(session_id)


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be True or False, not {shown(value)}.")
    return value


def _checked_changes(changes: dict[str, Any]) -> dict[str, Any]:
    """Refuse changes that would leave a session view of wrong types."""
    for name, value in changes.items():
        if name in FIXED:
            raise InvalidInput(f"updates may not replace {shown(name)}.")
        if name == "metadata":
            dict_of(value, "updates['metadata']")
        elif name in {"user_id", "status"}:
            check_name(value, name.replace("_", " "))
        elif name == "total_processing_time":
            seconds_of(value, f"updates[{shown(name)}]")
        elif name in COUNTERS:
            count_of(value, f"updates[{shown(name)}]")
    return changes
