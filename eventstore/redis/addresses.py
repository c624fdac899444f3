"""From a URL or a redis-py client to how Redis is reached: what to connect with, and which nodes there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, parse_url

from eventstore.redis.topology import Cluster, Node, OneServer, Topology

CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
DEFAULT_PORT = 6379
_OF_A_POOL = ("max_connections", "timeout")  # there is no pool: all calls share one connection to a node
_OF_A_CLUSTER_CLIENT = ("response_callbacks", "himport_registry", "redis_connect_func")
"""What redis-py's cluster client keeps for itself. The last one lets replicas answer, who may not know the newest."""


class Address(NamedTuple):
    """Where Redis is, and how to connect to it.

    Attributes:
        connection_class: What redis-py connects with.
        settings: What it takes; for a single server its address too.
        topology: Which nodes there are.
    """

    connection_class: Callable[..., AbstractConnection]
    settings: Mapping[str, Any]
    topology: Topology


def address_of_url(url: str) -> Address:
    """Take a ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://`` or ``rediss+cluster://`` URL.

    Raises:
        ValueError: The URL has a part that redis-py does not understand.
    """
    scheme, _, rest = url.partition("://")
    if plain := CLUSTER_SCHEMES.get(scheme.lower()):
        return _cluster(plain, rest)
    return _address(dict(parse_url(url)), OneServer())


def address_of_client(client: Redis | RedisCluster) -> Address:
    """Take the settings of a redis-py client; the client itself is left alone."""
    if isinstance(client, Redis):
        pool = client.connection_pool
        return Address(pool.connection_class, pool.connection_kwargs, OneServer())
    manager = client.nodes_manager
    known = {**manager.startup_nodes, **manager.nodes_cache}.values()
    cluster = Cluster([Node(node.host, int(node.port)) for node in known], getattr(manager, "address_remap", None))
    settings = {name: value for name, value in client.connection_kwargs.items() if name not in _OF_A_CLUSTER_CLIENT}
    return _address(settings, cluster)


def _cluster(scheme: str, rest: str) -> Address:
    """Take ``[user:password@]host[:port][,host[:port]...][?options]``; redis-py reads all of it but the hosts."""
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    credentials, at, hosts = rest[:end].rpartition("@")
    parts = [urlsplit(f"//{host}") for host in hosts.split(",")]
    seeds = [Node(part.hostname or "localhost", part.port or DEFAULT_PORT) for part in parts]
    settings = dict(parse_url(f"{scheme}://{credentials}{at}{rest[end:]}"))
    if settings.pop("db", 0) != 0:
        raise ValueError("a cluster has no database but 0")
    return _address(settings, Cluster(seeds))


def _address(settings: Mapping[str, Any], topology: Topology) -> Address:
    rest = {name: value for name, value in settings.items() if name not in _OF_A_POOL}
    connection_class: Any = rest.pop("connection_class", Connection)
    return Address(connection_class, rest, topology)
