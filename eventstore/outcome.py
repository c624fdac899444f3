"""What became of an append whose reply was lost."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.errors import InvalidInput, shown
from eventstore.store import Appended, EventStore


async def outcome_of(store: EventStore, session_id: str, event_ids: Sequence[str]) -> Appended | None:
    """Look for events in a session's log, newest first. See `EventStore.outcome`."""
    if isinstance(event_ids, str) or not isinstance(event_ids, Sequence) or not event_ids:
        raise InvalidInput(f"event_ids must be those of an AppendOutcomeUnknown, not {shown(event_ids)}.")
    async for event in store.read(session_id, backwards=True):
        if event.event_id == event_ids[-1]:
            return Appended(session_id, event.version, list(event_ids))
    return None
