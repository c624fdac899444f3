"""The log as it lies in the store, bytes and all: for those who check it, copy it out, and put it back.

`EventStore.read` gives events, and raises on what is none; here nothing is taken for granted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

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


class Archived(msgspec.Struct, frozen=True):
    """What a log says of the file that holds its beginning. It keeps the last entry of that itself, and what follows.

    Attributes:
        version: Up to which version the file holds it.
        recorded_ms: When that version was recorded.
        file: The file's name in the archive. None is given twice.
        sha256: The SHA-256 of the file, in hexadecimal.
        size: The file's bytes.
        begun_ms: When somebody began to archive it, in Unix milliseconds by the server's clock.
    """

    version: int
    recorded_ms: int
    file: str
    sha256: str
    size: int
    begun_ms: int


UNREADABLE = Archived(0, 0, "", "", 0, 0)
"""Stands for what a log says of a file where that cannot be read."""
ARCHIVING_MS = 3_600_000
"""How long after it was begun a file may become a log's. One of which no log tells later than that is left over."""


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
        """Give the entries of a session's log whose versions are in these bounds, page by page, in stored order.

        Raises:
            SessionArchived: Some of them lie in an archive, and the store has none.
            CorruptLog: The archive does not have what it should.
        """
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

    async def archived(self, session_id: str) -> Archived | None:
        """Return what a session's log says of a file in the archive, None if nothing."""
        ...

    async def all_archived(self, partition: int) -> dict[str, Archived]:
        """Return what the logs of a partition say of files in the archive."""
        ...

    async def archive(self, session_id: str, archived: Archived, before: Archived | None) -> bool:
        """Keep of a log its last entry alone, and note which file holds all of it, in one step.

        Args:
            session_id: The session.
            archived: The file, which must be there already.
            before: What the log says of a file so far.

        The file of before is released; see `released`.

        Returns:
            Whether it was done. It is not if the session has gone on since, if its log says of another file than
            ``before``, or if the file was begun longer than `ARCHIVING_MS` ago.
        """
        ...

    async def bring_back(self, session_id: str, archived: Archived) -> bool:
        """Put a log together again, out of the archive and what follows, and release the file.

        Args:
            session_id: The session.
            archived: What its log says of a file.

        Returns:
            Whether it was done. It is not if the log says of another file meanwhile, or of none.

        Raises:
            SessionArchived: The store has no archive.
            CorruptLog: The archive does not have what it should, or the log is damaged.
        """
        ...

    async def released(self, partition: int) -> dict[str, int]:
        """Return the files of which logs of a partition told once, and since when none does, in Unix milliseconds.

        They had better stay for some time: a server that fails may come back, or be replaced by one, with a log that
        still tells of them.
        """
        ...

    async def forget_released(self, partition: int, file: str) -> None:
        """Forget that a file was released, because it is gone."""
        ...
