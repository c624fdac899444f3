"""Workers are killed, frozen, poisoned or robbed of their server: the views end as the fold of the log."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

import pytest
from support.processes import Process, Processes
from support.projected import check_views, projected, waiting
from support.sabotaged_worker import DEATH, DIE, FREEZE
from support.servers import Server, binaries
from support.waiting import until

from eventstore import (
    ContextDeleted,
    ContextSet,
    CorruptLog,
    Event,
    EventStore,
    FoldFailed,
    HistoryCleared,
    MessageAdded,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
    StoreUnavailable,
    open_store,
)
from eventstore.codec import encode
from eventstore.ids import new_event_id
from eventstore.redis.links import Links
from eventstore.redis.store import RedisStore
from projections import GROUP, Projector, Queries, open_views
from projections.views import Parked, ViewsChange
from workers import ProjectionWorker, following


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    """Processes of the test's own."""
    async with Processes() as processes:
        yield processes


@pytest.fixture
async def store(server: Server) -> AsyncIterator[RedisStore]:
    """A store on the test's own server."""
    async with open_store(server.url, timeout=20) as store:
        assert isinstance(store, RedisStore)
        yield store


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


class Writers:
    """Tasks that append events of every kind to forty sessions until the end of the block."""

    def __init__(self, store: EventStore) -> None:
        self.appended = 0
        self._store = store
        self._chance = random.Random(11)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write()) for _ in range(4)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def append(self, count: int) -> None:
        """Wait until so many more appends have been made."""
        goal = self.appended + count
        await until(lambda: self.appended >= goal)

    async def _write(self) -> None:
        while True:
            events = [self._event() for _ in range(self._chance.randint(1, 4))]
            await self._store.append(f"s{self._chance.randrange(40)}", events)
            self.appended += 1

    def _event(self) -> Event:
        chance, number = self._chance, self.appended
        rare: list[Event] = [
            HistoryCleared(),
            SessionStarted(f"user-{number % 3}", {"number": number}),
            SessionUpdated(requests=1, errors=number % 2, processing_time=0.25, changes={"last": number}),
            SessionEnded(chance.choice(["completed", "failed"])),
            ContextDeleted(f"key-{number % 5}"),
        ]
        often: list[Event] = [said(f"{number}"), ContextSet(f"key-{number % 5}", number)]
        return chance.choice(rare if chance.random() < 0.1 else often)


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


class TestKilled:
    @pytest.mark.guarantee("V2", "V5", "W1")
    async def test_others_take_over_and_the_views_are_exact(
        self, server: Server, store: RedisStore, processes: Processes
    ) -> None:
        """Workers die with work in hand, and at any moment, while appends go on; everything is projected once."""
        chance = random.Random(13)
        workers = {name: await processes.worker(server.url, name) for name in ("a", "b", "c")}
        for worker in workers.values():
            await worker.says("worker_started")
        async with Writers(store) as writers:
            for number in range(4):
                victim = chance.choice(list(workers))
                if number % 2:
                    await writers.append(chance.randint(100, 1000))
                    await workers.pop(victim).killed()
                else:
                    await freeze_with_work_in_hand(store, victim, workers[victim])
                    await workers.pop(victim).killed()
                    await somebody_takes_over(workers.values())
                name = victim if number < 2 else f"new-{number}"
                workers[name] = await processes.worker(server.url, name)
                await workers[name].says("worker_started")
        await projected(store)
        assert all(worker.runs for worker in workers.values())
        assert await open_views(store).parked() == []
        await check_views(store)

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
        commit = views.commit
        outages = iter(range(6))

        async def commit_without_server(changes: Sequence[ViewsChange]) -> list[bool]:
            if changes and next(outages, None) is not None:
                raise StoreUnavailable("This is staged.")
            return await commit(changes)

        monkeypatch.setattr(views, "commit", commit_without_server)
        await store.append("s", said("a"))
        worker = ProjectionWorker(store, views, name="a", claim_after=0.01)
        working = asyncio.create_task(worker.run())
        await projected(store)
        await worker.stop()
        await working
        assert next(outages, None) is None
        assert await views.parked() == []
        await check_views(store)


def entry(event: Event) -> bytes:
    """Return an event as it stands in the log."""
    return encode(new_event_id(), event, None)


POISON = {
    "unfoldable": (1, entry(SessionUpdated(changes={"metadata": "no dict"}))),
    "gap": (2, entry(said("there is a version missing before this"))),
    "damaged": (1, b"no JSON"),
    "no event": (1, b'["id",{"no":"type"},{}]'),
    "counter": (1, entry(SessionUpdated(changes={"request_count": "many"}))),
    "status": (1, entry(SessionUpdated(changes={"status": 5}))),
}
"""By kind: how many versions after the last one an entry stands that cannot be folded, and the entry."""


class TestPoison:
    @pytest.mark.parametrize("kind", POISON)
    @pytest.mark.guarantee("W2")
    async def test_a_session_that_cannot_be_folded_is_parked_and_the_rest_goes_on(
        self, server: Server, store: RedisStore, processes: Processes, kind: str
    ) -> None:
        """A poisoned session is parked, over restarts too, until it is repaired and retried; others are not touched."""
        views = open_views(store)
        projector = Projector(store, views)
        queries = Queries(store, views, projector)
        worker = await processes.worker(server.url, "a", claim_after=0.2)
        await worker.says("worker_started")
        await store.append("poisoned", [said("a"), said("b")])
        await projected(store)
        await poison(store, kind)

        async def noticed() -> bool:
            return bool(await views.parked()) or not worker.runs

        async def done() -> bool:
            return await noticed() or await waiting(store) == 0

        await until(done)
        await store.append("poisoned", ContextSet("key", "after the poison"))
        await store.append("healthy", said("a"))
        await until(noticed)
        assert worker.runs, "the worker died of it"
        (parked,) = await views.parked()
        assert (parked.session_id, parked.version) == ("poisoned", 3)
        assert parked.reason
        assert parked.traceback
        await projected(store)
        await check_views(store, only=["healthy"])

        worker.terminate()
        assert await worker.ended() == 0
        worker = await processes.worker(server.url, "b", claim_after=0.2)
        await store.append("poisoned", said("while it is parked"))
        await store.append("healthy", said("b"))
        await projected(store)
        assert worker.runs
        assert await views.parked() == [parked]
        await check_views(store, only=["healthy"])
        assert (await queries.totals()).sessions == 2
        for read in (queries.session("poisoned"), queries.history("poisoned"), queries.context("poisoned", "key")):
            with pytest.raises((CorruptLog, FoldFailed)):
                await read

        still = await projector.retry("poisoned")
        assert isinstance(still, Parked)
        assert (still.version, still.reason) == (parked.version, parked.reason)
        await repair(store)
        assert await projector.retry("poisoned") is None
        assert await views.parked() == []
        await check_views(store)
        await store.append("poisoned", said("as if nothing had been"))
        await projected(store)
        await check_views(store)

    async def test_lists_go_on_beside_a_parked_session(self, server: Server, store: RedisStore) -> None:
        """A list of all sessions does not fail because one of them is parked."""
        views = open_views(store)
        projector = Projector(store, views)
        await store.append("poisoned", [said("a"), said("b")])
        await store.append("healthy", said("a"))
        await projector.project_or_park(["poisoned", "healthy"])
        await poison(store, "unfoldable")
        await projector.project_or_park(["poisoned"])
        assert [parked.session_id for parked in await views.parked()] == ["poisoned"]
        page = await Queries(store, views, projector).sessions()
        assert "healthy" in {session.session_id for session in page.sessions}

    @pytest.mark.guarantee("W2")
    async def test_a_session_that_kills_its_workers_is_parked(
        self, server: Server, store: RedisStore, processes: Processes
    ) -> None:
        """A session that kills whoever folds it is parked after a few deaths, and the others are projected."""
        views = open_views(store)
        innocents = [f"before-{number}" for number in range(20)] + [f"after-{number}" for number in range(20)]
        for session_id in [*innocents[:20], "killer", *innocents[20:]]:
            await store.append(session_id, said(DIE if session_id == "killer" else "a"))
        deaths = 0

        async def parked_or_dead() -> bool:
            return bool(await views.parked()) or not worker.runs

        while not await views.parked():
            worker = await processes.sabotaged_worker(server.url, f"worker-{deaths % 2}", claim_after=0.2)
            await until(parked_or_dead)
            if not worker.runs:
                assert await worker.ended() == DEATH
                deaths += 1
                assert deaths <= 6, "it is never parked"
        assert deaths >= 2, "once is no pattern: the worker may have died of something else"
        (parked,) = await views.parked()
        assert parked.session_id == "killer"
        assert "died" in parked.reason
        await store.append("killer", said("still"))
        await store.append("after-0", said("b"))
        await projected(store)
        assert worker.runs
        assert [parked.session_id for parked in await views.parked()] == ["killer"]
        await check_views(store, only=innocents)


async def poison(store: RedisStore, kind: str) -> None:
    """Add an entry that cannot be folded to the session ``poisoned``, behind the store's back, as the append would."""
    distance, value = POISON[kind]
    partition = store.keys.partition(b"poisoned")
    last = (await store.read("poisoned"))[-1]
    version = last.version + distance
    place = f"{version}-{last.recorded_ms}"
    await store.links.call("XADD", store.keys.log(partition, b"poisoned"), place, "e", value)
    await store.links.call("HSET", store.keys.heads(partition), "poisoned", place)
    await store.links.call("XADD", store.keys.feed(partition), "*", "poisoned", f"{version}/1")


async def repair(store: RedisStore) -> None:
    """Write the log of the session ``poisoned`` anew, with a message in the place of what was damaged or missing."""
    log = store.keys.log(store.keys.partition(b"poisoned"), b"poisoned")
    entries = {
        int(place.split(b"-")[0]): (place, value)
        for place, (_, value) in await store.links.call("XRANGE", log, "-", "+")
    }
    entries[3] = (entries[2][0].replace(b"2-", b"3-", 1), entry(said("repaired")))
    added = [("XADD", log, place, "e", value) for _, (place, value) in sorted(entries.items())]
    await store.links.pipeline([("MULTI",), ("DEL", log), *added, ("EXEC",)])
