"""What a store can do for a session to be forgotten. Each step may be done again, and comes to the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from eventstore.errors import InvalidInput
from eventstore.memory.store import MemoryStore
from eventstore.rawlog import RawEntry
from eventstore.redis.store import RedisStore
from eventstore.store import EventStore
from projections.forgetting.graves import Grave
from projections.forgetting.memory import MemoryEraser
from projections.redis.erasing import RedisEraser


class Eraser(Protocol):
    """Erases a session from a store, step by step. `projections.forgetting.forgetter` knows the order."""

    async def hide(self, session_id: str, tombstone: bytes) -> bytes | None:
        """Put a session out of sight in one step: from then on it takes no appends, and reads as one that never was.

        Its views, of whatever generation, its places in lists, what totals count of it, and what is kept beside its
        log are gone for good. The log itself is put aside, where nobody reads it.

        Args:
            session_id: The session.
            tombstone: What is left in its place, unless there is a tombstone already.

        Returns:
            The tombstone that is there now; None if there is no such session, and nothing was done.

        Raises:
            CorruptLog: A view of it cannot be read, so it is not known in which lists it stands. Nothing was done.
            NotPermitted: The user may not erase. Nothing was done.
        """
        ...

    def aside(self, grave: Grave, *, after: int) -> AsyncIterator[list[RawEntry]]:
        """Give the entries of a log that was put aside, after a version, page by page."""
        ...

    async def keep(self, grave: Grave, tombstone: bytes) -> None:
        """Put another tombstone in the place of the one that is there."""
        ...

    async def unpoint(self, grave: Grave) -> None:
        """Take a session out of the feed. What the same entries tell of other sessions is told again, at its end."""
        ...

    async def bury(self, grave: Grave, tombstone: bytes) -> None:
        """Let go of the log that was put aside, and leave this tombstone, in one step."""
        ...

    async def tombstone(self, grave: Grave) -> bytes | None:
        """Return the tombstone of a session, None if it has none."""
        ...

    async def tombstones(self, partition: int) -> dict[Grave, bytes]:
        """Return the tombstones of a partition."""
        ...

    async def remains(self) -> dict[str, list[str]]:
        """Return what there is of sessions that have a tombstone, by `Grave.field`: names of keys.

        Keys alone are looked at, not what stands in lists and feeds.
        """
        ...


def open_eraser(store: EventStore) -> Eraser:
    """Return what erases sessions from a store.

    Raises:
        InvalidInput: The store is of a kind from which nothing can be erased.
    """
    match store:
        case RedisStore():
            return RedisEraser(store)
        case MemoryStore():
            return MemoryEraser(store)
    raise InvalidInput(f"Nothing can be erased from a {type(store).__name__}.")
