"""What can happen to a session: the event types, and an event as it stands in the log.

An event is a frozen value named in the past tense. It is stored as JSON, tagged with its type's name. A field may be
added with a default; any other change raises ``SCHEMA`` and adds an upcaster (see `eventstore.codec`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, TypeAlias

import msgspec

JSON: TypeAlias = Any
"""None, bool, int, finite float, str without lone surrogates, list of JSON, or dict of str to JSON."""


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag=True, omit_defaults=True, kw_only=True):
    """The base of all events.

    Attributes:
        occurred_at: When it happened, where that is not when it was recorded: an event that was imported keeps its
            original time here (aware; given by keyword). Views show it. The order is that of the versions all the same.
    """

    SCHEMA: ClassVar[int] = 1

    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class SessionStarted(Event, frozen=True):
    """Somebody created the session on purpose; a session also begins with whatever its first event is."""

    user_id: str | None = None
    metadata: dict[str, JSON] = {}


class SessionUpdated(Event, frozen=True):
    """Counters went up by these amounts, and these fields got new values.

    ``processing_time`` is in seconds.
    """

    requests: int = 0
    errors: int = 0
    processing_time: float = 0.0
    changes: dict[str, JSON] = {}


class SessionEnded(Event, frozen=True):
    """The session ended with a status such as ``completed``, ``failed``, ``expired`` or ``cleared``."""

    status: str


class MessageAdded(Event, frozen=True):
    """A message joined the conversation, in the shape of an OpenAI chat message."""

    role: str
    content: JSON
    metadata: dict[str, JSON] = {}
    name: str | None = None
    tool_calls: list[JSON] | None = None
    tool_call_id: str | None = None


class HistoryCleared(Event, frozen=True):
    """The current history became empty. The log keeps the messages."""


class HistoryCompacted(Event, frozen=True):
    """The oldest messages of the current history gave place to a summary, or just went. The log keeps them all.

    It has no effect where the history was rewritten meanwhile, by another compaction or a clear: ``base`` tells.

    Attributes:
        base: The version of the compaction or clear with which the history began when this was planned; 0 for none.
        first: The version of the oldest message that it stands for, earlier compactions included.
        last: The version of the newest message that it looked at.
        replaced: How many messages of the history went.
        replaced_bytes: Their size, as `projections.history.size_of` counts it.
        stands_for: How many messages it stands for, earlier compactions included.
        strategy: Who chose what goes.
        kept: The versions up to ``last`` that stay in the history, oldest first.
        summary: What the history says instead; None if it says nothing.
        role: The role of the message that says so.
        shown: Whether the summary is part of the history. If not, it is kept for the next compaction alone.
        summarizer: Who wrote the summary: a model's name, or ``extractive``.
        remark: What did not go as configured, and what was done instead.
        messages_before: Messages of the history before, an earlier summary included.
        messages_after: And after.
        tokens_before: Tokens of the history before, as the compactor's counter counts them.
        tokens_after: And after.
        left_out: How many of those that it stands for went without being summarized.
    """

    base: int
    first: int
    last: int
    replaced: int
    replaced_bytes: int
    stands_for: int
    strategy: str
    kept: list[int] = []
    summary: str | None = None
    role: str = "system"
    shown: bool = True
    summarizer: str | None = None
    remark: str | None = None
    messages_before: int = 0
    messages_after: int = 0
    tokens_before: int = 0
    tokens_after: int = 0
    left_out: int = 0


class HistoryRewound(Event, frozen=True):
    """The newest messages left the current history, which became what it was at an earlier version. The log keeps them.

    It has no effect where the history has fewer messages. Append it with an expected version: it counts from the end.

    Attributes:
        to: The version at which the history was as it became.
        removed: How many of the newest messages went.
        removed_bytes: Their size, as `projections.history.size_of` counts it.
    """

    to: int
    removed: int
    removed_bytes: int


class CompactionConfigured(Event, frozen=True):
    """The session got settings of its own for its compaction, in place of any earlier ones."""

    settings: dict[str, JSON] = {}


class ContextSet(Event, frozen=True):
    """A context key got a value."""

    key: str
    value: JSON


class ContextDeleted(Event, frozen=True):
    """A context key was removed."""

    key: str


class CheckpointStored(Event, frozen=True):
    """A workflow's checkpoint was stored, or stored again under its id."""

    checkpoint_id: str
    data: dict[str, JSON]
    metadata: dict[str, JSON] = {}


class CheckpointWritesStored(Event, frozen=True):
    """The intermediate writes of a task were stored beside a checkpoint, in place of the task's earlier ones."""

    checkpoint_id: str
    task_id: str
    writes: list[JSON]


class UnknownEvent(msgspec.Struct, frozen=True):
    """An event of a type that this version does not know: kept as it is, and passed over by the folds."""

    type: str
    fields: Mapping[str, JSON]


KnownEvent: TypeAlias = (
    SessionStarted
    | SessionUpdated
    | SessionEnded
    | MessageAdded
    | HistoryCleared
    | HistoryCompacted
    | HistoryRewound
    | CompactionConfigured
    | ContextSet
    | ContextDeleted
    | CheckpointStored
    | CheckpointWritesStored
)


class RecordedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as it stands in the log.

    Attributes:
        session_id: The session whose log holds it.
        version: Its place in the session: 1, 2, 3 ... without gaps.
        recorded_ms: When the server recorded it, in Unix milliseconds; never before the previous event's.
        event_id: Its UUIDv7, made by the client that appended it.
        data: The event, in the present shape of its type.
        meta: The caller's ``meta``.
        entry: The bytes in the log.
    """

    session_id: str
    version: int
    recorded_ms: int
    event_id: str
    data: Event | UnknownEvent
    meta: dict[str, Any]
    entry: bytes

    @property
    def type(self) -> str:
        """The name of the event's type."""
        return self.data.type if isinstance(self.data, UnknownEvent) else type(self.data).__name__

    @property
    def recorded_at(self) -> datetime:
        """When the server recorded it, as an aware UTC datetime."""
        return datetime.fromtimestamp(self.recorded_ms / 1000, UTC)

    @property
    def occurred_at(self) -> datetime | None:
        """When it happened, in UTC, if the event says so itself, and UTC can (the years 1 and 9999 end early there)."""
        own = None if isinstance(self.data, UnknownEvent) else self.data.occurred_at
        try:
            return own and own.astimezone(UTC)
        except OverflowError:
            return None
