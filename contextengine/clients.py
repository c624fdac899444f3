"""`get_redis_client`: a redis-py client from what applications usually know of their server."""

from __future__ import annotations

import os

from redis.asyncio import Redis

from eventstore.errors import InvalidInput, UnknownStoreUrl


async def get_redis_client(
    host: str | None = None,
    port: int | None = None,
    db: int | None = None,
    password: str | None = None,
    ssl: bool = False,
) -> Redis:
    """Return a client for ``ContextEngine(redis_client=...)``. It connects when it is first used; close it after use.

    Args:
        host: The server; without it, and without any of the following, the environment says where the server is:
            ``CONTEXTENGINE_URL`` or ``REDIS_URL``, else ``REDIS_HOST``, ``REDIS_PORT``, ``REDIS_DB``, and
            ``REDIS_PASSWORD``.
        port: 6379 by default.
        db: 0 by default.
        password: If the server wants one.
        ssl: Whether to speak TLS.

    Raises:
        InvalidInput: A number in the environment is none.
        UnknownStoreUrl: The environment names a store that is no Redis.
    """
    url = os.environ.get("CONTEXTENGINE_URL") or os.environ.get("REDIS_URL")
    if url is not None and (host, port, db, password) == (None, None, None, None):
        try:
            return Redis.from_url(url)
        except ValueError:
            raise UnknownStoreUrl(
                "There is no Redis client of the store that CONTEXTENGINE_URL or REDIS_URL names: leave the client "
                "out, and ContextEngine() opens that store."
            ) from None
    return Redis(
        host=host or os.environ.get("REDIS_HOST", "localhost"),
        port=port if port is not None else _number("REDIS_PORT", 6379),
        db=db if db is not None else _number("REDIS_DB", 0),
        password=password if password is not None else os.environ.get("REDIS_PASSWORD"),
        ssl=ssl,
    )


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise InvalidInput(f"{name} in the environment must be a number, not {value!r:.80}.") from None
