"""An engine on a cluster: how it is named, what is refused, and that workers and health serve there too."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.cluster import LoadBalancingStrategy
from support.audits import audited
from support.clusters import Cluster, Node, cluster_binaries, free_ports
from support.monitors import Monitors
from support.processes import Processes
from support.projected import check_views, projected
from support.servers import Server
from support.waiting import under_way, until
from support.whole_api import READS, TELLS, WRITES, works

from contextengine import ContextEngine, ServerUnfit, StoreRefused, StoreUnavailable, UnknownStoreUrl
from eventstore import Append, MessageAdded, NotInitialized, open_store
from projections import open_views
from projections.rebuilding import drop_old, rebuild

pytestmark = pytest.mark.skipif(not cluster_binaries(), reason="no server here can be a cluster's node")

USER, PASSWORD = "bob", "p@ss/w:rd"
ESCAPED = "p%40ss%2Fw%3Ard"


@pytest.fixture
def cluster(shared_cluster: Callable[[], Cluster]) -> Cluster:
    """The cluster that all tests share."""
    return shared_cluster()


@pytest.fixture
def guarded(cluster: Cluster) -> Iterator[Cluster]:
    """The same, where a user with a password may do what is needed, and nobody else may do anything."""
    for node in cluster.nodes:
        node.ask("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "+@all")
    yield cluster
    for node in cluster.nodes:
        node.ask("ACL", "DELUSER", USER)


def host_and_port(node: Node) -> dict[str, Any]:
    """Return a node's address as redis-py takes it."""
    return {"host": "127.0.0.1", "port": node.port}


def who_acknowledged(monitors: Monitors) -> set[tuple[int, bytes]]:
    """Return which consumers acknowledged something at which node, told apart by their connections."""
    names = {
        (heard.server, heard.client): heard.words[3] for heard in monitors.heard if heard.words[0] == b"XREADGROUP"
    }
    return {
        (heard.server.port, names[heard.server, heard.client])
        for heard in monitors.heard
        if heard.words[0] == b"XACK" and isinstance(heard.server, Node)
    }


class TestNamed:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"decode_responses": True},
            {"protocol": 3},
            {"load_balancing_strategy": LoadBalancingStrategy.ROUND_ROBIN},
            {"max_connections": 3},
        ],
        ids=str,
    )
    async def test_by_a_client(self, guarded: Cluster, namespace: str, settings: dict[str, Any]) -> None:
        """A client's settings are used, password included, whatever it decodes; it stays open and unharmed."""
        there = host_and_port(guarded.nodes[1])
        async with RedisCluster(**there, username=USER, password=PASSWORD, **settings) as client:
            await works(ContextEngine(redis_client=client, namespace=namespace))
            assert await client.set(namespace, "x")

    async def test_by_a_client_that_is_not_connected(self, cluster: Cluster, namespace: str) -> None:
        """A client that has not asked for the slots yet will do, of which one node is away too."""
        away = ClusterNode("127.0.0.1", free_ports(1)[0])
        client = RedisCluster(startup_nodes=[away, ClusterNode(**host_and_port(cluster.nodes[0]))])
        await works(ContextEngine(redis_client=client, namespace=namespace))

    async def test_by_one_node_of_several(self, guarded: Cluster, namespace: str) -> None:
        """A URL names some nodes, of which one has to answer, and a user, a password and options for all."""
        away = f"127.0.0.1:{free_ports(1)[0]}"
        url = f"redis+cluster://{USER}:{ESCAPED}@{away},{guarded.nodes[2].address}/0?client_name=us"
        await works(ContextEngine(url, namespace=namespace))

    async def test_by_the_environment(self, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The environment may name a cluster."""
        monkeypatch.setenv("CONTEXTENGINE_URL", cluster.url)
        await works(ContextEngine(namespace=namespace, fallback="error"))


class TestRefused:
    @pytest.mark.parametrize("url", ["redis+cluster://h:port", "redis+cluster://h/3", "redis+cluster://h?foo=1"])
    async def test_urls(self, url: str) -> None:
        """What a cluster's URL cannot mean is refused at once."""
        with pytest.raises(UnknownStoreUrl):
            await open_store(url)

    async def test_a_wrong_password(self, guarded: Cluster) -> None:
        """Credentials that are refused are no reason for memory."""
        url = f"redis+cluster://{USER}:wrong@{guarded.nodes[0].address}"
        with pytest.raises(StoreRefused, match="credentials"):
            await ContextEngine(url, fallback="memory").initialize()

    async def test_nobody_there(self) -> None:
        """A cluster of which no node answers is unavailable."""
        first, second = free_ports(2)
        with pytest.raises(StoreUnavailable):
            await open_store(f"redis+cluster://127.0.0.1:{first},127.0.0.1:{second}")

    async def test_a_node_taken_for_a_single_server(self, cluster: Cluster) -> None:
        """A plain URL of a node is refused, with what to write instead: the node serves a part of the keys only."""
        with pytest.raises(ServerUnfit, match=r"redis\+cluster://"):
            await open_store(f"redis://{cluster.nodes[0].address}")

    async def test_a_single_server_taken_for_a_cluster(self, directory: Path) -> None:
        """A cluster's URL of a plain server is refused, with what to write instead."""
        (port,) = free_ports(1)
        server = Server(next(iter(cluster_binaries().values())), directory, port=str(port))
        with server, pytest.raises(ServerUnfit, match="redis://"):
            await open_store(f"redis+cluster://127.0.0.1:{port}")

    @pytest.mark.guarantee("S2")
    async def test_a_node_that_evicts(self, cluster: Cluster) -> None:
        """One node that would delete sessions is enough for a refusal."""
        cluster.nodes[1].ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(ServerUnfit, match="noeviction"):
                await open_store(cluster.url)
        finally:
            cluster.nodes[1].ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


class TestServes:
    @pytest.mark.guarantee("W3")
    async def test_workers_of_their_own(self, cluster: Cluster, namespace: str) -> None:
        """``python -m workers`` projects what is appended on any node, and leaves on SIGTERM."""
        async with Processes() as processes, open_store(cluster.url, namespace=namespace) as store:
            worker = await processes.worker(cluster.url, "w", "--namespace", namespace)
            await worker.says("worker_started")
            await store.append_many([Append(f"s{number}", [MessageAdded("user", "x")]) for number in range(50)])
            await projected(store)
            worker.terminate()
            assert await worker.ended() == 0
            assert await store.feed.heartbeats("projection") == {}

    @pytest.mark.guarantee("S5")
    async def test_workers_share_the_partitions_of_all_nodes(self, cluster: Cluster, namespace: str) -> None:
        """Of two workers each projects on every node; when one dies, the other does what it left, everywhere."""
        async with (
            Processes() as processes,
            Monitors(cluster.primaries) as monitors,
            open_store(cluster.url, namespace=namespace, partitions=12) as store,
        ):
            workers = [await processes.worker(cluster.url, name, "--namespace", namespace) for name in ("a", "b")]
            for worker in workers:
                await worker.says("worker_started")
            everywhere = {(node.port, name) for node in cluster.primaries for name in (b"a", b"b")}
            numbers = itertools.count()

            async def both_work_everywhere() -> bool:
                await store.append_many([Append(f"s{next(numbers)}", [MessageAdded("user", "x")]) for _ in range(30)])
                return who_acknowledged(monitors) == everywhere

            await until(both_work_everywhere)
            await workers[0].killed()
            await store.append_many([Append(f"t{number}", [MessageAdded("user", "x")]) for number in range(60)])
            await projected(store)
            await check_views(store)

    @pytest.mark.parametrize("partitions", [1, 16])
    async def test_no_command_names_several_slots(self, cluster: Cluster, namespace: str, partitions: int) -> None:
        """Whatever is done, one partition or many: no command names keys of two slots, and no node says CROSSSLOT.

        The nodes tell what reached them, commands of scripts included, and which keys these name.
        """
        before = cluster.errors("CROSSSLOT")
        async with (
            Monitors(cluster.primaries) as monitors,
            ContextEngine(cluster.url, namespace=namespace, partitions=partitions) as engine,
        ):
            for call in (*WRITES.values(), *READS.values(), *TELLS.values()):
                await call(engine)
            store = engine._here().store
            await store.append_many([Append(f"s{number}", [MessageAdded("user", "x")]) for number in range(50)])
            assert len([event async for event in store.read_all()]) > 50
            views = open_views(store)
            async for step in rebuild(store, views):
                assert step.phase != "refused"
            await drop_old(store, views)
            await store.feed.trim()
            assert await audited(store, views) == []
        assert list(monitors.across_slots()) == []
        assert cluster.errors("CROSSSLOT") == before
        names = {heard.words[0].upper() for heard in monitors.heard}
        assert {b"EVALSHA", b"XADD", b"XREADGROUP", b"XAUTOCLAIM", b"XACK", b"XGROUP", b"XRANGE", b"HSCAN"} <= names
        nodes = {heard.server for heard in monitors.heard if namespace.encode() in b" ".join(heard.words)}
        assert partitions == 1 or nodes == set(cluster.primaries)

    @pytest.mark.parametrize("partitions", [1, 16])
    async def test_a_consumer_is_woken(self, cluster: Cluster, namespace: str, partitions: int) -> None:
        """A take that waits on feeds of many nodes, or of one slot, ends when it is told to."""
        async with open_store(cluster.url, namespace=namespace, partitions=partitions) as store:
            consumer = await store.feed.join("g", "c")
            with anyio.fail_after(4):
                (taking,) = await under_way(consumer.take(count=10, wait=5.0))
                while not taking.done():
                    await consumer.wake()
                    await checkpoint()  # it may have come before the wait began
            assert await taking == []
            await store.append("s", MessageAdded("user", "x"))
            (delivery,) = await consumer.take(count=10, wait=5.0)
            assert delivery.pointers[0].session_id == "s"
            consumer.abandon()

    async def test_a_closed_store(self, cluster: Cluster, namespace: str) -> None:
        """What is asked of a closed store raises at once."""
        store = await open_store(cluster.url, namespace=namespace)
        await store.aclose()
        with pytest.raises(NotInitialized):
            await store.version("s")
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.feed.progress("g")
