"""What users get back: dicts that can also be read by attribute.

Agents and guides use both ways. An item is always JSON (dates as naive UTC in ISO 8601); an attribute that is a date is
a naive UTC datetime.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from projections import SessionAt
from projections.history import naive_iso


class Record(dict[str, Any]):
    """A dict whose items can be read as attributes."""

    DATES: ClassVar[frozenset[str]] = frozenset()

    def __getattr__(self, name: str) -> Any:
        """Return an item; a date as a datetime."""
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name!r}") from None
        return datetime.fromisoformat(value) if name in self.DATES and value is not None else value

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict."""
        return dict(self)


class Session(Record):
    """A session and its metrics.

    ``session_id``, ``user_id``, ``status``, ``created_at``, ``last_activity``, ``request_count``, ``error_count``,
    ``total_processing_time`` (seconds), ``metadata``; ``message_count`` (ever added) and ``version`` (of its log).
    """

    DATES = frozenset({"created_at", "last_activity"})

    @classmethod
    def of(cls, session: SessionAt) -> Session:
        """Make it from the session view."""
        state = msgspec.structs.asdict(session.state)
        return cls(
            session_id=session.session_id,
            user_id=state["user_id"],
            status=state["status"],
            created_at=naive_iso(state["created_ms"]),
            last_activity=naive_iso(state["active_ms"]),
            request_count=state["request_count"],
            error_count=state["error_count"],
            total_processing_time=state["total_processing_time"],
            metadata=state["metadata"],
            message_count=state["message_count"],
            version=session.version,
        )


class Message(Record):
    """A message of the current history.

    ``role``, ``content``, ``timestamp``, ``metadata``, ``version`` (its place in the session's log); and ``name``,
    ``tool_calls``, ``tool_call_id`` where the message has them.
    """

    DATES = frozenset({"timestamp"})


class SessionPage(list[Session]):
    """A list of sessions that knows where the next page begins: ``cursor``, None on the last page."""

    def __init__(self, sessions: Iterable[Session], cursor: str | None) -> None:
        """Take the sessions of a page."""
        super().__init__(sessions)
        self.cursor = cursor
