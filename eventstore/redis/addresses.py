"""From a URL or a redis-py client to how Redis is reached: what to connect with, and which nodes there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from eventstore.errors import InvalidInput
from eventstore.redis.sentinels import Sentinels
from eventstore.redis.topology import Cluster, Node, OneServer, Topology

CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
SENTINEL_SCHEMES = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
_OF_A_POOL = ("max_connections", "timeout", "connection_pool")
"""There is no pool: all calls share one connection to a node."""
_OF_A_CLUSTER_CLIENT = ("response_callbacks", "himport_registry", "redis_connect_func")
"""What redis-py's cluster client keeps for itself. The last one lets replicas answer, who may not know the newest."""
_OF_SENTINELS = {"sentinel_username": "username", "sentinel_password": "password"}
_OF_SERVERS = ("db", "username", "password", "credential_provider", "client_name")
"""What does not hold for sentinels as well. TLS does."""


class Connecting(NamedTuple):
    """How to connect.

    Attributes:
        connection_class: What redis-py connects with.
        settings: What it takes; for a single server its address too.
    """

    connection_class: Callable[..., AbstractConnection]
    settings: Mapping[str, Any]

    def ours(self, timeout: float) -> Connecting:
        """Return it with what is ours to choose.

        RESP2 and bytes, whatever the user's own client prefers; timeouts and retries are ours; and what redis-py's pool
        has added for its own notifications of maintenance stays with that pool.
        """
        theirs = {name: value for name, value in self.settings.items() if "maint" not in name}
        ours: dict[str, Any] = {
            "decode_responses": False,
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "retry_on_timeout": False,
            "health_check_interval": 0,
        }
        return Connecting(self.connection_class, theirs | ours)


class Address(NamedTuple):
    """Where Redis is, and how to connect to it.

    Attributes:
        servers: How to connect to a server.
        topology: Which nodes there are.
        sentinels: How to connect to a sentinel, where there are any.
    """

    servers: Connecting
    topology: Topology
    sentinels: Connecting | None = None


def address_of_url(url: str) -> Address:
    """Take a ``redis://``, ``rediss://``, ``unix://`` URL, or one of a cluster or of sentinels.

    Raises:
        ValueError: The URL has a part that nobody understands.
    """
    scheme, _, rest = url.partition("://")
    if plain := CLUSTER_SCHEMES.get(scheme.lower()):
        return _cluster(plain, rest)
    if plain := SENTINEL_SCHEMES.get(scheme.lower()):
        return _sentinels(plain, rest)
    return Address(_connecting(dict(parse_url(url))), OneServer())


def address_of_client(client: Redis | RedisCluster) -> Address:
    """Take the settings of a redis-py client; the client itself is left alone.

    Raises:
        InvalidInput: The client asks sentinels for replicas.
    """
    if isinstance(client, RedisCluster):
        return _of_cluster_client(client)
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        return _of_sentinel_pool(pool)
    return Address(Connecting(pool.connection_class, pool.connection_kwargs), OneServer())


def _cluster(scheme: str, rest: str) -> Address:
    """Take ``[user:password@]host[:port][,host[:port]...][?options]``; redis-py reads all of it but the hosts."""
    credentials, hosts, tail = _divided(rest)
    settings = dict(parse_url(f"{scheme}://{credentials}{tail}"))
    if settings.pop("db", 0) != 0:
        raise ValueError("a cluster has no database but 0")
    return Address(_connecting(settings), Cluster(_nodes(hosts, DEFAULT_PORT)))


def _sentinels(scheme: str, rest: str) -> Address:
    """Take ``[user:password@]host[:port][,host[:port]...]/service[/db][?options]``; the hosts are the sentinels'.

    The user, the password and the options are for the servers; those named ``sentinel_`` are for the sentinels.
    """
    credentials, hosts, tail = _divided(rest)
    path, _, query = tail.partition("?")
    service, _, db = path.strip("/").partition("/")
    if not service:
        raise ValueError("name what the sentinels watch: redis+sentinel://host:port,host:port/name")
    if db and not db.isdecimal():
        raise ValueError("a database has a number: redis+sentinel://host:port,host:port/name/0")
    options = dict(parse_qsl(query, keep_blank_values=True))
    own = {name: options.pop(option) for option, name in _OF_SENTINELS.items() if option in options}
    servers = _connecting(dict(parse_url(f"{scheme}://{credentials}/{db}?{urlencode(options)}")))
    settings = {name: value for name, value in servers.settings.items() if name not in _OF_SERVERS} | own
    topology = Sentinels(_nodes(hosts, DEFAULT_SENTINEL_PORT), unquote(service))
    return Address(servers, topology, Connecting(servers.connection_class, settings))


def _of_cluster_client(client: RedisCluster) -> Address:
    manager = client.nodes_manager
    known = {**manager.startup_nodes, **manager.nodes_cache}.values()
    cluster = Cluster([Node(node.host, int(node.port)) for node in known], getattr(manager, "address_remap", None))
    settings = {name: value for name, value in client.connection_kwargs.items() if name not in _OF_A_CLUSTER_CLIENT}
    return Address(_connecting(settings), cluster)


def _of_sentinel_pool(pool: SentinelConnectionPool) -> Address:
    if not pool.is_master:
        raise InvalidInput(
            "This client asks sentinels for replicas, which take no writes: use Sentinel.master_for(...)."
        )
    manager = pool.sentinel_manager
    asked = [_plain(sentinel.connection_pool) for sentinel in manager.sentinels]
    nodes = [Node(one.settings["host"], int(one.settings["port"])) for one in asked]
    forced = getattr(manager, "_force_master_ip", None)
    topology = Sentinels(nodes, pool.service_name, (lambda address: (forced, address[1])) if forced else None)
    return Address(_plain(pool), topology, asked[0])


def _plain(pool: Any) -> Connecting:
    """Return how a pool connects, without what the pool itself does: to ask sentinels for the address."""
    tls = issubclass(pool.connection_class, SSLConnection)
    return _connecting(dict(pool.connection_kwargs) | {"connection_class": SSLConnection if tls else Connection})


def _divided(rest: str) -> tuple[str, str, str]:
    """Return what stands before the hosts of a URL, the ``@`` included; the hosts; and what follows them."""
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    credentials, at, hosts = rest[:end].rpartition("@")
    return credentials + at, hosts, rest[end:]


def _nodes(hosts: str, default_port: int) -> list[Node]:
    parts = [urlsplit(f"//{host}") for host in hosts.split(",")]
    return [Node(part.hostname or "localhost", part.port or default_port) for part in parts]


def _connecting(settings: Mapping[str, Any]) -> Connecting:
    rest = {name: value for name, value in settings.items() if name not in _OF_A_POOL}
    connection_class: Any = rest.pop("connection_class", Connection)
    return Connecting(connection_class, rest)
