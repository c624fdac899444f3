"""A cluster's slots move and its primaries die: nothing is doubled or reordered, and what lives on is complete."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import anyio
import pytest
from support.clusters import Cluster, cluster_binaries
from support.crowd import Crowd
from support.findings import record
from support.ledger import Ledger
from support.projected import check_views, projected
from support.servers import Server
from support.waiting import until

from contextengine import ContextEngine, monitoring
from eventstore import Append, EventStore, MessageAdded, StoreUnavailable, open_store
from eventstore.redis.store import RedisStore
from projections import Projector, Queries, open_views
from workers import ProjectionWorker

CLUSTERS = cluster_binaries()
PARTITIONS = 6
WRITERS = 24
LOSABLE = 2000
"""The newest acknowledged appends, of which a replica that takes over may lack some: replication is asynchronous."""


@pytest.fixture(params=CLUSTERS, scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of each kind in turn."""
    with Cluster(CLUSTERS[request.param]) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def replicated_cluster() -> Iterator[Cluster]:
    """A cluster whose primaries have a replica each."""
    with Cluster(list(CLUSTERS.values())[-1], replicas=1) as cluster:
        yield cluster


@pytest.fixture
def replicated(replicated_cluster: Cluster) -> Cluster:
    """The same, mended where an earlier test has broken it."""
    replicated_cluster.mend()
    return replicated_cluster


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


async def write(store: EventStore, ledger: Ledger, writer: str, finished: asyncio.Event) -> None:
    """Append to a session that all share, to one of the writer's own at the version it must have, and to new ones."""
    version, number = 0, 0
    while not finished.is_set():
        await ledger.append(store, writer, "common", 2)
        if appended := await ledger.append(store, writer, writer, 1, version):
            version = appended.version
        number += 1
        await ledger.append(store, writer, f"{writer}-{number % 50}")


def heads(store: EventStore) -> list[bytes]:
    """Return a key of each partition."""
    assert isinstance(store, RedisStore)
    return [store.keys.heads(partition) for partition in range(store.partitions)]


def elsewhere(store: EventStore, partition: int) -> str:
    """Return a session of another partition."""
    assert isinstance(store, RedisStore)
    names = (f"elsewhere-{number}" for number in range(100))
    return next(name for name in names if store.keys.partition(name.encode()) != partition)


class TestSlotsThatMove:
    @pytest.mark.guarantee("L1", "L2", "L3", "L9", "V2", "S5")
    async def test_nothing_is_lost_doubled_or_reordered(self, cluster: Cluster, namespace: str) -> None:
        """Every slot moves to another node, key by key, under writers, a worker, readers and a subscription."""
        ledger = Ledger()
        finished = asyncio.Event()
        seen: list[int] = []
        async with (
            open_store(cluster.url, namespace=namespace, partitions=PARTITIONS, timeout=20) as store,
            open_store(cluster.url, namespace=namespace, timeout=20) as another,
        ):
            views = open_views(store)
            queries = Queries(store, views, Projector(store, views))
            worker = ProjectionWorker(store, views, name="w", claim_after=0.1)

            async def follow() -> None:
                async for event in store.subscribe("common"):
                    seen.append(event.version)  # noqa: PERF401 - others look at it meanwhile

            async def read() -> None:
                while not finished.is_set():
                    versions = [message["version"] for message in await queries.history("writer-0")]
                    assert versions == list(range(1, len(versions) + 1))

            with anyio.fail_after(90):
                following = asyncio.create_task(follow())
                working = asyncio.create_task(worker.run())
                async with asyncio.TaskGroup() as tasks:
                    for number in range(WRITERS):
                        tasks.create_task(write((store, another)[number % 2], ledger, f"writer-{number}", finished))
                    tasks.create_task(read())
                    for partition, key in enumerate(heads(store)):
                        await ledger.acknowledges(100)
                        there = cluster.primaries[(cluster.primaries.index(cluster.owner(key)) + 1 + partition % 2) % 3]
                        for _ in cluster.moving(key, there):
                            for _ in range(5):  # to others, for all writers may be waiting for this one
                                await ledger.append(store, "pacer", elsewhere(store, partition))
                    await ledger.acknowledges_each([f"writer-{number}" for number in range(WRITERS)])
                    finished.set()
                assert cluster.errors("MOVED")
                assert cluster.errors("ASK")
                assert cluster.errors("TRYAGAIN")
                assert not cluster.errors("CROSSSLOT")
                assert ledger.failures == 0
                last = await store.version("common")
                await until(lambda: len(seen) >= last)
                assert seen == list(range(1, last + 1))
                following.cancel()
                await asyncio.wait([following])
                await projected(store)
                await worker.stop()
                await working
            await check_views(store)
            judgement = await ledger.check(store)
        record("all slots of a cluster move", rounds=PARTITIONS, **judgement.figures)

    async def test_a_slot_on_its_way_for_too_long(self, cluster: Cluster, namespace: str) -> None:
        """What cannot be served before the slot has arrived raises in time, and says that nothing was written."""
        async with open_store(cluster.url, namespace=namespace, partitions=1, timeout=0.5) as store:
            await store.append_many([Append(f"s{number}", [said("a")]) for number in range(30)])
            (key,) = heads(store)
            owner = cluster.owner(key)
            moving = cluster.moving(key, next(node for node in cluster.primaries if node is not owner))
            next(moving)
            with pytest.raises(StoreUnavailable, match=r"TryAgain.*Nothing was written"):
                await store.append("new", said("a"))
            for _ in moving:
                continue
            assert await store.version("new") == 0
            assert (await store.append("new", said("a"))).version == 1

    async def test_a_walk_over_all_sessions(self, cluster: Cluster, namespace: str) -> None:
        """Who walks over everything while the slot moves away under the walk meets every session once."""
        async with open_store(cluster.url, namespace=namespace, partitions=1) as store:
            names = [f"s{number}" for number in range(2500)]
            await store.append_many([Append(name, [said("a")]) for name in names])
            (key,) = heads(store)
            owner = cluster.owner(key)
            met = []
            async for event in store.read_all():
                met.append(event.session_id)
                if len(met) == 1:
                    for _ in cluster.moving(key, next(node for node in cluster.primaries if node is not owner)):
                        continue
            assert sorted(met) == sorted(names)


class TestPrimariesThatDie:
    @pytest.mark.parametrize(
        ("goes", "comes"), [(Server.kill, Server.start), (Server.freeze, Server.thaw)], ids=["killed", "frozen"]
    )
    @pytest.mark.guarantee("L3", "L5", "S5")
    async def test_appends_go_on_by_themselves(
        self, replicated: Cluster, namespace: str, goes: Callable[[Server], None], comes: Callable[[Server], None]
    ) -> None:
        """A replica takes over: appends resume, logs have no gap and no double, and what had been replicated is there.

        The old primary comes back, with what it was sent meanwhile, and nothing of that shows. What was acknowledged is
        counted: lost is at most what the replica had not got, and nothing that was acknowledged since it took over.
        """
        ledger = Ledger()
        async with (
            open_store(replicated.url, namespace=namespace, partitions=PARTITIONS, timeout=20) as one,
            open_store(replicated.url, namespace=namespace, timeout=20) as two,
        ):
            key = heads(one)[0]
            primary = replicated.owner(key)
            with anyio.fail_after(90):
                async with Crowd(ledger, [one, two], writers=WRITERS) as crowd:
                    await ledger.acknowledges(LOSABLE)
                    safe = len(ledger.acknowledged)  # before it is looked: more is acknowledged meanwhile
                    await asyncio.to_thread(replicated.replicas_are_level, primary)
                    await ledger.acknowledges(50)
                    began = time.monotonic()
                    await asyncio.to_thread(goes, primary)
                    await until(lambda: replicated.owner(key, apart_from=primary) is not primary)
                    await crowd.each_is_heard()
                    back = len(ledger.acknowledged)
                    for _ in range(3):
                        await crowd.each_is_heard()
                    await asyncio.to_thread(comes, primary)
                    await until(lambda: primary.says("role:slave") and primary.says("master_link_status:up"))
                    for _ in range(3):
                        await crowd.each_is_heard()
            assert not ledger.unknown
            judgement = await ledger.judge(one)
            assert [fault for fault in judgement.faults if not fault.startswith("lost")] == []
            there = {event.event_id async for event in one.read_all()}
            kept = [*ledger.acknowledged[:safe], *ledger.acknowledged[back:]]
            assert {event_id for appended in kept for event_id in appended.event_ids} <= there
            assert (await one.append("after", said("a"))).version == 1
        figures = judgement.figures | {"most_silence_ms": ledger.longest_silence_ms(since=began)}
        record("a replica takes over in a cluster", primary=goes.__name__, rounds=1, **figures)

    async def test_who_comes_meanwhile_waits(self, replicated: Cluster, namespace: str) -> None:
        """A store that is opened while a primary is away waits for the replica that takes over."""
        async with open_store(replicated.url, namespace=namespace) as store:
            key = heads(store)[0]
            primary = replicated.owner(key)
        await asyncio.to_thread(replicated.replicas_are_level, primary)
        primary.kill()
        assert replicated.owner(key, apart_from=primary) is primary
        async with open_store(replicated.url, namespace=namespace, timeout=20) as store:
            assert (await store.append("s", said("a"))).version == 1
            # Nodes tell each other who has taken over: the one that the store asked may be the first to know.
            await until(lambda: replicated.owner(key, apart_from=primary) is not primary)

    @pytest.mark.guarantee("S7")
    async def test_health_says_so(self, replicated: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An engine on a cluster that misses a primary is unhealthy, and is well when the replica has taken over."""
        monkeypatch.setattr(monitoring, "PATIENCE", 0.3)
        async with ContextEngine(replicated.url, namespace=namespace, partitions=PARTITIONS, timeout=20) as engine:
            await engine.add_conversation_message("s", "user", "a")

            async def healthy() -> bool:
                return bool((await engine.health_check())["status"] == "healthy")

            await until(healthy)
            primary = replicated.owner(heads(engine._here().store)[0])
            await asyncio.to_thread(replicated.replicas_are_level, primary)
            primary.kill()
            health = await engine.health_check()
            assert (health["status"], health["lag"], health["stuck_partitions"]) == ("unhealthy", None, None)
            await until(healthy)
            assert [m.content for m in await engine.get_conversation_history("s")] == ["a"]

    async def test_a_worker_goes_on(self, replicated: Cluster, namespace: str) -> None:
        """A worker projects the partitions of the other nodes while a primary is away, and all of them afterwards."""
        async with open_store(replicated.url, namespace=namespace, partitions=PARTITIONS, timeout=10) as store:
            views = open_views(store)
            worker = ProjectionWorker(store, views, name="w", claim_after=0.2)
            working = asyncio.create_task(worker.run())
            with anyio.fail_after(60):
                await store.append_many([Append(f"s{number}", [said("a")]) for number in range(30)])
                await projected(store)
                primary = replicated.owner(heads(store)[0])
                await asyncio.to_thread(replicated.replicas_are_level, primary)
                primary.kill()
                await asyncio.gather(*(store.append(f"s{number}", said("b")) for number in range(30)))
                await projected(store)
                await worker.stop()
                await working
            await check_views(store)


class TestWhoMayResend:
    async def test_what_was_learned_of_one_node_does_not_serve_on_another(
        self, cluster: Cluster, namespace: str
    ) -> None:
        """Whatever changes hands between nodes, the appender begins to learn anew."""
        async with open_store(cluster.url, namespace=namespace, partitions=1) as store:
            assert isinstance(store, RedisStore)
            for _ in range(2):
                await store.append("s", said("a"))
            appender = store._appenders.here()
            assert appender._known == {b"s": 2}
            (key,) = heads(store)
            owner = cluster.owner(key)
            for _ in cluster.moving(key, next(node for node in cluster.primaries if node is not owner)):
                continue
            assert (await store.append("s", said("a"))).version == 3
            assert (await store.append("other", said("a"))).version == 1
            assert set(appender._known) <= {b"other", b"s"}
            assert appender._known_in == store.links.epoch
