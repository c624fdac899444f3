"""Sentinels replace a primary under load: appends go on by themselves, and what was lost is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from support.crowd import Crowd
from support.findings import record
from support.ledger import Ledger
from support.projected import check_views, projected
from support.rounds import rounds
from support.sentinels import Sentinels, Watched
from support.servers import Server, binaries
from support.waiting import until

from contextengine import ContextEngine, monitoring
from eventstore import Append, EventStore, MessageAdded, StoreUnavailable, open_store
from eventstore.redis.store import RedisStore
from projections import Projector, Queries, open_views
from workers import ProjectionWorker

SERVERS = binaries()
WRITERS = 24
LOSABLE = 2000
"""The newest acknowledged appends, of which a replica that takes over may lack some: replication is asynchronous."""


@pytest.fixture(params=list(SERVERS)[: rounds(len(SERVERS))], scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[tuple[str, Sentinels]]:
    """Servers of each kind in turn, and sentinels of that kind who watch them."""
    with Sentinels(SERVERS[request.param]) as watched:
        yield request.param, watched


@pytest.fixture
def watched(shared: tuple[str, Sentinels]) -> Sentinels:
    """The same, mended where an earlier test has broken it."""
    shared[1].mend()
    return shared[1]


@pytest.fixture
def kind(shared: tuple[str, Sentinels]) -> str:
    """What the servers are called."""
    return shared[0]


@pytest.fixture(params=SERVERS)
def each_server(request: pytest.FixtureRequest, directory: Path) -> Iterator[Server]:
    """A server of each kind in turn, of the test's own."""
    with Server(SERVERS[request.param], directory) as server:
        yield server


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


def serves(store: EventStore, server: Watched) -> bool:
    """Whether a store takes a server for the primary."""
    assert isinstance(store, RedisStore)
    return store.links.topology.nodes[0].port == server.port


class TestPrimariesThatAreReplaced:
    @pytest.mark.parametrize("how", ["killed", "frozen", "well", "paused"])
    @pytest.mark.guarantee("L3", "L5", "S5", "V2")
    async def test_appends_go_on_by_themselves(self, watched: Sentinels, kind: str, namespace: str, how: str) -> None:
        """A replica takes over under load, from a primary that is dead, frozen or well: appends and a worker go on.

        Nothing is doubled, out of order, torn or untold, and lost is at most what had been acknowledged shortly before.
        A primary that comes back takes itself for one for a while: nobody writes there any more, be it who wrote
        before, who was silent meanwhile, or who comes new. One whose writes were paused before loses nothing.
        """
        ledger = Ledger()
        primary = watched.primary()
        async with (
            open_store(watched.url, namespace=namespace, timeout=20) as one,
            open_store(watched.url, namespace=namespace, timeout=20) as two,
            open_store(watched.url, namespace=namespace, timeout=20) as silent,
        ):
            worker = ProjectionWorker(one, open_views(one), name="w", claim_after=0.2)
            working = asyncio.create_task(worker.run())
            await ledger.append(silent, "silent", "silent")
            with anyio.fail_after(90):
                async with Crowd(ledger, [one, two], writers=WRITERS) as crowd:
                    await ledger.acknowledges(LOSABLE)
                    safe = len(ledger.acknowledged)  # before it is looked: more is acknowledged meanwhile
                    await asyncio.to_thread(watched.replicas_are_level, primary)
                    await ledger.acknowledges(50)
                    began = time.monotonic()
                    if how == "paused":  # as docs/OPERATIONS.md advises
                        primary.ask("CLIENT", "PAUSE", 20_000, "WRITE")
                        await asyncio.to_thread(watched.replicas_are_level, primary)
                        safe = len(ledger.acknowledged)
                    {"killed": primary.kill, "frozen": primary.freeze}.get(how, watched.fail_over)()
                    await until(lambda: watched.replaced(primary))
                    now = watched.primary()
                    await until(lambda: all(serves(store, now) for store in (one, two, silent)))
                    back = len(ledger.acknowledged)
                    await crowd.each_is_heard()
                    if how == "killed":
                        primary.start()
                    elif how == "frozen":
                        primary.thaw()
                    primary.ask("REPLICAOF", "NO", "ONE")  # sentinels that were quick have made a replica of it by now
                    assert primary.says("role:master")
                    await ledger.append(silent, "silent", "silent")
                    async with open_store(watched.url, namespace=namespace, timeout=20) as new:
                        await ledger.append(new, "new", "new")
                    for _ in range(3):
                        await crowd.each_is_heard()
                await asyncio.to_thread(watched.mend)
                await until(lambda: primary.says("role:slave"))
                assert await ledger.append(silent, "silent", "silent")
                await projected(one)
                await worker.stop()
                await working
            assert not ledger.unknown
            judgement = await ledger.judge(one)
            assert [fault for fault in judgement.faults if not fault.startswith("lost")] == []
            there = {event.event_id async for event in one.read_all()}
            assert how != "paused" or not judgement.lost
            kept = [*ledger.acknowledged[:safe], *ledger.acknowledged[back:]]
            assert {event_id for appended in kept for event_id in appended.event_ids} <= there
            await check_views(one)
        figures = judgement.figures | {"most_silence_ms": ledger.longest_silence_ms(since=began)}
        record("a replica takes over where sentinels watch", server=kind, primary=how, rounds=1, **figures)


class TestWhileNobodyServes:
    async def test_who_comes_meanwhile_waits(self, watched: Sentinels, namespace: str) -> None:
        """A store that is opened while the primary is away waits for the replica that takes over."""
        async with open_store(watched.url, namespace=namespace) as store:
            await store.append("s", said("a"))
        primary = watched.primary()
        await asyncio.to_thread(watched.replicas_are_level, primary)
        primary.kill()
        assert watched.primary() is primary
        async with open_store(watched.url, namespace=namespace, timeout=20) as store:
            await until(lambda: watched.replaced(primary))
            assert (await store.append("s", said("b"))).version == 2

    async def test_a_replica_is_not_read(self, watched: Sentinels, namespace: str) -> None:
        """A server that sentinels still take for the primary, and that calls itself a replica, is not asked."""
        async with open_store(watched.url, namespace=namespace, timeout=0.4) as store:
            await store.append("s", said("a"))
            primary = watched.primary()
            primary.ask("REPLICAOF", "127.0.0.1", 1)
            try:
                primary.ask("CLIENT", "KILL", "TYPE", "normal")
                with pytest.raises(StoreUnavailable, match="it is a replica now"):
                    await store.version("s")
            finally:
                primary.ask("REPLICAOF", "NO", "ONE")
            await until(lambda: is_read(store))

    @pytest.mark.guarantee("S7")
    async def test_health_says_so(self, watched: Sentinels, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An engine whose primary stands still is unhealthy, knows nothing, and is well when another has taken over."""
        monkeypatch.setattr(monitoring, "PATIENCE", 0.3)
        async with ContextEngine(watched.url, namespace=namespace, timeout=20) as engine:
            await engine.add_conversation_message("s", "user", "a")
            await until(lambda: is_healthy(engine))
            primary = watched.primary()
            await asyncio.to_thread(watched.replicas_are_level, primary)
            primary.freeze()
            try:
                health = await engine.health_check()
                assert (health["status"], health["redis_connected"], health["lag"]) == ("unhealthy", False, None)
                assert (health["workers"], health["parked_sessions"]) == (None, None)
                await until(lambda: is_healthy(engine))
                await until(lambda: watched.replaced(primary))
                assert [m.content for m in await engine.get_conversation_history("s")] == ["a"]
            finally:
                primary.thaw()

    async def test_a_subscription_goes_on(self, watched: Sentinels, namespace: str) -> None:
        """Who follows a session is given, once each, what was there and what comes after another has taken over."""
        seen: list[int] = []
        async with open_store(watched.url, namespace=namespace, timeout=20) as store:

            async def follow() -> None:
                async for event in store.subscribe("s"):
                    seen.append(event.version)  # noqa: PERF401 - others look at it meanwhile

            await store.append("s", [said("a"), said("b")])
            following = asyncio.create_task(follow())
            await until(lambda: seen == [1, 2])
            primary = watched.primary()
            await asyncio.to_thread(watched.replicas_are_level, primary)
            primary.freeze()
            try:
                await store.append("s", said("c"))
                await until(lambda: seen == [1, 2, 3])
            finally:
                primary.thaw()
                following.cancel()
                await asyncio.wait([following])


async def is_read(store: EventStore) -> bool:
    """Whether a store's server gives back what was appended."""
    try:
        return await store.version("s") == 1
    except StoreUnavailable:
        return False


async def is_healthy(engine: ContextEngine) -> bool:
    """Whether an engine says that nothing is wrong."""
    return bool((await engine.health_check())["status"] == "healthy")


class TestServersThatTakeNoWrites:
    """What a replica, or a primary that misses its replicas, refuses was not carried out, and is sent again."""

    @pytest.mark.parametrize(
        ("refuses", "takes"),
        [
            (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
            (("CONFIG", "SET", "min-replicas-to-write", "1"), ("CONFIG", "SET", "min-replicas-to-write", "0")),
        ],
        ids=["a replica", "without replicas"],
    )
    @pytest.mark.guarantee("L1", "L8", "S5")
    async def test_writes_wait(self, each_server: Server, refuses: tuple[str, ...], takes: tuple[str, ...]) -> None:
        """Appends, and those who keep views, wait until the server takes writes; past the timeout they say so."""
        async with open_store(each_server.url, timeout=20) as store, open_store(each_server.url, timeout=0.3) as hasty:
            views = open_views(store)
            queries = Queries(store, views, Projector(store, views))
            await store.append("s", said("a"))
            each_server.ask(*refuses)
            with pytest.raises(StoreUnavailable, match="Nothing was written"):
                await hasty.append("s", said("b"))
            (refused,) = await hasty.append_many([Append("s", [said("b")])])
            assert isinstance(refused, StoreUnavailable)
            before = calls(each_server)
            appending = asyncio.create_task(store.append("s", said("c")))
            asking = asyncio.create_task(queries.totals())
            await until(lambda: calls(each_server) >= before + 4)
            assert not appending.done()
            assert not asking.done()
            each_server.ask(*takes)
            appended = await appending
            assert appended.version == 2
            assert (await asking).events in (1, 2)
            assert [event.event_id for event in await store.read("s")][1:] == appended.event_ids


def calls(server: Server) -> int:
    """Return how many scripts a server was asked to run."""
    return int(server.ask("INFO", "commandstats")["cmdstat_evalsha"]["calls"])
