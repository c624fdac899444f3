"""The session view: who, since when, in which state, and what was counted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from eventstore.events import (
    CheckpointStored,
    CheckpointWritesStored,
    ContextDeleted,
    ContextSet,
    Event,
    MessageAdded,
    RecordedEvent,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
    UnknownEvent,
)
from eventstore.store import MAX_NUMBER

ACTIVE = "active"
GLOBAL = "$global"
"""The stream of the context values that belong to no session."""
COUNTERS = ("request_count", "error_count", "total_processing_time")
REPLACEABLE = frozenset({"user_id", "status", "metadata", *COUNTERS})
"""The fields that ``SessionUpdated.changes`` replaces. Any other key of it goes into the metadata."""


class SessionState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a session after some version of its log.

    Attributes:
        created_ms: When its first event was recorded, in Unix milliseconds; 0 while there is no session: a stream that
            holds but checkpoints, or the global context, is none.
        active_ms: When the last event was recorded.
        created: Whether somebody created it on purpose; otherwise it began with whatever came first.
        ended: Whether it has ended, whatever its status says.
        total_processing_time: In seconds.
        message_count: Messages ever added, compacted or cleared ones included.
        context_operations: Context values ever set or deleted.
        checkpoint_count: Checkpoints ever stored.
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
    metadata: dict[str, Any] = {}


def fold(state: SessionState, events: Iterable[RecordedEvent]) -> SessionState:
    """Return the state after some more events.

    A session that nobody created counts each user message as a request, because nobody else counts them. A session that
    ended stays ended: only another end may change its status.
    """
    fields = msgspec.structs.asdict(state)
    for event in events:
        if fields["created_ms"] or begins_a_session(event.session_id, event.data):
            fields["created_ms"] = fields["created_ms"] or event.recorded_ms
            fields["active_ms"] = event.recorded_ms
        match event.data:
            case MessageAdded(role=role):
                fields["message_count"] += 1
                fields["request_count"] += role == "user" and not fields["created"]
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
    return _checked(fields)


def _checked(fields: dict[str, Any]) -> SessionState:
    """Return the state, unless it could not be stored and read back: then the events are at fault.

    Raises:
        ValueError: A field has a wrong type, or is beyond all bounds.
        TypeError: A field has a wrong type.
    """
    fields["total_processing_time"] = float(fields["total_processing_time"])
    if not math.isfinite(fields["total_processing_time"]):
        raise ValueError("the total processing time is not finite")
    if not all(abs(fields[name]) <= MAX_NUMBER for name in ("request_count", "error_count")):
        raise ValueError("a counter is beyond all bounds")
    return msgspec.convert(fields, SessionState)


def begins_a_session(session_id: str, event: Event | UnknownEvent) -> bool:
    """Return whether there is a session, once this event is in the stream."""
    return session_id != GLOBAL and not isinstance(event, CheckpointStored | CheckpointWritesStored)


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
