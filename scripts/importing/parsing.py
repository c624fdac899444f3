"""From the original's JSON to values: strictly, because what the original has not written like this is something else.

A time without a UTC offset is UTC, as the original means it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from contextengine.arguments import count_of, seconds_of
from eventstore import InvalidInput
from eventstore.events import JSON
from importing import Refused

T = TypeVar("T")


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of what the original writes."""


class Session(_Record, frozen=True):
    """A value of ``sessions``."""

    session_id: str
    user_id: str | None
    created_at: datetime
    last_activity: datetime
    request_count: int = 0
    error_count: int = 0
    total_processing_time: float = 0.0
    status: str = "active"


class Message(_Record, frozen=True):
    """An element of ``conversation:<session id>``. Agents' messages have who says what to whom in the metadata."""

    role: str
    content: JSON
    timestamp: datetime
    metadata: dict[str, JSON] | None = None


class Participant(_Record, frozen=True):
    """Somebody who takes part in a conversation of agents."""

    participant_id: str
    participant_type: str
    participant_role: str | None = None
    metadata: dict[str, JSON] | None = None


class AgentsConversation(_Record, frozen=True):
    """A value of ``conversation_sessions``."""

    session_id: str
    participants: list[Participant]
    session_type: str
    created_at: datetime
    last_activity: datetime
    metadata: dict[str, JSON] | None = None


class Checkpoint(_Record, frozen=True):
    """A value of ``checkpoints:<thread>``."""

    checkpoint_id: str
    thread_id: str
    data: dict[str, JSON]
    created_at: datetime
    metadata: dict[str, JSON] | None = None


class Writes(_Record, frozen=True):
    """A value of ``checkpoint_writes:<thread>``."""

    thread_id: str
    checkpoint_id: str
    task_id: str
    writes: list[JSON]
    created_at: datetime


TaskContext = dict[str, Any]
"""A value of ``task_contexts``."""


def parse(kind: type[T], raw: bytes, key: str) -> T:
    """Return what a value of the source says.

    Raises:
        Refused: It is not JSON, or not of this kind; names the key.
    """
    try:
        return msgspec.json.decode(raw, type=kind, strict=True)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refused(key, f"it cannot be read ({error})") from None


def require_same(said: str, stands: str, key: str) -> None:
    """Refuse a value that bears another name than the one under which it stands.

    Raises:
        Refused: It does.
    """
    if said != stands:
        raise Refused(key, f"it calls itself {said!r:.200}")


def utc(time: datetime, key: str) -> datetime:
    """Return a time as an aware one in UTC.

    Raises:
        Refused: UTC cannot express it.
    """
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise Refused(key, f"the time {time} is beyond all calendars") from None


def counters(session: Session, key: str) -> tuple[int, int, float]:
    """Return a session's requests, errors and processing time.

    Raises:
        Refused: One of them is negative, or beyond all bounds.
    """
    try:
        return (
            count_of(session.request_count, "request_count"),
            count_of(session.error_count, "error_count"),
            seconds_of(session.total_processing_time, "total_processing_time"),
        )
    except InvalidInput as error:
        raise Refused(key, str(error)) from None
