"""The history view: the messages that are the current conversation, oldest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from eventstore.events import HistoryCleared, MessageAdded, RecordedEvent

Message: TypeAlias = dict[str, Any]
"""``role``, ``content``, ``timestamp`` (naive UTC, ISO 8601), ``metadata``, ``version``; and ``name``, ``tool_calls``
and ``tool_call_id`` where the message has them."""


class HistoryChange(msgspec.Struct, frozen=True):
    """What some events do to a history, whatever it holds: so a fold never has to load it.

    Attributes:
        cleared: Whether what was there before goes.
        added: The messages that come after what remains.
    """

    cleared: bool = False
    added: tuple[Message, ...] = ()

    def apply(self, messages: Sequence[Message]) -> list[Message]:
        """Return the history after the change."""
        return [*(() if self.cleared else messages), *self.added]


def fold(change: HistoryChange, events: Iterable[RecordedEvent]) -> HistoryChange:
    """Return the change that some more events make."""
    cleared, added = change.cleared, list(change.added)
    for event in events:
        match event.data:
            case MessageAdded() as message:
                added.append(_message(event, message))
            case HistoryCleared():
                cleared, added = True, []
    return HistoryChange(cleared, tuple(added))


def _message(event: RecordedEvent, data: MessageAdded) -> Message:
    message: Message = {
        "role": data.role,
        "content": data.content,
        "timestamp": time_of(event),
        "metadata": data.metadata,
        "version": event.version,
    }
    if data.name is not None:
        message["name"] = data.name
    if data.tool_calls is not None:
        message["tool_calls"] = data.tool_calls
    if data.tool_call_id is not None:
        message["tool_call_id"] = data.tool_call_id
    return message


def time_of(event: RecordedEvent) -> str:
    """Write when an event happened as naive UTC: to the microsecond if it brought its own time, else as recorded."""
    if event.occurred_at is None:
        return naive_iso(event.recorded_ms)
    return event.occurred_at.replace(tzinfo=None).isoformat(timespec="microseconds")


def naive_iso(ms: int) -> str:
    """Write Unix milliseconds as naive UTC, because the agents that read it compare it with naive dates."""
    return datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
