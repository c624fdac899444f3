"""Workers are killed, frozen, poisoned or robbed of their server: the views end as the fold of the log."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from support.audits import audited
from support.findings import record
from support.ledger import Ledger
from support.processes import Process, Processes
from support.projected import check_views, projected
from support.rounds import rounds
from support.sabotaged_worker import FREEZE
from support.servers import Server, binaries
from support.waiting import until

from eventstore import (
    ContextDeleted,
    ContextSet,
    Event,
    EventStore,
    HistoryCleared,
    MessageAdded,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
    StoreUnavailable,
    open_store,
)
from eventstore.redis.links import Links
from eventstore.redis.store import RedisStore
from projections import GROUP, Projector, Queries, open_views
from workers import ProjectionWorker, following

T = TypeVar("T")


@pytest.fixture
async def store(server: Server) -> AsyncIterator[RedisStore]:
    """A store on the test's own server."""
    async with open_store(server.url, timeout=20) as store:
        assert isinstance(store, RedisStore)
        yield store


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


A_ROUND = 100
"""Appends of a round in which a worker is killed or stopped at any moment."""


class Writers:
    """Tasks that append events of every kind to some sessions, until the end of the block.

    Args:
        store: Where to.
        ledger: Where it is noted.
        name: What the sessions' names begin with.
        sessions: How many sessions.
        most: How often they append altogether at most.
    """

    def __init__(
        self,
        store: EventStore,
        ledger: Ledger | None = None,
        *,
        name: str = "s",
        sessions: int = 40,
        most: float = math.inf,
    ) -> None:
        self.ledger = ledger or Ledger()
        self._store = store
        self._name = name
        self._sessions = sessions
        self._left = most
        self._chance = random.Random(11)
        self._finished = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write(f"writer-{number}")) for number in range(4)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._finished = True
        await asyncio.gather(*self._tasks)

    async def _write(self, writer: str) -> None:
        chance = self._chance
        while not self._finished and self._left > 0:
            self._left -= 1
            session_id = f"{self._name}{chance.randrange(self._sessions)}"
            messages = chance.randrange(4)
            others = [self._event() for _ in range(chance.randrange(not messages, 3))]
            await self.ledger.append(self._store, writer, session_id, messages, also=others)

    def _event(self) -> Event:
        chance, number = self._chance, len(self.ledger.acknowledged)
        rare: list[Event] = [
            HistoryCleared(),
            SessionStarted(f"user-{number % 3}", {"number": number}),
            SessionUpdated(requests=1, errors=number % 2, processing_time=0.25, changes={"last": number}),
            SessionEnded(chance.choice(["completed", "failed"])),
            ContextDeleted(f"key-{number % 5}"),
        ]
        return chance.choice(rare) if chance.random() < 0.2 else ContextSet(f"key-{number % 5}", number)


async def held_by(store: RedisStore, name: str) -> int:
    """Return how many entries of the feeds a worker was handed and has not acknowledged."""
    feeds = [store.keys.feed(partition) for partition in range(store.partitions)]
    replies = await store.links.pipeline([("XPENDING", feed, GROUP, "-", "+", 1000, name) for feed in feeds])
    return sum(map(len, replies))


async def freeze_with_work_in_hand(store: RedisStore, name: str, worker: Process) -> None:
    """Stop a worker at a moment when it holds entries of the feeds."""

    async def caught() -> bool:
        worker.freeze()
        # Asked twice: what the worker had sent before it stood still has been carried out by the second time.
        if await held_by(store, name) and await held_by(store, name):
            return True
        worker.thaw()
        return False

    await until(caught)


async def waits_for_news(server: Server) -> bool:
    """Return whether a worker blocks on the feeds: whatever the server does to it then, it notices at once."""
    links = Links.from_url(server.url, timeout=20)
    try:
        return b"blocked_clients:1" in await links.call("INFO", "clients")
    finally:
        await links.aclose()


async def somebody_takes_over(workers: Iterable[Process]) -> None:
    """Wait until one of these workers once more takes over from a dead one."""
    times = {worker: len(worker.said("worker_took_over")) for worker in workers}
    await until(lambda: any(len(worker.said("worker_took_over")) > count for worker, count in times.items()))


async def passes(store: EventStore, seconds: float) -> None:
    """Wait until so much time has passed by the server's clock."""
    end = await store.now() + timedelta(seconds=seconds)

    async def passed() -> bool:
        return await store.now() >= end

    await until(passed)


class TestKilled:
    @pytest.mark.guarantee("V2", "V5", "W1")
    async def test_with_work_in_hand(self, server: Server, store: RedisStore, processes: Processes) -> None:
        """What a worker had in hand when it died, another takes over; it comes back and goes on."""
        workers = {name: await processes.worker(server.url, name) for name in ("a", "b")}
        for worker in workers.values():
            await worker.says("worker_started")
        async with Writers(store):
            for victim in ("a", "b"):
                await freeze_with_work_in_hand(store, victim, workers[victim])
                await workers.pop(victim).killed()
                await somebody_takes_over(workers.values())
                workers[victim] = await processes.worker(server.url, victim)
                await workers[victim].says("worker_started")
        await projected(store)
        await check_views(store)

    @pytest.mark.guarantee("V2", "V5", "W1")
    async def test_killed_and_stopped_at_any_moment(
        self, server: Server, store: RedisStore, processes: Processes
    ) -> None:
        """Workers are killed, or stopped past their claim time, under writers: the views are the folds of the log."""
        chance = random.Random()
        times = rounds(50)
        claim_after = 0.3
        happened: Counter[str] = Counter(kills=0, stops=0)
        workers = [await processes.worker(server.url, f"w{number}", claim_after=claim_after) for number in range(3)]
        everybody = list(workers)
        for worker in workers:
            await worker.says("worker_started")
        ledger = Ledger()
        for number in range(times):
            # Many sessions, new ones in each round: that one was skipped is not made good by a later event.
            async with Writers(store, ledger, name=f"round-{number}-", sessions=A_ROUND, most=A_ROUND):
                await ledger.acknowledges(chance.randint(1, A_ROUND))
                place = chance.randrange(3)
                victim = workers[place]
                if chance.random() < 0.5:
                    happened["kills"] += 1
                    await victim.killed()
                    name = chance.choice([f"w{place}", f"new-{number}"])
                    workers[place] = await processes.worker(server.url, name, claim_after=claim_after)
                    everybody.append(workers[place])
                    await workers[place].says("worker_started")
                else:
                    happened["stops"] += 1
                    victim.freeze()
                    await passes(store, claim_after * 1.5)
                    victim.thaw()
        await projected(store)
        assert all(worker.runs for worker in workers)
        views = open_views(store)
        assert await views.parked() == []
        await check_views(store)
        assert await audited(store, views) == []
        judgement = await ledger.check(store)
        assert (await views.totals()).events == judgement.found
        happened["takeovers"] = sum(len(worker.said("worker_took_over")) for worker in everybody)
        record("3 workers are killed, or stopped past their claim time", rounds=times, **judgement.figures, **happened)

    @pytest.mark.guarantee("V4")
    async def test_a_list_is_right_at_once(self, server: Server, store: RedisStore, processes: Processes) -> None:
        """When the only worker dies with work in hand, whoever asks for a list or for totals finishes the work."""
        worker = await processes.worker(server.url, "a", claim_after=1000)
        await worker.says("worker_started")
        async with Writers(store):
            await freeze_with_work_in_hand(store, "a", worker)
            await worker.killed()
        views = open_views(store)
        queries = Queries(store, views, Projector(store, views))
        sessions = {session.session_id: session.version for session in (await queries.sessions()).sessions}
        events = [event.session_id async for event in store.read_all()]
        assert sessions == {session_id: events.count(session_id) for session_id in events}
        assert (await queries.totals()).events == len(events)
        await check_views(store)


class TestFrozen:
    @pytest.mark.guarantee("V2", "V5")
    async def test_a_worker_that_comes_back_from_the_dead_is_harmless(
        self, server: Server, store: RedisStore, processes: Processes
    ) -> None:
        """A worker that stood still between reading a view and committing it, past its claim time, changes nothing."""
        frozen = await processes.sabotaged_worker(server.url, "frozen")
        await frozen.says("worker_started")
        await store.append("s", [said("a"), ContextSet("key", "old"), said(FREEZE)])
        await until(lambda: held_by(store, "frozen"))
        heir = await processes.worker(server.url, "heir")
        await heir.says("worker_took_over")
        await store.append("s", [ContextSet("key", "new"), said("b")])
        await projected(store)
        await check_views(store)
        frozen.thaw()
        frozen.terminate()
        assert await frozen.ended() == 0
        await projected(store)
        await check_views(store)


class TestTerminated:
    @pytest.mark.guarantee("W3")
    async def test_a_worker_drains_and_leaves(self, server: Server, store: RedisStore, processes: Processes) -> None:
        """On SIGTERM a worker finishes what it has in hand, leaves nothing in its name, and exits with 0."""
        worker = await processes.worker(server.url, "a")
        await worker.says("worker_started")
        async with Writers(store):
            await freeze_with_work_in_hand(store, "a", worker)
            worker.terminate()
            worker.thaw()
            assert await worker.ended() == 0
        assert worker.said("worker_draining")[0]["signal"] == "SIGTERM"
        assert worker.said("worker_stopped")
        assert await held_by(store, "a") == 0
        assert await store.feed.heartbeats(GROUP) == {}
        await (await processes.worker(server.url, "b")).says("worker_started")
        await projected(store)
        await check_views(store)

    async def test_an_idle_worker_leaves_at_once(self, server: Server, processes: Processes) -> None:
        """On SIGTERM a worker that waits for news is woken and exits with 0."""
        worker = await processes.worker(server.url, "a")
        await worker.says("worker_started")
        worker.terminate()
        assert await worker.ended(within=10) == 0
        assert worker.said("worker_stopped")

    @pytest.mark.parametrize("gone", [Server.kill, Server.freeze], ids=["killed", "frozen"])
    async def test_a_worker_whose_server_is_gone_leaves_within_its_drain_time(
        self, server: Server, processes: Processes, gone: Callable[[Server], None]
    ) -> None:
        """On SIGTERM a worker that cannot reach its server exits with 0 after the time that ``--drain`` gives it."""
        worker = await processes.worker(server.url, "a", "--drain", "1")
        await worker.says("worker_started")
        await until(lambda: waits_for_news(server))
        gone(server)
        if gone is Server.kill:
            await worker.says("worker_waiting")
        worker.terminate()
        assert await worker.ended(within=10) == 0


class TestServerAway:
    async def test_a_worker_without_a_server_says_so_and_exits_with_1(
        self, server: Server, processes: Processes
    ) -> None:
        """A worker that starts before its server exits with one JSON line, for its supervisor to start it again."""
        server.stop()
        worker = await processes.worker(server.url, "a")
        assert await worker.ended() == 1
        assert [line["action"] for line in worker.lines] == ["worker_failed"]
        assert worker.lines[0]["level"] == "error"
        assert "StoreUnavailable" in worker.lines[0]["error"]
        server.start()
        await (await processes.worker(server.url, "a")).says("worker_started")

    @pytest.mark.guarantee("V2")
    async def test_a_restarted_server_gets_its_worker_back(
        self, server: Server, store: RedisStore, processes: Processes
    ) -> None:
        """A worker whose server is killed and restarted, twice, goes on by itself."""
        worker = await processes.worker(server.url, "a")
        await worker.says("worker_started")
        for times in (1, 2):
            await store.append("s", [said("a"), ContextSet("key", times)])
            await until(lambda: waits_for_news(server))
            server.kill()
            await worker.says("worker_waiting", times=times)
            server.start()
            await store.append("s", said("b"))
            await worker.says("worker_started", times=times + 1)
            await projected(store)
            await check_views(store)
        worker.terminate()
        assert await worker.ended() == 0

    async def test_a_server_that_came_back_empty_gets_its_worker_back(
        self, directory: Path, processes: Processes
    ) -> None:
        """A worker whose server has forgotten everything, its consumer groups too, projects what is appended then."""
        with Server(next(iter(binaries().values())), directory, appendonly="no") as server:
            async with open_store(server.url, timeout=20) as store:
                workers = [await processes.worker(server.url, name, claim_after=0.1) for name in ("a", "b")]
                for worker in workers:
                    await worker.says("worker_started")
                for times in range(3):
                    await store.append("s", [said(f"{times}") for _ in range(3 - times)])
                    await projected(store)
                    await check_views(store)
                    server.kill()
                    server.start()
                assert all(worker.runs for worker in workers)

    async def test_outages_are_no_crashes(self, store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """A session that is at hand while its worker loses the server, again and again, is not parked for it."""
        monkeypatch.setattr(following, "PAUSE", 0.01)
        views = open_views(store)
        outages = iter(range(6))

        def without_server(write: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
            async def once(*given: Any, **named: Any) -> T:
                if next(outages, None) is not None:
                    raise StoreUnavailable("This is staged.")
                return await write(*given, **named)

            return once

        monkeypatch.setattr(views, "commit", without_server(views.commit))
        monkeypatch.setattr(views, "exchange", without_server(views.exchange))
        await store.append("s", said("a"))
        worker = ProjectionWorker(store, views, name="a", claim_after=0.01)
        working = asyncio.create_task(worker.run())
        await projected(store)
        await worker.stop()
        await working
        assert next(outages, None) is None
        assert await views.parked() == []
        await check_views(store)
