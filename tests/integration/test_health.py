"""Health: each trouble shows as what it is within seconds, and what is not known is None."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis
from support.clusters import Cluster
from support.processes import Process, Processes
from support.sentinels import Sentinels
from support.servers import Server
from support.waiting import until

from contextengine import ContextEngine, ContextEngineError, monitoring
from eventstore import SessionUpdated
from projections import GROUP

UNKNOWN = ("workers", "lag", "lag_seconds", "stuck_partitions", "parked_sessions", "forked_views", "compaction")
SOON = 6.0
"""Seconds within which health answers, whatever the server does."""


@pytest.fixture
async def engine(server: Server) -> AsyncIterator[ContextEngine]:
    """An engine on the test's own server; others do the work."""
    async with ContextEngine(server.url, workers=False, timeout=20) as engine:
        yield engine


async def told(engine: ContextEngine, words: str) -> dict[str, Any]:
    """Wait until one of the issues has these words, and return the health that said so."""
    found: list[dict[str, Any]] = []

    async def says() -> bool:
        found.append(await timely(engine))
        return any(words in issue for issue in found[-1]["issues"])

    await until(says)
    return found[-1]


async def timely(engine: ContextEngine) -> dict[str, Any]:
    """Return the health, which is told soon."""
    began = time.monotonic()
    health = await engine.health_check()
    assert time.monotonic() - began < SOON
    return health


async def healthy(engine: ContextEngine) -> None:
    """Wait until nothing is wrong."""

    async def all_is_well() -> bool:
        health = await timely(engine)
        return health["status"] == "healthy" and not health["issues"] and health["lag"] == 0

    await until(all_is_well)


class Place(NamedTuple):
    """Where workers work."""

    url: str
    namespace: str

    @property
    def named(self) -> tuple[str, str]:
        """The namespace, as workers are told."""
        return "--namespace", self.namespace


class TestWorkers:
    """On a server, on a cluster, and where sentinels watch."""

    @pytest.fixture(params=["server", "cluster", "sentinel"])
    def place(
        self,
        request: pytest.FixtureRequest,
        redis_url: str,
        shared_cluster: Callable[[], Cluster],
        shared_sentinels: Callable[[], Sentinels],
        namespace: str,
    ) -> Place:
        """Each in turn, with a namespace of the test's own."""
        urls = {
            "server": lambda: redis_url,
            "cluster": lambda: shared_cluster().url,
            "sentinel": lambda: shared_sentinels().url,
        }
        return Place(urls[request.param](), namespace)

    @pytest.fixture
    async def engine(self, place: Place) -> AsyncIterator[ContextEngine]:
        """An engine there; others do the work."""
        async with ContextEngine(place.url, namespace=place.namespace, workers=False, timeout=20) as engine:
            yield engine

    @pytest.mark.parametrize("end", [Process.killed, Process.freeze], ids=["killed", "frozen"])
    @pytest.mark.guarantee("S7")
    async def test_a_dead_worker(
        self,
        engine: ContextEngine,
        place: Place,
        processes: Processes,
        monkeypatch: pytest.MonkeyPatch,
        end: Callable[[Process], Any],
    ) -> None:
        """A worker that was killed, or stands still, is missed by name, though nothing waits; another may be alive."""
        monkeypatch.setattr(monitoring, "DEAD_AFTER", 2.5)
        workers = [await processes.worker(place.url, name, *place.named, claim_after=1000) for name in ("a", "b")]
        for worker in workers:
            await worker.says("worker_started")
        await engine.add_conversation_message("s", "user", "x")
        await healthy(engine)
        if (ended := end(workers[0])) is not None:
            await ended
        health = await told(engine, "No sign of life from the worker(s) a.")
        assert (health["status"], health["redis_connected"], health["lag"]) == ("degraded", True, 0)
        assert health["workers"]["a"] > 2.5 > health["workers"]["b"]
        assert health["lag_seconds"] == 0

    @pytest.mark.guarantee("S7")
    async def test_a_stuck_partition(
        self, engine: ContextEngine, place: Place, processes: Processes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Work that somebody took and does not finish shows with its partition and holder, beside workers that live."""
        monkeypatch.setattr(monitoring, "STUCK_AFTER", 0.5)
        store = engine._here().store
        await engine.add_conversation_message("s", "user", "x")
        consumer = await store.feed.join(GROUP, "sleeper")
        (delivery,) = await consumer.take(count=10, wait=1)
        consumer.abandon()
        worker = await processes.worker(place.url, "a", *place.named, claim_after=1000)
        await worker.says("worker_started")
        health = await told(engine, f"Partition {delivery.partition} is stuck: worker sleeper")
        assert health["status"] == "degraded"
        assert health["lag"] == 1
        assert health["lag_seconds"] > 0.5
        assert health["stuck_partitions"].keys() == {delivery.partition}
        await engine.add_conversation_message("s", "user", "y")  # goes its way all the same
        assert len(await engine.get_conversation_history("s")) == 2

    @pytest.mark.guarantee("S7")
    async def test_a_parked_session(self, engine: ContextEngine, place: Place, processes: Processes) -> None:
        """A session that a worker had to park is named, and where to look."""
        worker = await processes.worker(place.url, "a", *place.named)
        await worker.says("worker_started")
        await engine.add_conversation_message("s", "user", "x")
        await engine._here().store.append("s", SessionUpdated(changes={"metadata": "no dict"}))
        health = await told(engine, "parked")
        assert (health["status"], health["parked_sessions"]) == ("degraded", ["s"])

    @pytest.mark.guarantee("S7")
    async def test_compaction_is_reported_apart(
        self, engine: ContextEngine, place: Place, processes: Processes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Compaction workers are None where there never was one, and no worker that keeps views up to date."""
        worker = await processes.worker(place.url, "a", *place.named)
        await worker.says("worker_started")
        await engine.add_conversation_message("s", "user", "x")
        await healthy(engine)
        assert (await timely(engine))["compaction"] is None
        compacting = await processes.worker(place.url, "c", *place.named, "--compaction")
        await compacting.says("worker_started")

        async def done() -> bool:
            return bool((await timely(engine))["compaction"]["lag"] == 0)

        await until(done)
        health = await timely(engine)
        assert (health["status"], health["workers"].keys()) == ("healthy", {"a"})
        assert health["compaction"]["workers"].keys() == {"c"}
        assert health["compaction"]["stuck_partitions"] == {}
        monkeypatch.setattr(monitoring, "DEAD_AFTER", 2.5)
        await compacting.killed()
        health = await told(engine, "No sign of life from the compaction worker(s) c.")
        assert health["workers"].keys() == {"a"}

    async def test_in_memory(self) -> None:
        """An engine in memory tells the same of its own workers, and that it is connected to no Redis."""
        async with ContextEngine("memory://") as engine:
            await engine.add_conversation_message("s", "user", "x")
            await healthy(engine)
            health = await timely(engine)
            assert (health["storage_backend"], health["redis_connected"]) == ("memory", False)
            assert len(health["workers"]) == 1
            assert health["compaction"] is None


class TestServer:
    @pytest.mark.guarantee("S7")
    async def test_a_frozen_server(
        self, engine: ContextEngine, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that takes connections and answers nothing is told within seconds, long before calls give up."""
        monkeypatch.setattr(monitoring, "PATIENCE", 0.5)
        await healthy(engine)
        server.freeze()
        try:
            health = await timely(engine)
        finally:
            server.thaw()
        assert (health["status"], health["redis_connected"]) == ("unhealthy", False)
        assert [health[name] for name in UNKNOWN] == [None] * len(UNKNOWN)
        assert any("does not answer" in issue for issue in health["issues"])
        await healthy(engine)

    @pytest.mark.parametrize("what", ["ALL", "WRITE"])
    @pytest.mark.guarantee("S7")
    async def test_a_paused_server(
        self, engine: ContextEngine, server: Server, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        """A server paused for all is out of reach; one paused for writes answers, and does not serve."""
        monkeypatch.setattr(monitoring, "PATIENCE", 0.5)
        async with Redis.from_url(server.url) as client:
            await client.client_pause(1500, all=what == "ALL")  # who is paused for all could not end it
            health = await timely(engine)
        assert health["status"] == "unhealthy"
        assert health["redis_connected"] is (what == "WRITE")
        assert (health["lag"], health["lag_seconds"], health["stuck_partitions"]) == (None, None, None)
        assert (health["workers"] is None) is (what == "ALL")
        assert any(("paused for writes" in issue) is (what == "WRITE") for issue in health["issues"])
        await healthy(engine)

    @pytest.mark.guarantee("S7")
    async def test_a_paused_node(
        self, shared_cluster: Callable[[], Cluster], namespace: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One paused node of a cluster is enough: what could not be found out is None, and not what others say."""
        monkeypatch.setattr(monitoring, "PATIENCE", 0.5)
        cluster = shared_cluster()
        async with ContextEngine(cluster.url, namespace=namespace, workers=False, timeout=20) as engine:
            await healthy(engine)
            for node in cluster.primaries:
                node.ask("CLIENT", "PAUSE", 1000)
                health = await timely(engine)
                assert health["status"] == "unhealthy"
                assert (health["lag"], health["lag_seconds"], health["stuck_partitions"]) == (None, None, None)
                await healthy(engine)

    @pytest.mark.guarantee("S7")
    async def test_a_server_that_refuses(self, engine: ContextEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that answers with errors is connected, and unhealthy for what it says."""
        await healthy(engine)

        async def refuses(_: str) -> dict[str, float]:
            raise ContextEngineError("This is staged.")

        monkeypatch.setattr(engine._here().store.feed, "heartbeats", refuses)
        health = await timely(engine)
        assert (health["status"], health["redis_connected"], health["workers"]) == ("unhealthy", True, None)
        assert any("staged" in issue for issue in health["issues"])
