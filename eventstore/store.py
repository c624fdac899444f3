"""What an event store is: the protocol that every implementation serves, and the values that it takes and gives."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, Self, TypeAlias

import msgspec

from eventstore.archive.places import Archive
from eventstore.durability import ACCEPTED, Durability
from eventstore.errors import ContextEngineError, InvalidInput, shown
from eventstore.events import Event, RecordedEvent
from eventstore.feed import Feed, Pointer, Position

DEFAULT_NAMESPACE = "contextengine"
MAX_NUMBER = 2**53 - 1
"""The largest version, bound or count: what Lua's numbers can hold exactly."""
PAGE = 250
"""Events in one page of a long read. Each is parsed into two lists, and at 700 of them the garbage collector would
start while all are there."""


class Expected(enum.Enum):
    """What an append may expect of its session, other than a version number."""

    ANY = "any version"
    NO_STREAM = "no stream yet"
    EXISTS = "an existing stream"


ANY = Expected.ANY
NO_STREAM = Expected.NO_STREAM
EXISTS = Expected.EXISTS
ExpectedVersion: TypeAlias = Expected | int
"""``ANY``, ``NO_STREAM``, ``EXISTS``, or the number of events that the session must have (0 is NO_STREAM)."""


class Appended(msgspec.Struct, frozen=True, gc=False):
    """What an append did.

    Attributes:
        session_id: The session.
        version: The session's version after it: that of the last appended event.
        event_ids: The ids of the appended events, oldest first.
        durability: The level that is known to be reached.
    """

    session_id: str
    version: int
    event_ids: list[str]
    durability: Durability = ACCEPTED


class Append(msgspec.Struct, frozen=True):
    """One session's part of an `EventStore.append_many`."""

    session_id: str
    events: Sequence[Event]
    expected_version: ExpectedVersion = ANY
    meta: Mapping[str, Any] | None = None


class Reading:
    """A read that has not begun: await it for the whole list, or iterate over it, which holds one page at a time."""

    def __init__(self, pages: Callable[[], AsyncGenerator[list[RecordedEvent], None]]) -> None:
        """Keep how to begin."""
        self.pages = pages

    def __await__(self) -> Generator[Any, None, list[RecordedEvent]]:
        """Read everything into a list."""
        return self._collect().__await__()

    async def __aiter__(self) -> AsyncIterator[RecordedEvent]:
        """Read page after page, holding one page at a time."""
        async with contextlib.aclosing(self.pages()) as pages:  # who stops early leaves no page on its way
            async for page in pages:
                for event in page:
                    yield event

    async def _collect(self) -> list[RecordedEvent]:
        return [event async for page in self.pages() for event in page]


class EventStore(Protocol):
    """The log: one append-only stream of events per session."""

    namespace: str
    partitions: int
    archive: Archive | None
    """Where the logs lie that were archived, if the store was opened with such a place."""
    durability: Durability
    """The level of appends that name none."""

    @property
    def feed(self) -> Feed:
        """What workers follow."""
        ...

    async def append(
        self,
        session_id: str,
        events: Sequence[Event] | Event,
        *,
        expected_version: ExpectedVersion = ANY,
        meta: Mapping[str, Any] | None = None,
        durability: str | None = None,
    ) -> Appended:
        """Append events to a session, all or none, in one round trip.

        Args:
            session_id: 1 to 512 bytes in UTF-8. The session begins with its first event.
            events: One to 1,000 events. The encoded size of each is limited, to 1 MiB by default.
            expected_version: What the session must be for the append to happen.
            meta: A JSON object kept beside each event, such as ``{"actor": ..., "correlation_id": ...}``.
            durability: The level to wait for: ``accepted``, ``fsynced``, ``replicated`` or ``replicated:<replicas>``;
                see `Durability`. Left out, that of the store.

        Raises:
            InvalidInput: An argument cannot be accepted.
            WrongExpectedVersion: The session is not as expected; carries the events that got there first.
            SessionForgotten: The session was forgotten. Nothing was written.
            StoreUnavailable: The server could not be reached. Nothing was written.
            StoreRefused: The server answered with an error. Nothing was written.
            AppendOutcomeUnknown: The server went away in between and did not come back in time.
            DurabilityNotReached: The events are in the log, and it is not known that they reached the level.
            ServerUnfit: The server cannot reach the level at all. Nothing was written.
        """
        ...

    async def append_many(
        self, appends: Sequence[Append], *, durability: str | None = None
    ) -> list[Appended | ContextEngineError]:
        """Append to several sessions in one go: one result per append, in their order.

        Each append is atomic by itself; one that fails has its exception in its place and does not touch the others.

        Raises:
            InvalidInput: An argument of one of them cannot be accepted. Nothing was written for any.
            ServerUnfit: The server cannot reach the level. Nothing was written for any.
        """
        ...

    async def outcome(self, session_id: str, event_ids: Sequence[str]) -> Appended | None:
        """Return what became of an append that raised `AppendOutcomeUnknown`, None if nothing was stored.

        Ask the store that raised: it first makes sure that the lost append cannot arrive any more.

        Args:
            session_id: The ``session_id`` of the error.
            event_ids: Its ``event_ids``.

        Raises:
            InvalidInput: An argument cannot be accepted.
            StoreUnavailable: The server is not back yet.
        """
        ...

    def read(
        self,
        session_id: str,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Reading:
        """Read a session's events in order of version; an unknown session has none.

        Args:
            session_id: The session.
            after: Only events with a greater version.
            until: Only events up to and including this version.
            limit: At most this many events.
            backwards: Newest first.

        Raises:
            InvalidInput: A bound is not an int, or is negative.
            StoreUnavailable: The server cannot be reached.
            SessionForgotten: The session was forgotten while it was read.
            CorruptLog: An entry cannot be read.
        """
        ...

    def read_all(self, *, after: Position | None = None) -> Reading:
        """Read the events of all sessions, each session's in order of version.

        Without ``after``: everything that is in the logs, session by session. With ``after``: what was appended since
        that position, in the order of the partitions' feeds; an event near the position may come again.

        Raises:
            InvalidInput: The position is of another store, or the feeds have been trimmed past it.
            LogForked: The feeds do not hold the position: they have lost what was there.
            StoreUnavailable: The server cannot be reached.
        """
        ...

    def heads(self) -> AsyncIterator[Pointer]:
        """Give every session once, pointing at the whole of its log. One that begins meanwhile may be left out."""
        ...

    async def position(self) -> Position:
        """Return where the feeds stand now, for a later ``read_all(after=...)``."""
        ...

    def subscribe(self, session_id: str, *, after: int | RecordedEvent = 0) -> AsyncGenerator[RecordedEvent, None]:
        """Give a session's events after a version, and then each new one as it is appended, without gap or double.

        Args:
            session_id: The session.
            after: A version, or the last event that was seen, which tells more: that the log holds it still.

        Raises:
            StoreUnavailable: The server went away for longer than the store's timeout. Subscribe again after the last
                version seen.
            SessionForgotten: The session was forgotten.
            LogForked: The log does not hold any more what was seen of it.
        """
        ...

    async def version(self, session_id: str) -> int:
        """Return the version of a session: how many events were ever appended. 0 if it does not exist."""
        ...

    async def forgotten(self, session_id: str) -> bool:
        """Return whether a session was forgotten: it reads as one that does not exist, and takes no appends."""
        ...

    async def now(self) -> datetime:
        """Return the time by the clock that stamps the events, as an aware UTC datetime."""
        ...

    async def aclose(self) -> None:
        """Let go of connections, and of an embedded server if this was its last user."""
        ...

    async def __aenter__(self) -> Self:
        """Return the store."""
        ...

    async def __aexit__(self, *exc: object) -> None:
        """Close the store."""
        ...


def check_bounds(after: object, until: object, limit: object) -> None:
    """Refuse bounds of a read that are no numbers (``until`` and ``limit`` may be None).

    Raises:
        InvalidInput: One is something else.
    """
    check_number("after", after)
    for name, value in (("until", until), ("limit", limit)):
        if value is not None:
            check_number(name, value)


def seen(session_id: str, after: object) -> tuple[int, str]:
    """Return the version after which somebody subscribes, and the place of the event there, as far as it is known.

    Raises:
        InvalidInput: It is no version, and no event of the session.
    """
    if not isinstance(after, RecordedEvent):
        version = check_number("after", after)
        return version, str(version)
    if after.session_id != session_id:
        raise InvalidInput(f"The event is of session {after.session_id!r}, not of {session_id!r}.")
    return after.version, f"{after.version}-{after.recorded_ms}"


def check_number(name: str, value: object) -> int:
    """Return a whole number that every part of the way can hold: from 0 to 2**53 - 1.

    Raises:
        InvalidInput: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_NUMBER:
        raise InvalidInput(f"{name} must be a whole number from 0 to 2**53 - 1, not {_shown(value)}.")
    return value


def _shown(value: object) -> str:
    return shown(value) if not isinstance(value, int) or abs(value) <= MAX_NUMBER else "a larger one"
