"""The session view: who, since when, in which state, and what was counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from eventstore.events import (
    CheckpointStored,
    CheckpointWritesStored,
    CompactionConfigured,
    ContextDeleted,
    ContextSet,
    Event,
    HistoryCleared,
    HistoryCompacted,
    HistoryRewound,
    RecordedEvent,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
    UnknownEvent,
)
from eventstore.store import MAX_NUMBER
from projections.history import runs, size_of, size_of_all, takes_effect

ACTIVE = "active"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GLOBAL = "$global"
"""The stream of the context values that belong to no session."""
NO_SESSION = (CheckpointStored, CheckpointWritesStored, HistoryCompacted)
"""The events with which no session begins."""
COUNTERS = ("request_count", "error_count", "total_processing_time")
REPLACEABLE = frozenset({"user_id", "status", "metadata", *COUNTERS})
"""The fields that ``SessionUpdated.changes`` replaces. Any other key of it goes into the metadata."""


class SessionState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a session after some version of its log.

    Attributes:
        created_ms: When its first event happened, in Unix milliseconds; 0 while there is no session: a stream that
            holds but checkpoints, or the global context, is none.
        active_ms: When the last event happened.
        created: Whether somebody created it on purpose; otherwise it began with whatever came first.
        ended: Whether it has ended, whatever its status says.
        total_processing_time: In seconds.
        message_count: Messages ever added, compacted or cleared ones included.
        context_operations: Context values ever set or deleted.
        checkpoint_count: Checkpoints ever stored.
        history_messages: Messages of the current history, a summary left aside.
        history_bytes: Their size, as `projections.history.size_of` counts it.
        summary_bytes: The size of the summary with which the history begins; 0 if it begins with none.
        rewritten: The version of the last compaction, clear or rewinding of the history; 0 if it never was rewritten.
        compaction: The session's own settings for its compaction.
    """

    created_ms: int = 0
    active_ms: int = 0
    created: bool = False
    ended: bool = False
    user_id: str | None = None
    status: str = ACTIVE
    request_count: int = 0
    error_count: int = 0
    total_processing_time: float = 0.0
    message_count: int = 0
    context_operations: int = 0
    checkpoint_count: int = 0
    history_messages: int = 0
    history_bytes: int = 0
    summary_bytes: int = 0
    rewritten: int = 0
    compaction: dict[str, Any] = {}
    metadata: dict[str, Any] = {}

    @property
    def configured(self) -> int:
        """1 if it has settings of its own for its compaction, else 0."""
        return int(bool(self.compaction))


def fold(state: SessionState, events: Sequence[RecordedEvent]) -> SessionState:
    """Return the state after some more events.

    A session that nobody created counts each user message as a request, because nobody else counts them. A session that
    ended stays ended: only another end may change its status.
    """
    fields, only_messages = msgspec.structs.asdict(state), True
    for are_messages, run in runs(events):
        if are_messages:
            _take_messages(fields, run)
        else:
            only_messages = False
            for event in run:
                _take(fields, event)
    return _bounded(SessionState(**fields) if only_messages else _checked(fields))


def _take_messages(fields: dict[str, Any], events: Sequence[RecordedEvent]) -> None:
    """Take messages that follow each other: most events are messages, so these are counted together."""
    messages: list[Any] = [event.data for event in events]
    _note_time(fields, events[0])
    _note_time(fields, events[-1])
    fields["message_count"] += len(messages)
    fields["history_messages"] += len(messages)
    fields["history_bytes"] += size_of_all(messages)
    if not fields["created"]:
        fields["request_count"] += [message.role for message in messages].count("user")


def _take(fields: dict[str, Any], event: RecordedEvent) -> None:
    """Take an event that is no message."""
    _note_time(fields, event)
    _follow_history(fields, event)
    match event.data:
        case ContextSet() | ContextDeleted():
            fields["context_operations"] += 1
        case SessionStarted(user_id=user_id, metadata=metadata) if not fields["created"]:
            fields["created"] = True
            fields["user_id"] = user_id if user_id is not None else fields["user_id"]
            fields["metadata"] = fields["metadata"] | metadata
        case SessionUpdated() as update:
            fields["request_count"] += update.requests
            fields["error_count"] += update.errors
            fields["total_processing_time"] += update.processing_time
            _change(fields, update.changes)
        case SessionEnded(status=status):
            fields["status"], fields["ended"] = status, True
        case CheckpointStored():
            fields["checkpoint_count"] += 1
        case CompactionConfigured(settings=settings):
            fields["compaction"] = settings


def _note_time(fields: dict[str, Any], event: RecordedEvent) -> None:
    """Take an event as the session's beginning or as a sign of life. A compaction is neither: nobody said anything."""
    if isinstance(event.data, HistoryCompacted):
        return
    if fields["created_ms"] or begins_a_session(event.session_id, event.data):
        happened_ms = _happened_ms(event)
        fields["created_ms"] = fields["created_ms"] or happened_ms
        fields["active_ms"] = happened_ms


def _follow_history(fields: dict[str, Any], event: RecordedEvent) -> None:
    """Keep count of the current history, so that nobody has to load it in order to know how long it is."""
    match event.data:
        case HistoryCleared():
            fields |= {"history_messages": 0, "history_bytes": 0, "summary_bytes": 0, "rewritten": event.version}
        case HistoryCompacted() as compacted:
            if takes_effect(compacted, fields["rewritten"], fields["history_messages"]):
                fields["history_messages"] -= compacted.replaced
                fields["history_bytes"] = max(0, fields["history_bytes"] - compacted.replaced_bytes)
                fields["summary_bytes"] = size_of(compacted.summary if compacted.shown else None, None)
                fields["rewritten"] = event.version
        case HistoryRewound() as rewound if 0 < rewound.removed <= fields["history_messages"]:
            fields["history_messages"] -= rewound.removed
            fields["history_bytes"] = max(0, fields["history_bytes"] - rewound.removed_bytes)
            fields["rewritten"] = event.version


def _checked(fields: dict[str, Any]) -> SessionState:
    """Return the state, unless it could not be stored and read back: then the events are at fault.

    Raises:
        ValueError: A field has a wrong type, or is beyond all bounds.
        TypeError: A field has a wrong type.
    """
    fields["total_processing_time"] = float(fields["total_processing_time"])
    if not math.isfinite(fields["total_processing_time"]):
        raise ValueError("the total processing time is not finite")
    return msgspec.convert(fields, SessionState)


def _bounded(state: SessionState) -> SessionState:
    """Return the state, unless it has counters that no later event could add to."""
    if not max(abs(state.request_count), abs(state.error_count), abs(state.history_bytes)) <= MAX_NUMBER:
        raise ValueError("a counter is beyond all bounds")
    return state


def _happened_ms(event: RecordedEvent) -> int:
    """Return when an event happened: never after it was recorded, and above 0, which means that there is no session."""
    if event.occurred_at is None:
        return event.recorded_ms
    return min(max(1, (event.occurred_at - EPOCH) // timedelta(milliseconds=1)), event.recorded_ms)


def begins_a_session(session_id: str, event: Event | UnknownEvent) -> bool:
    """Return whether there is a session, once this event is in the stream."""
    return session_id != GLOBAL and not isinstance(event, NO_SESSION)


def _change(fields: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if name == "metadata":
            fields["metadata"] = fields["metadata"] | value
        elif name == "status":
            if not fields["ended"]:
                fields["status"] = value
        elif name in REPLACEABLE:
            fields[name] = value
        else:
            fields["metadata"] = fields["metadata"] | {name: value}
