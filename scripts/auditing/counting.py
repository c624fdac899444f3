"""How much there is to do, for the progress."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore import EventStore
from eventstore.raw import open_raw


async def events_of(store: EventStore, session_ids: Sequence[str] | None) -> int:
    """Return how many events some sessions have, or all, as their heads say: in a damaged store, about."""
    raw = open_raw(store)
    if session_ids:
        heads = [await raw.head(session_id) for session_id in session_ids]
        return sum(head.version for head in heads if head is not None)
    return sum([head.version for number in range(store.partitions) for head in (await raw.heads(number)).values()])
