"""Fixtures: servers of every kind on this machine, a cluster, one with sentinels, and stores on each of them."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from redis.asyncio import Redis
from support.clusters import Cluster, cluster_binaries
from support.original import Original
from support.processes import Processes
from support.sentinels import Sentinels
from support.servers import Server, binaries

from eventstore import EventStore, open_store
from eventstore.redis.store import RedisStore
from projections import Projector, ViewStore, changes, open_views

settings.register_profile("suite", deadline=None)  # no test asserts a time
settings.load_profile("suite")

SERVERS = binaries()
CLUSTERS = cluster_binaries()
BACKENDS = ["memory", *SERVERS, *(["cluster"] if CLUSTERS else []), *(["sentinel"] if SERVERS else [])]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio: redis-py knows no other."""
    return "asyncio"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path, for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ce"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def views(store: EventStore) -> ViewStore:
    """The views beside the store."""
    return open_views(store)


@pytest.fixture
def projector(store: EventStore, views: ViewStore) -> Projector:
    """Who brings them up to date."""
    return Projector(store, views)


@pytest.fixture
def all_views_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no session be short: all its views are stored from its first event on."""
    monkeypatch.setattr(changes, "SHORT_EVENTS", 0)


@pytest.fixture(scope="session")
def shared_servers() -> Iterator[Callable[[str], Server]]:
    """Start each kind of server once, when first asked for; tests take a namespace of their own on it."""
    started: dict[str, tuple[Server, Path]] = {}

    def get(kind: str) -> Server:
        if kind not in started:
            path = Path(tempfile.mkdtemp(prefix="ce"))
            server = Server(SERVERS[kind], path)
            server.start()
            started[kind] = (server, path)
        return started[kind][0]

    yield get
    for server, path in started.values():
        server.stop()
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Callable[[], Cluster]]:
    """Start a cluster of six nodes once, when first asked for; tests take a namespace of their own on it."""
    with ExitStack() as stack:
        started: list[Cluster] = []

        def get() -> Cluster:
            if not started:
                started.append(stack.enter_context(Cluster(list(CLUSTERS.values())[-1], replicas=1)))
            return started[0]

        yield get
        for cluster in started:
            assert not cluster.errors("CROSSSLOT"), "a command named keys of several slots"


@pytest.fixture(scope="session")
def shared_sentinels() -> Iterator[Callable[[], Sentinels]]:
    """Start servers that sentinels watch once, when first asked for; tests take a namespace of their own on them."""
    with ExitStack() as stack:
        started: list[Sentinels] = []

        def get() -> Sentinels:
            if not started:
                started.append(stack.enter_context(Sentinels(list((CLUSTERS or SERVERS).values())[-1])))
            return started[0]

        yield get


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    """Processes of the test's own."""
    async with Processes() as processes:
        yield processes


@pytest.fixture(params=BACKENDS)
def url(
    request: pytest.FixtureRequest,
    shared_servers: Callable[[str], Server],
    shared_cluster: Callable[[], Cluster],
    shared_sentinels: Callable[[], Sentinels],
) -> str:
    """The URL of each kind of store in turn."""
    match request.param:
        case "memory":
            return "memory://"
        case "cluster":
            return shared_cluster().url
        case "sentinel":
            return shared_sentinels().url
        case kind:
            return shared_servers(kind).url


@pytest.fixture
def redis_url(shared_servers: Callable[[str], Server]) -> str:
    """The URL of one real server."""
    return shared_servers(next(iter(SERVERS))).url


@pytest.fixture
def server(directory: Path) -> Iterator[Server]:
    """A server of the test's own, to kill: with ``everysec`` it may answer what it has not written to its file yet."""
    server = Server(next(iter(SERVERS.values())), directory, appendfsync="always")
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=SERVERS)
async def own_store(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[RedisStore]:
    """A store of one partition on a server of the test's own, of each kind in turn."""
    with Server(SERVERS[request.param], directory) as server:
        async with open_store(server.url, partitions=1) as store:
            assert isinstance(store, RedisStore)
            yield store


@pytest.fixture
async def original(server: Server) -> AsyncIterator[Original]:
    """The writing side of the original ContextEngine, on a server of the test's own."""
    async with Redis.from_url(server.url) as client:
        yield Original(client)


@pytest.fixture
def target_url(server: Server) -> str:
    """Where to import from there: another database of the same server."""
    return f"{server.url}?db=1"


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
async def store(url: str, namespace: str) -> AsyncIterator[EventStore]:
    """An empty store of each kind in turn."""
    async with open_store(url, namespace=namespace) as store:
        yield store
