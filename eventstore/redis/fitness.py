"""Is this server fit to keep a log? Asked once, when a store is opened, before anything is written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from eventstore.errors import PartitionCountMismatch, ServerUnfit, StoreRefused, StoreUnavailable, UnknownNamespace
from eventstore.logs import get_logger
from eventstore.partitions import DEFAULT_PARTITIONS, check_namespace, check_partitions
from eventstore.redis.keys import namespace_key
from eventstore.redis.link import Link
from eventstore.redis.links import Links, Pauses
from eventstore.redis.sentinels import Sentinels
from eventstore.redis.topology import OneServer, Topology

log = get_logger("redis")

OLDEST_VERSION = (6, 2)

_warned: set[tuple[str | None, str]] = set()


async def check_servers(links: Links) -> None:
    """Refuse servers that would lose events; warn of one that keeps nothing on disk.

    Raises:
        ServerUnfit: One is older than Redis 6.2, its ``maxmemory-policy`` evicts keys, or it was named as a single
            server and is a cluster's node, a sentinel or a replica.
        StoreUnavailable: One does not answer, or did not finish loading in time.
    """
    topology = links.topology

    async def check_all() -> None:
        await asyncio.gather(*(_check(links.to(node), links.timeout, topology) for node in topology.nodes))

    # A single server that is not there is reported at once; one that others replace is about to be replaced.
    await (links.patiently(check_all) if topology.replaces else check_all())


async def _check(link: Link, patience: float, topology: Topology) -> None:
    """Check one server, waiting up to ``patience`` seconds for it to load its data."""
    info = await _info(link)
    if isinstance(topology, OneServer):
        _check_alone(info)
    pauses = Pauses(patience)
    while info.get("loading") == "1":
        if not await pauses.next():
            raise StoreUnavailable(f"The server is still loading its data after {patience:g} s. Try again later.")
        info = await _info(link)
    version = info.get("redis_version")
    if version is not None and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise ServerUnfit(f"Redis {version} is too old: contextengine needs Redis 6.2 or newer, or any Valkey.")
    policy = info.get("maxmemory_policy") or await _configured(link, "maxmemory-policy")
    if policy not in (None, "noeviction"):
        raise ServerUnfit(
            f"The server's maxmemory-policy is {policy!r}: when memory runs out it would delete whole sessions. "
            "Run CONFIG SET maxmemory-policy noeviction, and set it in the server's configuration file."
        )
    if info.get("aof_enabled") == "0":
        _warn_once(
            info.get("run_id"),
            "server_without_aof",
            "The server writes no append-only file: what was appended since its last snapshot is lost when it stops. "
            "Run CONFIG SET appendonly yes, and set it in the server's configuration file, to keep conversations.",
        )
    if isinstance(topology, Sentinels) and info and "min_slaves_good_slaves" not in info:
        _warn_once(
            info.get("run_id"),
            "server_may_be_isolated",
            "A primary that is cut off from its replicas goes on taking writes, which are lost once a replica has "
            "taken over. Run CONFIG SET min-replicas-to-write 1 on all servers that the sentinels watch, and set it in "
            "their configuration files, so that it refuses them after min-replicas-max-lag seconds.",
        )


def _check_alone(info: Mapping[str, str]) -> None:
    """Refuse a server that does not serve everything by itself."""
    if info.get("cluster_enabled") == "1":
        raise ServerUnfit(
            "This server is a node of a cluster and serves a part of the keys: open it with redis+cluster://host:port, "
            "or with a redis.asyncio.RedisCluster client."
        )
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):
        raise ServerUnfit(
            "This server is a sentinel and keeps nothing itself: open what it watches with "
            "redis+sentinel://host:port,host:port/name, or with a client of redis.asyncio.sentinel.Sentinel.master_for."
        )
    if info.get("role") == "slave":
        raise ServerUnfit(
            "This server is a replica, which takes no writes and may not know the newest: name its primary, or the "
            "sentinels that watch it, with redis+sentinel://host:port,host:port/name."
        )


def _warn_once(server: str | None, action: str, text: str) -> None:
    if (server, action) not in _warned:
        _warned.add((server, action))
        log.warning(text, action=action)


async def open_namespace(links: Links, namespace: str, partitions: int | None, *, create: bool = True) -> int:
    """Return the partition count of a namespace.

    Args:
        links: Where it is.
        namespace: Its name.
        partitions: The count that the caller wants; None for whatever it has (4 if it is new).
        create: Whether to make it if it is new.

    Raises:
        InvalidInput: The name or the count is not allowed.
        PartitionCountMismatch: The namespace has another count than the caller wants.
        UnknownNamespace: It is new, and not to be made.
    """
    key = namespace_key(check_namespace(namespace))
    wanted = DEFAULT_PARTITIONS if partitions is None else check_partitions(partitions)
    found = await links.call("HGET", key, "partitions")
    if found is None and not create:
        raise UnknownNamespace(f"There is no namespace {namespace!r} on this server: check its name, and the URL.")
    if found is None:  # who may only read does not even try to make it
        await links.call("HSETNX", key, "partitions", wanted)
        found = await links.call("HGET", key, "partitions")
    actual = int(found)
    if partitions is not None and actual != partitions:
        raise PartitionCountMismatch(
            f"The namespace {namespace!r} was made with {actual} partitions and cannot be opened with {partitions}: "
            "its sessions would not be found. Leave the count out, or use another namespace."
        )
    return actual


async def _info(link: Link) -> dict[str, str]:
    """Return what the server tells of itself: nothing, where it does not tell this user."""
    try:
        return _parse(await link.call("INFO"))
    except StoreRefused as refused:
        _unknown("its version and whether it keeps a file", refused)
        return {}


async def _configured(link: Link, setting: str) -> str | None:
    """Return a setting that INFO did not tell, None if the server does not tell it at all (as hosted ones do)."""
    try:
        found = await link.call("CONFIG", "GET", setting)
    except StoreRefused as refused:
        _unknown(setting, refused)
        return None
    return found[1].decode() if len(found) > 1 else None


def _unknown(what: str, refused: StoreRefused) -> None:
    log.debug(
        "The server does not tell how it is set: see yourself that it is fit, as docs/OPERATIONS.md says.",
        action="server_untold",
        untold=what,
        reason=str(refused),
    )


def _parse(info: bytes) -> dict[str, str]:
    lines = info.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
