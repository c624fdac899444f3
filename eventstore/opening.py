"""`open_store`: from a URL to a store."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio
from redis.asyncio import Redis, RedisCluster

from eventstore.archive.places import Archive, open_archive
from eventstore.codec import DEFAULT_MAX_EVENT_BYTES
from eventstore.durability import ACCEPTED, Durability
from eventstore.embedded import DEFAULT_FSYNC, EmbeddedServer
from eventstore.errors import InvalidInput, UnknownNamespace, UnknownStoreUrl, shown
from eventstore.memory.store import MemoryStore
from eventstore.partitions import DEFAULT_PARTITIONS, check_namespace, check_partitions
from eventstore.redis.addresses import CLUSTER_SCHEMES, SENTINEL_SCHEMES
from eventstore.redis.links import Links
from eventstore.redis.store import RedisStore
from eventstore.store import DEFAULT_NAMESPACE, EventStore

DEFAULT_TIMEOUT = 10.0
SCHEMES = {"redis", "rediss", "unix", *CLUSTER_SCHEMES, *SENTINEL_SCHEMES, "embedded", "memory"}


class Opening:
    """A store that is not open yet: ``await`` it, or use it with ``async with``, which closes the store at the end."""

    def __init__(
        self,
        target: str | Redis | RedisCluster,
        namespace: str,
        partitions: int | None,
        timeout: float,
        max_event_bytes: int,
        archive: Archive | str | None,
        durability: str,
        create: bool,
    ) -> None:
        """Check what can be checked without asking a server."""
        check_namespace(namespace)
        if partitions is not None:
            check_partitions(partitions)
        for name, value in (("timeout", timeout), ("max_event_bytes", max_event_bytes)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InvalidInput(f"{name} must be a number above 0, not {shown(value)}.")
        self._target = target
        self._namespace = namespace
        self._partitions = partitions
        self._timeout = timeout
        self._max_event_bytes = max_event_bytes
        self._archive = open_archive(archive)
        self._durability = Durability(durability)
        self._create = create
        self._store: EventStore | None = None

    def __await__(self) -> Generator[Any, None, EventStore]:
        """Open the store."""
        return self._open().__await__()

    async def __aenter__(self) -> EventStore:
        """Open the store."""
        self._store = await self._open()
        return self._store

    async def __aexit__(self, *exc: object) -> None:
        """Close the store."""
        if self._store is not None:
            await self._store.aclose()

    async def _open(self) -> EventStore:
        if not isinstance(self._target, str):
            return await self._open_redis(Links.of_client(self._target, self._timeout))
        scheme, rest = _split(self._target)
        if scheme == "memory":
            if not self._create:
                raise UnknownNamespace("What is kept in memory begins with nothing: there is no namespace in it.")
            partitions = self._partitions or DEFAULT_PARTITIONS
            return MemoryStore(self._namespace, partitions, self._max_event_bytes, self._archive, self._durability)
        if scheme == "embedded":
            return await self._open_embedded(rest)
        return await self._open_redis(Links.from_url(self._target, self._timeout))

    async def _open_redis(self, links: Links, on_close: Callable[[], Awaitable[None]] | None = None) -> EventStore:
        return await RedisStore.open(
            links,
            self._namespace,
            self._partitions,
            self._max_event_bytes,
            on_close,
            self._archive,
            self._durability,
            create=self._create,
        )

    async def _open_embedded(self, rest: str) -> EventStore:
        path, _, query = rest.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        appendfsync = options.pop("appendfsync", DEFAULT_FSYNC)
        if not path.strip("/") or "%00" in path or "\0" in path or options:
            raise UnknownStoreUrl(
                f"{self._target!r} should be embedded:///a/directory, optionally with ?appendfsync=everysec."
            )
        server = await EmbeddedServer.acquire(unquote(path), appendfsync)
        try:
            return await self._open_redis(Links.from_url(server.url, self._timeout), server.release)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await server.release()
            raise


def open_store(
    target: str | Redis | RedisCluster,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    partitions: int | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
    archive: Archive | str | None = None,
    durability: str = ACCEPTED,
    create: bool = True,
) -> Opening:
    """Open the log. Await the result, or use it with ``async with``.

    Args:
        target: ``redis://``, ``rediss://`` or ``unix://`` as in redis-py; ``redis+cluster://host:port,host:port...`` or
            ``rediss+cluster://`` for a cluster, of which some nodes are named;
            ``redis+sentinel://host:port,host:port.../name`` or ``rediss+sentinel://`` for the primary of what sentinels
            watch under a name; ``embedded:///directory`` for a server of our own; ``memory://`` for this process only.
            Or a ``redis.asyncio.Redis`` client, that of a ``Sentinel.master_for`` included, or a ``RedisCluster``
            client, whose settings are used (the client itself is left alone).
        namespace: Stores of different namespaces on one server know nothing of each other.
        partitions: Fixed when the namespace is made (4 by default; several times its nodes for a cluster). Leave it out
            to take what the namespace has.
        timeout: Seconds for which a call waits for the server, reconnecting included.
        max_event_bytes: The largest encoded event that is accepted.
        archive: Where the logs are that were archived: ``file:///directory``, or an
            `eventstore.archive.places.Archive`. By default what ``CONTEXTENGINE_ARCHIVE`` names, if it is set.
        durability: The level that appends wait for, unless they name another: ``accepted``, ``fsynced``, ``replicated``
            or ``replicated:<replicas>``. See `Durability`.
        create: Whether to make the namespace if there is none.

    Raises:
        UnknownStoreUrl: No store serves such a URL.
        InvalidInput: Another argument cannot be accepted.
        StoreUnavailable: The server does not answer (when awaited, as the following).
        ServerUnfit: The server's version or settings would lose events, or cannot reach the durability.
        PartitionCountMismatch: The namespace was made with another partition count.
        UnknownNamespace: There is no such namespace, and it was not to be made.
    """
    if isinstance(target, str):
        _split(target)
    elif not isinstance(target, Redis | RedisCluster):
        raise InvalidInput(
            "A store is opened from a URL or from a redis.asyncio.Redis or RedisCluster client, "
            f"not {type(target).__name__}."
        )
    return Opening(target, namespace, partitions, timeout, max_event_bytes, archive, durability, create)


def _split(url: str) -> tuple[str, str]:
    """Return a URL's scheme and what stands behind ``://``.

    Raises:
        UnknownStoreUrl: No store serves the scheme.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        shown = urlsplit(url).scheme or url[:40]
        raise UnknownStoreUrl(
            f"No store serves {shown!r}: use redis://, rediss://, unix://, redis+cluster://, rediss+cluster://, "
            "redis+sentinel://, rediss+sentinel://, embedded:///directory or memory://."
        )
    return scheme, rest
