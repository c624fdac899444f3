"""`open_views`: the views that belong to a store."""

from __future__ import annotations

from eventstore.errors import InvalidInput
from eventstore.memory.store import MemoryStore
from eventstore.redis.store import RedisStore
from eventstore.store import EventStore
from projections.memory import MemoryViews
from projections.redis.views import RedisViews
from projections.views import ViewStore


def open_views(store: EventStore) -> ViewStore:
    """Return the views that stand beside a log, on the same server or in the same memory.

    Raises:
        InvalidInput: The store is of a kind for which there are no views.
    """
    match store:
        case RedisStore():
            return RedisViews(store)
        case MemoryStore():
            return MemoryViews(store)
    raise InvalidInput(f"There are no views for a {type(store).__name__}.")
