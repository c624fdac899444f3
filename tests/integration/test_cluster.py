"""An engine on a cluster: how it is named, what is refused, and that workers and health serve there too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.cluster import LoadBalancingStrategy
from support.clusters import Cluster, Node, cluster_binaries, free_ports
from support.processes import Processes
from support.projected import projected
from support.servers import Server
from support.whole_api import works

from contextengine import ContextEngine, ServerUnfit, StoreRefused, StoreUnavailable, UnknownStoreUrl
from eventstore import Append, MessageAdded, NotInitialized, open_store

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

    async def test_no_command_names_several_slots(self, cluster: Cluster, namespace: str) -> None:
        """One partition or many, no node ever answers CROSSSLOT."""
        before = cluster.errors("CROSSSLOT")
        for partitions in (1, 3, 64):
            async with ContextEngine(
                cluster.url, namespace=f"{namespace}-{partitions}", partitions=partitions
            ) as engine:
                for number in range(30):
                    await engine.add_conversation_message(f"s{number}", "user", "x")
                    await engine.set_context(f"s{number}", "key", number)
                await engine.store_checkpoint("s1", "c", {"state": {}})
                assert len(await engine.list_sessions(limit=100)) == 30
                assert (await engine.get_global_metrics())["total_messages"] == 30
        assert cluster.errors("CROSSSLOT") == before

    @pytest.mark.parametrize("partitions", [1, 16])
    async def test_a_consumer_is_woken(self, cluster: Cluster, namespace: str, partitions: int) -> None:
        """A take that waits on feeds of many nodes, or of one slot, ends when it is told to."""
        async with open_store(cluster.url, namespace=namespace, partitions=partitions) as store:
            consumer = await store.feed.join("g", "c")
            with anyio.fail_after(4):
                taking = asyncio.create_task(consumer.take(count=10, wait=5.0))
                while not taking.done():
                    await asyncio.sleep(0)
                    await consumer.wake()
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
