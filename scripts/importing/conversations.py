"""The messages of a conversation, as events in the order in which they were said."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

from eventstore import MessageAdded
from importing import Planned, Refused
from importing.ordering import chronological
from importing.parsing import Message, parse, utc
from importing.source import Source, changed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Conversation:
    """A conversation whose order is known. Its messages are read anew each time that they are asked for."""

    def __init__(self, source: Source, session_id: str, times: Sequence[int], *, offset_at_tail: bool) -> None:
        """Take the times of its messages, from the list's tail on. See `look`."""
        self._source = source
        self._id = session_id
        self._times = times
        self._order = chronological(times, offset_at_tail=offset_at_tail)

    @classmethod
    async def look(cls, source: Source, session_id: str, messages: int) -> Conversation:
        """Find out in which order its messages were said.

        Raises:
            Refused: One of them cannot be imported.
        """
        times, offset_at_tail = array("q"), False
        async for place, message, key in _read(source, session_id, range(messages)):
            times.append((utc(message.timestamp, key) - _EPOCH) // _MICROSECOND)
            if place == 0:
                offset_at_tail = message.timestamp.tzinfo is not None
        return cls(source, session_id, times, offset_at_tail=offset_at_tail)

    @property
    def began(self) -> datetime | None:
        """When the oldest message was said."""
        return _EPOCH + self._times[self._order[0]] * _MICROSECOND if self._order else None

    async def events(self) -> AsyncIterator[Planned]:
        """Give the messages, oldest first.

        Raises:
            Refused: One of them cannot be imported, or is not the one that stood there before.
        """
        async for place, message, key in _read(self._source, self._id, self._order):
            said_at = utc(message.timestamp, key)
            if (said_at - _EPOCH) // _MICROSECOND != self._times[place]:
                raise changed(self._id)
            yield Planned(MessageAdded(message.role, message.content, message.metadata or {}, occurred_at=said_at), key)


async def _read(source: Source, session_id: str, places: Sequence[int]) -> AsyncIterator[tuple[int, Message, str]]:
    async for place, raw in source.messages(session_id, places):
        key = f"conversation:{session_id} at {-1 - place}"
        message = parse(Message, raw, key)
        if not message.role:
            raise Refused(key, "its role is empty")
        yield place, message, key
