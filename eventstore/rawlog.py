"""The log as it lies in the store, bytes and all: for those who check it, copy it out, and put it back.

`EventStore.read` gives events, and raises on what is none; here nothing is taken for granted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from eventstore.feed import FeedId, Pointer


class Head(NamedTuple):
    """A session's last version, and when it was recorded, in Unix milliseconds."""

    version: int
    recorded_ms: int


class RawEntry(NamedTuple):
    """An entry of a log. ``entry`` is None if it is not made of one field, as every entry of ours is."""

    version: int
    recorded_ms: int
    entry: bytes | None


class Pointers(NamedTuple):
    """What a partition's feed holds after a place.

    Attributes:
        pointers: The appends, oldest first.
        end: The place of the last of them.
        trimmed: Whether the feed has been trimmed at all, so that older appends may be missing.
        malformed: The places of entries that cannot be read.
    """

    pointers: list[Pointer]
    end: FeedId
    trimmed: bool
    malformed: list[FeedId]


class RawLog(Protocol):
    """What lies in a store."""

    def entries(self, session_id: str, *, after: int = 0, until: int | None = None) -> AsyncIterator[list[RawEntry]]:
        """Give the entries of a session's log whose versions are in these bounds, page by page, in stored order."""
        ...

    async def heads(self, partition: int) -> dict[str, Head]:
        """Return the heads of a partition's sessions. One that cannot be read is version 0."""
        ...

    async def head(self, session_id: str) -> Head | None:
        """Return the head of a session, None if it has none."""
        ...

    async def logs(self) -> set[str]:
        """Return the sessions that have a log, whether or not a head says so."""
        ...

    async def pointers(self, partition: int, after: FeedId = (0, 0)) -> Pointers:
        """Return what a partition's feed holds after a place."""
        ...

    async def restore(self, session_id: str, after: Head | None, entries: Sequence[tuple[int, bytes]]) -> Head | None:
        """Write entries with their own times behind a head, all or none, as an append would: log, feed and head.

        Args:
            session_id: The session.
            after: The head that the session must have; None if it must not exist.
            entries: For each, when it was recorded, in Unix milliseconds, and its bytes. Times must not go back.

        Returns:
            None if it was done. If the session is not as expected, nothing was written, and this is its head
            (version 0 if there is a log without a head).

        Raises:
            SessionForgotten: The session was forgotten; nothing was written.
        """
        ...
