"""An engine on what sentinels watch: how it is named, what is refused, and that workers and scripts serve there too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.sentinel import Sentinel as Client
from support.clusters import free_ports
from support.processes import Processes
from support.projected import projected
from support.sentinels import NAME, Sentinels
from support.servers import Server, binaries
from support.whole_api import works

from contextengine import ContextEngine, InvalidInput, ServerUnfit, StoreRefused, StoreUnavailable, UnknownStoreUrl
from eventstore import Append, MessageAdded, open_store
from eventstore.redis.addresses import address_of_url
from eventstore.redis.topology import Node

USER, PASSWORD = "bob", "p@ss/w:rd"
ESCAPED = "p%40ss%2Fw%3Ard"
MAY_ASK = ("+sentinel|master", "+sentinel|get-master-addr-by-name", "+client|id", "+sentinel|masters")
"""What a user of the sentinels needs, as docs/OPERATIONS.md says; the last one for redis-py's own client."""


@pytest.fixture
def watched(shared_sentinels: Callable[[], Sentinels]) -> Sentinels:
    """What all tests share."""
    return shared_sentinels()


@pytest.fixture
def guarded(watched: Sentinels) -> Iterator[Sentinels]:
    """The same, where the servers know a user, and the sentinels another one, each with a password."""
    for server in watched.servers:
        server.ask("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "+@all")
    for sentinel in watched.sentinels:
        sentinel.ask("ACL", "SETUSER", "watcher", "on", ">secret", *MAY_ASK)
    yield watched
    for server in watched.servers:
        server.ask("ACL", "DELUSER", USER)
    for sentinel in watched.sentinels:
        sentinel.ask("ACL", "DELUSER", "watcher")


def client_of(watched: Sentinels, **settings: Any) -> Client:
    """Return redis-py's own client of the sentinels."""
    addresses = [("127.0.0.1", sentinel.port) for sentinel in watched.sentinels]
    return Client(addresses, **settings)  # type: ignore[no-untyped-call] # redis-py leaves it untyped


class TestNamed:
    async def test_by_one_sentinel_of_several(self, guarded: Sentinels, namespace: str) -> None:
        """A URL names sentinels, of which one has to answer; users and passwords of both kinds; options for all."""
        away = f"127.0.0.1:{free_ports(1)[0]}"
        url = (
            f"redis+sentinel://{USER}:{ESCAPED}@{away},{guarded.sentinels[2].address}/{NAME}/0"
            "?sentinel_username=watcher&sentinel_password=secret&client_name=us"
        )
        await works(ContextEngine(url, namespace=namespace))

    @pytest.mark.parametrize(
        "settings", [{}, {"decode_responses": True}, {"protocol": 3}, {"max_connections": 3}], ids=str
    )
    async def test_by_a_client(self, guarded: Sentinels, namespace: str, settings: dict[str, Any]) -> None:
        """The settings of a client that asks sentinels are used, passwords included; it stays open and unharmed."""
        asks = client_of(guarded, sentinel_kwargs={"username": "watcher", "password": "secret"})
        async with asks.master_for(NAME, username=USER, password=PASSWORD, **settings) as client:
            await works(ContextEngine(redis_client=client, namespace=namespace))
            assert await client.set(namespace, "x")
        for sentinel in asks.sentinels:
            await sentinel.aclose()

    async def test_by_the_environment(
        self, watched: Sentinels, namespace: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The environment may name sentinels."""
        monkeypatch.setenv("CONTEXTENGINE_URL", watched.url)
        await works(ContextEngine(namespace=namespace, fallback="error"))

    async def test_another_database(self, watched: Sentinels, namespace: str) -> None:
        """Behind the name stands the number of a database, in which all is kept."""
        async with open_store(f"{watched.url}/3", namespace=namespace) as store:
            await store.append("s", MessageAdded("user", "x"))
        async with open_store(watched.url, namespace=namespace) as store:
            assert await store.version("s") == 0

    def test_what_a_url_means(self) -> None:
        """Sentinels share what concerns TLS with the servers, and neither their users nor their database."""
        url = (
            "rediss+sentinel://bob:pw@one,[::1]:7,two:8/our%20name/5"
            "?ssl_ca_certs=/ca.pem&sentinel_password=secret&client_name=us"
        )
        servers, topology, sentinels = address_of_url(url)
        assert topology._sentinels == [  # type: ignore[attr-defined]
            Node("one", 26379, sentinel=True),
            Node("::1", 7, sentinel=True),
            Node("two", 8, sentinel=True),
        ]
        assert topology._service == "our name"  # type: ignore[attr-defined]
        assert sentinels is not None
        assert servers.connection_class is sentinels.connection_class is SSLConnection
        tls = {"ssl_ca_certs": "/ca.pem"}
        assert servers.settings == {"username": "bob", "password": "pw", "db": 5, "client_name": "us", **tls}
        assert sentinels.settings == {"password": "secret", **tls}
        assert address_of_url("redis+sentinel://h/name").servers == (Connection, {})


class TestRefused:
    @pytest.mark.parametrize(
        "url",
        [
            "redis+sentinel://h:port/name",
            "redis+sentinel://h",
            "redis+sentinel://h/",
            "redis+sentinel://h/?db=1",
            "redis+sentinel://h/name/x",
            "redis+sentinel://h/name?foo=1",
            "redis+sentinel://h/name?sentinel_foo=1",
        ],
    )
    async def test_urls(self, url: str) -> None:
        """What such a URL cannot mean is refused at once."""
        with pytest.raises(UnknownStoreUrl):
            await open_store(url)

    @pytest.mark.parametrize(
        ("user", "options"), [(f"{USER}:wrong@", ""), ("", "?sentinel_username=watcher&sentinel_password=wrong")]
    )
    async def test_a_wrong_password(self, guarded: Sentinels, user: str, options: str) -> None:
        """Credentials that a server or the sentinels refuse are no reason for memory."""
        away = f"127.0.0.1:{free_ports(1)[0]}"
        url = f"redis+sentinel://{user}{away},{guarded.sentinels[0].address}/{NAME}{options}"
        with pytest.raises(StoreRefused, match="credentials"):
            await ContextEngine(url, fallback="memory", timeout=2).initialize()

    async def test_nobody_there(self) -> None:
        """Where no sentinel answers, the store is unavailable."""
        first, second = free_ports(2)
        with pytest.raises(StoreUnavailable):
            await open_store(f"redis+sentinel://127.0.0.1:{first},127.0.0.1:{second}/{NAME}")

    async def test_another_name(self, watched: Sentinels) -> None:
        """A name that no sentinel knows is refused, and named."""
        with pytest.raises(ServerUnfit, match="'nobody'"):
            await open_store(f"redis+sentinel://{watched.sentinels[0].address}/nobody")

    async def test_a_client_of_replicas(self, watched: Sentinels) -> None:
        """A client that asks for replicas is refused: they take no writes."""
        client = client_of(watched).slave_for(NAME)
        with pytest.raises(InvalidInput, match="master_for"):
            await ContextEngine(redis_client=client).initialize()

    @pytest.mark.guarantee("S2")
    async def test_a_sentinel_or_replica_taken_for_the_server(self, watched: Sentinels) -> None:
        """A plain URL of a sentinel, or of a replica, is refused, with what to write instead."""
        replica = next(server for server in watched.servers if server is not watched.primary())
        for port in (watched.sentinels[0].port, replica.port):
            with pytest.raises(ServerUnfit, match=r"redis\+sentinel://"):
                await open_store(f"redis://127.0.0.1:{port}")

    async def test_a_server_taken_for_a_sentinel(self, directory: Path) -> None:
        """A sentinel's URL of a plain server is refused, with what to write instead."""
        (port,) = free_ports(1)
        server = Server(next(iter(binaries().values())), directory, port=str(port))
        with server, pytest.raises(ServerUnfit, match="redis://"):
            await open_store(f"redis+sentinel://127.0.0.1:{port}/{NAME}")

    @pytest.mark.guarantee("S2")
    async def test_a_primary_that_evicts(self, watched: Sentinels) -> None:
        """A primary that would delete sessions is refused."""
        primary = watched.primary()
        primary.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(ServerUnfit, match="noeviction"):
                await open_store(watched.url)
        finally:
            primary.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


class TestServes:
    @pytest.mark.guarantee("W3")
    async def test_workers_of_their_own(self, watched: Sentinels, namespace: str) -> None:
        """``python -m workers`` projects what is appended, and leaves on SIGTERM; a script lists what is parked."""
        async with Processes() as processes, open_store(watched.url, namespace=namespace) as store:
            worker = await processes.worker(watched.url, "w", "--namespace", namespace)
            await worker.says("worker_started")
            await store.append_many([Append(f"s{number}", [MessageAdded("user", "x")]) for number in range(50)])
            await projected(store)
            worker.terminate()
            assert await worker.ended() == 0
            assert await store.feed.heartbeats("projection") == {}
            for script in (["parked.py", "list"], ["replay.py", "s1"]):
                run = await processes.start(
                    f"scripts/{script[0]}", *script[1:], "--url", watched.url, "--namespace", namespace
                )
                assert await run.ended() == 0

    async def test_isolation_is_warned_of(
        self, watched: Sentinels, namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A primary that would go on alone is warned of, with the setting that prevents it; one that has it is not."""
        for server in watched.servers:
            server.ask("CONFIG", "SET", "min-replicas-to-write", 0)
        monkeypatch.setattr("eventstore.redis.fitness._warned", set())
        for _ in range(2):
            async with open_store(watched.url, namespace=namespace):
                pass
        assert [r.action for r in caplog.records if "min-replicas-to-write" in r.message] == ["server_may_be_isolated"]  # type: ignore[attr-defined]
        caplog.clear()
        monkeypatch.setattr("eventstore.redis.fitness._warned", set())
        primary = watched.primary()
        primary.ask("CONFIG", "SET", "min-replicas-to-write", 1)
        try:
            async with open_store(watched.url, namespace=namespace):
                assert "min-replicas-to-write" not in caplog.text
        finally:
            primary.ask("CONFIG", "SET", "min-replicas-to-write", 0)
