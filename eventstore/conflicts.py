"""A conflict that bears all that got there first, where a part of it lies in the archive."""

from __future__ import annotations

import contextlib

from eventstore.errors import CorruptLog, SessionArchived, StoreUnavailable, WrongExpectedVersion
from eventstore.store import EventStore

CONFLICTING_EVENTS = 100
"""The most events that a conflict bears."""


async def told_in_full(store: EventStore, conflict: WrongExpectedVersion) -> WrongExpectedVersion:
    """Return a conflict that bears the events that got there first, also where the log has them in the archive.

    If the archive cannot be read, it bears those that the log has: what is sure is that nothing was written.
    """
    after = conflict.expected if isinstance(conflict.expected, int) else 0
    if conflict.events and conflict.events[0].version > after + 1:
        with contextlib.suppress(SessionArchived, CorruptLog, StoreUnavailable):
            conflict.events = await store.read(
                conflict.session_id, after=after, until=conflict.version, limit=CONFLICTING_EVENTS
            )
    return conflict
