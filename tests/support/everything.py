"""Everything that a store's server holds of its namespace, spelled out."""

from __future__ import annotations

from typing import Any

from eventstore import EventStore
from eventstore.redis.reading import keys_like
from eventstore.redis.store import RedisStore

READ: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "string": ("GET", ()),
    "hash": ("HGETALL", ()),
    "list": ("LRANGE", (0, -1)),
    "set": ("SMEMBERS", ()),
    "zset": ("ZRANGE", (0, -1, "WITHSCORES")),
    "stream": ("XRANGE", ("-", "+")),
}


async def everything(store: EventStore) -> bytes:
    """Return all keys that name the namespace, and all that they hold, one after the other."""
    assert isinstance(store, RedisStore)
    told = []
    async for key in keys_like(store.links, b"*" + store.namespace.encode() + b"*"):
        kind = (await store.links.call("TYPE", key)).decode()
        if kind != "none":
            command, arguments = READ[kind]
            told.append(key + b" " + _flat(await store.links.call(command, key, *arguments)))
    return b"\n".join(told)


def _flat(held: Any) -> bytes:
    if isinstance(held, bytes):
        return held
    if isinstance(held, list):
        return b" ".join(map(_flat, held))
    return str(held).encode()
