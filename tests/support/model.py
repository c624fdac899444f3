"""An oracle: what sessions must look like, told a second time from the documentation, in the plainest way.

It keeps every event of every session in a list and answers each question by looking through the whole list. It shares
nothing with the projections but the types of the events, so that the two can only agree by both being right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from eventstore import (
    ANY,
    EXISTS,
    NO_STREAM,
    CheckpointStored,
    CheckpointWritesStored,
    CompactionConfigured,
    ContextDeleted,
    ContextSet,
    HistoryCompacted,
    MessageAdded,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
)
from eventstore.store import ExpectedVersion
from support.conversation import Conversation, Logged

ACTIVE = "active"
CONFLICTING_EVENTS = 100
"""The most events that a conflict carries."""


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal and of equal types: ``1``, ``1.0`` and ``True`` all differ."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)


class Oracle:
    """Every event of every session, and what they add up to."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Logged]] = {}

    def version(self, session_id: str) -> int:
        """Return how many events a session has."""
        return len(self.logs.get(session_id, []))

    def accepts(self, session_id: str, expected: ExpectedVersion) -> bool:
        """Return whether an append that expects this may happen."""
        version = self.version(session_id)
        names = {ANY: True, NO_STREAM: version == 0, EXISTS: version > 0}
        return expected == version if isinstance(expected, int) else names[expected]

    def missed(self, session_id: str, expected: ExpectedVersion) -> list[Logged]:
        """Return the events of which an append that expects this does not know."""
        known = expected if isinstance(expected, int) else 0
        return self.logs.get(session_id, [])[known:][:CONFLICTING_EVENTS]

    def append(self, session_id: str, events: Sequence[Logged]) -> int:
        """Add events to a session and return its version."""
        self.logs.setdefault(session_id, []).extend(events)
        return self.version(session_id)

    def events(self, session_id: str, at: int | None = None) -> list[Logged]:
        """Return a session's events, up to a version if one is given."""
        return self.logs.get(session_id, [])[:at]

    def history(self, session_id: str, at: int | None = None) -> list[dict[str, Any]]:
        """Return the messages of the current history as they were added, without their timestamps."""
        return Conversation(self.events(session_id, at)).history()

    def compaction(self, session_id: str, at: int | None = None) -> tuple[int, HistoryCompacted] | None:
        """Return what stands for the messages that went, and its version; None if nothing does."""
        conversation = Conversation(self.events(session_id, at))
        return (conversation.rewritten, conversation.compaction) if conversation.compaction else None

    def shown(self, session_id: str, last: int | None = None) -> list[dict[str, Any]]:
        """Return what a reader is shown: a summary first, if there is one, and then the newest; ``last`` in all."""
        summary = Conversation(self.events(session_id)).summary()
        messages = self.history(session_id)
        if summary is None:
            return messages if last is None else messages[-last:]
        beside = len(messages) if last is None else min(last - 1, len(messages))
        return [summary, *messages[len(messages) - beside :]]

    def context(self, session_id: str, at: int | None = None) -> dict[str, Any]:
        """Return the context: of each key, the value that it was last set to, unless it was deleted later."""
        touched = [e for e in self.events(session_id, at) if isinstance(e, ContextSet | ContextDeleted)]
        last = {event.key: event for event in touched}
        return {key: event.value for key, event in last.items() if isinstance(event, ContextSet)}

    def session(self, session_id: str, at: int | None = None) -> dict[str, Any] | None:
        """Return the fields of a stream, which may be no session; None if it has no events."""
        events = self.events(session_id, at)
        if not events:
            return None
        return {
            "created": any(isinstance(event, SessionStarted) for event in events),
            "ended": any(isinstance(event, SessionEnded) for event in events),
            "user_id": _user_id(events),
            "status": _status(events),
            "request_count": _counted(events, "request_count", _requests(events), 0),
            "error_count": _counted(events, "error_count", _each(events, "errors"), 0),
            "total_processing_time": _counted(events, "total_processing_time", _each(events, "processing_time"), 0.0),
            "metadata": _metadata(events),
            "message_count": sum(isinstance(event, MessageAdded) for event in events),
            "context_operations": sum(isinstance(event, ContextSet | ContextDeleted) for event in events),
            "checkpoint_count": sum(isinstance(event, CheckpointStored) for event in events),
            **Conversation(events).figures(),
            "compaction": [{}, *(event.settings for event in events if isinstance(event, CompactionConfigured))][-1],
        }

    def began(self, session_id: str, at: int | None = None) -> int | None:
        """Return the version of the event with which a session began; None of a stream that is no session.

        Checkpoints, their writes and compactions alone make no session, and nothing makes one of the global stream.
        """
        if session_id == "$global":
            return None
        for version, event in enumerate(self.events(session_id, at), 1):
            if not isinstance(event, CheckpointStored | CheckpointWritesStored | HistoryCompacted):
                return version
        return None

    def last_active(self, session_id: str, at: int | None = None) -> int | None:
        """Return the version of the newest event of a session that is a sign of life: a compaction is none."""
        if self.began(session_id, at) is None:
            return None
        events = enumerate(self.events(session_id, at), 1)
        return max(version for version, event in events if not isinstance(event, HistoryCompacted))

    def checkpoints(self, session_id: str, at: int | None = None) -> list[dict[str, Any]]:
        """Return each checkpoint as it was last stored, the last stored first, without the time."""
        newest: list[dict[str, Any]] = []
        for version, event in reversed([*enumerate(self.events(session_id, at), 1)]):
            if isinstance(event, CheckpointStored) and event.checkpoint_id not in [c["checkpoint_id"] for c in newest]:
                newest.append(
                    {
                        "checkpoint_id": event.checkpoint_id,
                        "thread_id": session_id,
                        "data": event.data,
                        "metadata": event.metadata,
                        "version": version,
                    }
                )
        return newest

    def writes(self, session_id: str, checkpoint_id: str, at: int | None = None) -> list[dict[str, Any]]:
        """Return the writes beside a checkpoint: the last ones of each task, the last stored last."""
        newest: list[dict[str, Any]] = []
        for version, event in reversed([*enumerate(self.events(session_id, at), 1)]):
            if (
                isinstance(event, CheckpointWritesStored)
                and event.checkpoint_id == checkpoint_id
                and event.task_id not in [writes["task_id"] for writes in newest]
            ):
                newest.append({"task_id": event.task_id, "writes": event.writes, "version": version})
        return newest[::-1]

    def checkpoint_ids(self, session_id: str) -> set[str]:
        """Return the ids of all checkpoints that were ever stored, or written beside."""
        stored = [e for e in self.events(session_id) if isinstance(e, CheckpointStored | CheckpointWritesStored)]
        return {event.checkpoint_id for event in stored}

    def listed(self, *, status: str | None = None, user_id: str | None = None) -> set[str]:
        """Return the sessions in a status, of a user, or both."""
        sessions = {session_id: self.session(session_id) or {} for session_id in self.logs if self.began(session_id)}
        return {
            session_id
            for session_id, session in sessions.items()
            if status in (None, session["status"]) and user_id in (None, session["user_id"])
        }

    def totals(self) -> dict[str, int]:
        """Return the counts over all streams, of which only some are sessions."""
        streams = [self.session(session_id) or {} for session_id, log in self.logs.items() if log]
        return {
            "sessions": len(self.listed()),
            "active_sessions": len(self.listed(status="active")),
            "messages": sum(stream["message_count"] for stream in streams),
            "context_operations": sum(stream["context_operations"] for stream in streams),
            "checkpoints": sum(stream["checkpoint_count"] for stream in streams),
            "events": sum(map(len, self.logs.values())),
            "configured": sum(stream["compaction"] != {} for stream in streams),
        }


def happened(event: Logged, recorded_ms: int) -> datetime:
    """Return when an event happened: when it says so itself, else when it was recorded."""
    own = getattr(event, "occurred_at", None)
    return own or datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=recorded_ms)


def happened_ms(event: Logged, recorded_ms: int) -> int:
    """Return the same for a session, which began after 1970, and where nothing has happened in the future yet."""
    at = happened(event, recorded_ms) - datetime(1970, 1, 1, tzinfo=UTC)
    return min(max(1, (at.days * 86_400 + at.seconds) * 1000 + at.microseconds // 1000), recorded_ms)


def _start(events: Sequence[Logged]) -> int:
    """Return the place of the event by which the session was created; the number of events if it was not."""
    return next((i for i, event in enumerate(events) if isinstance(event, SessionStarted)), len(events))


def _changes(event: Logged) -> Mapping[str, Any]:
    return event.changes if isinstance(event, SessionUpdated) else {}


def _user_id(events: Sequence[Logged]) -> str | None:
    """Return the user that was named last; only the first start counts, and one without a user leaves it as it was."""
    named = [_changes(event).get("user_id") for event in events]
    start = _start(events)
    if start < len(events):
        created = events[start]
        assert isinstance(created, SessionStarted)
        named[start] = created.user_id
    return next((user_id for user_id in reversed(named) if user_id is not None), None)


def _status(events: Sequence[Logged]) -> str:
    """Return how it ended last; if it did not, the status that it was last updated to; otherwise ``active``."""
    ends = [event.status for event in events if isinstance(event, SessionEnded)]
    if ends:
        return ends[-1]
    updates = [_changes(event)["status"] for event in events if "status" in _changes(event)]
    return str([ACTIVE, *updates][-1])


def _requests(events: Sequence[Logged]) -> list[int]:
    """Return how many requests each event counts: a user's message is one, until somebody creates the session."""
    start = _start(events)
    return [
        event.requests
        if isinstance(event, SessionUpdated)
        else int(isinstance(event, MessageAdded) and event.role == "user" and i < start)
        for i, event in enumerate(events)
    ]


def _each(events: Sequence[Logged], field: str) -> list[Any]:
    return [getattr(event, field) if isinstance(event, SessionUpdated) else 0 for event in events]


def _counted(events: Sequence[Logged], counter: str, amounts: Sequence[Any], zero: float) -> Any:
    """Return what a counter was last replaced by, and what has been counted since."""
    replaced = [i for i, event in enumerate(events) if counter in _changes(event)]
    value = _changes(events[replaced[-1]])[counter] if replaced else zero
    for amount in amounts[replaced[-1] + 1 :] if replaced else amounts:
        value += amount
    return value


def _metadata(events: Sequence[Logged]) -> dict[str, Any]:
    """Return all metadata, merged key by key; an update's unknown keys are metadata too."""
    fields = {"user_id", "status", "request_count", "error_count", "total_processing_time", "metadata"}
    merged: dict[str, Any] = {}
    for i, event in enumerate(events):
        if isinstance(event, SessionStarted) and i == _start(events):
            merged |= event.metadata
        for name, value in _changes(event).items():
            if name == "metadata":
                merged |= value
            elif name not in fields:
                merged[name] = value
    return merged
