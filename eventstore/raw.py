"""`open_raw`: the log as it lies in a store."""

from __future__ import annotations

from eventstore.errors import InvalidInput
from eventstore.memory.raw import MemoryRaw
from eventstore.memory.store import MemoryStore
from eventstore.rawlog import RawLog
from eventstore.redis.raw import RedisRaw
from eventstore.redis.store import RedisStore
from eventstore.store import EventStore


def open_raw(store: EventStore) -> RawLog:
    """Return the log as it lies in a store.

    Raises:
        InvalidInput: The store is of a kind that cannot be looked into.
    """
    match store:
        case RedisStore():
            return RedisRaw(store)
        case MemoryStore():
            return MemoryRaw(store)
    raise InvalidInput(f"It cannot be looked into a {type(store).__name__}.")
