"""Compactors are killed, frozen or robbed of their server: nothing is lost, and one compaction takes effect."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.audits import audited
from support.findings import record
from support.ledger import Ledger
from support.processes import Process, Processes
from support.rounds import rounds
from support.sabotaged_compactor import STEPS
from support.servers import Server
from support.waiting import until

from contextengine import ContextEngine
from eventstore import EventStore, HistoryCompacted, MessageAdded, RecordedEvent, open_store
from eventstore.redis.store import RedisStore
from projections import Projector, open_views
from projections.history import History, HistoryChange, fold
from workers.compaction.worker import GROUP

SETTINGS = ("--threshold", "20", "--keep-recent", "4")
COUNT = 20


@pytest.fixture
async def store(server: Server) -> AsyncIterator[RedisStore]:
    """A store on the test's own server."""
    async with open_store(server.url, timeout=20) as store:
        assert isinstance(store, RedisStore)
        yield store


@pytest.fixture
async def compactors(server: Server, processes: Processes) -> Any:
    """Start compaction workers on the test's own server."""

    async def start(name: str, *options: str, **settings: Any) -> Process:
        worker = await processes.compactor(server.url, name, *SETTINGS, *options, **settings)
        await worker.says("worker_started")
        return worker

    return start


def numbered(count: int, start: int = 0) -> list[MessageAdded]:
    """Return messages with a number each."""
    return [MessageAdded("user", f"message <{n}>") for n in range(start, start + count)]


async def looked_at(store: EventStore) -> None:
    """Wait until the compaction workers have acknowledged everything."""

    async def done() -> bool:
        return all(partition.done >= partition.end for partition in await store.feed.progress(GROUP))

    await until(done)


async def held_by(store: RedisStore, name: str) -> int:
    """Return how many entries of the feeds a worker was handed and has not acknowledged."""
    feeds = [store.keys.feed(partition) for partition in range(store.partitions)]
    replies = await store.links.pipeline([("XPENDING", feed, GROUP, "-", "+", 1000, name) for feed in feeds])
    return sum(map(len, replies))


def effective(log: Sequence[RecordedEvent]) -> list[int]:
    """Return the versions of the compactions that took effect."""
    found, change = [], HistoryChange()
    for event in log:
        before, change = change, fold(change, [event])
        if isinstance(event.data, HistoryCompacted) and change.compaction != before.compaction:
            found.append(event.version)
    return found


async def check_history(store: EventStore, session_id: str = "s") -> History:
    """Check a history against its log: the view is the fold, and every message is in it or behind its summary."""
    views = open_views(store)
    await Projector(store, views).project_or_park([session_id])
    assert await views.parked() == []
    log = await store.read(session_id)
    stored = await views.read_history(session_id, None)
    history = fold(HistoryChange(), log).apply(History())
    assert (stored.version, stored.tail, stored.value) == (len(log), [], history)
    said = [event.version for event in log if isinstance(event.data, MessageAdded)]
    there = [message["version"] for message in history.messages]
    gone = history.compaction.event.stands_for if history.compaction else 0
    assert there == said[gone:], "messages are missing, or stand in another order"
    return history


class TestKilled:
    @pytest.mark.parametrize("step", ["asked", *STEPS])
    @pytest.mark.guarantee("C1", "C5", "W1")
    async def test_at_every_step(self, store: RedisStore, compactors: Any, step: str) -> None:
        """The history is as it was, or wholly compacted; another one does what is left, and pays for nothing twice."""
        model = {"summarizer": "dies"} if step == "asked" else {"dies": step}
        worker = await compactors("dying", patience=0.2, **model)
        await store.append("s", numbered(COUNT))
        assert await worker.ended() == -signal.SIGKILL
        await store.version("s")  # what came after it has been served, so what was sent has been, too
        done = bool(effective(await store.read("s")))
        if step != "sent":
            assert done == (step in STEPS and list(STEPS).index(step) > list(STEPS).index("sent"))
        assert len((await check_history(store)).messages) == (4 if done else COUNT)
        await store.append("s", numbered(3, COUNT))
        heir = await compactors("heir", patience=0.2)
        if step != "acknowledged":
            await heir.says("worker_took_over")
        await looked_at(store)
        asked = [told["prompt"].count("message <") for told in heir.said("asked")]
        assert asked == ([] if done else [COUNT + 3 - 4])
        history = await check_history(store)
        kept = range(COUNT - 4 if done else COUNT - 1, COUNT + 3)
        assert [message["content"] for message in history.messages] == [f"message <{n}>" for n in kept]
        assert effective(await store.read("s")) == [COUNT + (1 if done else 4)]
        record("compaction is killed after a step of it", rounds=1, taken_over=step != "acknowledged")

    @pytest.mark.guarantee("C1", "C2", "C3", "C5")
    async def test_at_any_moment(self, store: RedisStore, compactors: Any) -> None:
        """Workers are killed while appends go on: everything is there once, in order, and histories stay short."""
        chance = random.Random()
        ledger = Ledger()
        sessions = [f"s{n}" for n in range(6)]
        finished = asyncio.Event()

        async def write() -> None:
            while not finished.is_set():
                session_id = chance.choice(sessions)
                await ledger.append(store, session_id, session_id, chance.randint(1, 4))

        times = rounds(20)
        workers = [await compactors(f"worker-{n}") for n in range(3)]
        writing = asyncio.create_task(write())
        for number in range(times):
            await ledger.acknowledges(chance.randint(10, 100))
            victim = chance.randrange(3)
            await workers[victim].killed()
            workers[victim] = await compactors(f"worker-{victim}-{number}")
        finished.set()
        await writing
        await looked_at(store)
        compactions = 0
        for session_id in sessions:
            history = await check_history(store, session_id)
            assert len(history.messages) + 1 < COUNT
            compactions += len(effective(await store.read(session_id)))
        assert compactions >= len(sessions)
        judgement = await ledger.check(store, others=HistoryCompacted)
        assert await audited(store, open_views(store)) == []
        what = "3 compaction workers are killed at any moment"
        record(what, rounds=times, **judgement.figures, compactions=compactions)


class TestFrozen:
    @pytest.mark.guarantee("C1", "C3", "C5")
    async def test_past_its_lease(self, store: RedisStore, compactors: Any) -> None:
        """One that stood still while another compacted appends too late: that has no effect, and it says so."""
        frozen = await compactors("frozen", summarizer="freezes")
        await store.append("s", numbered(COUNT))
        await frozen.says("asked")
        heir = await compactors("heir")
        await heir.says("history_compacted")
        await store.append("s", numbered(14, COUNT))  # what the late one would take away is there again
        before = await check_history(store)
        frozen.thaw()
        failed = await frozen.says("compaction_failed")
        assert "rewritten" in failed["error"]
        await looked_at(store)
        log = await store.read("s")
        assert [event.version for event in log if isinstance(event.data, HistoryCompacted)] == [COUNT + 1, COUNT + 16]
        assert effective(log) == [COUNT + 1]
        assert await check_history(store) == before
        frozen.terminate()
        assert await frozen.ended() == 0


class TestTerminated:
    @pytest.mark.guarantee("W3")
    async def test_it_finishes_what_it_has_in_hand(self, store: RedisStore, compactors: Any, directory: Path) -> None:
        """On SIGTERM it waits for the summary that it has asked for, appends it, and exits with 0."""
        answer = anyio.Path(directory / "answer")
        worker = await compactors("a", summarizer="waits", patience=20, ANSWER=str(answer))
        await store.append("s", numbered(COUNT))
        await worker.says("asked")
        worker.terminate()
        await worker.says("worker_draining")
        await answer.write_text("What was said.")
        assert await worker.ended() == 0
        history = await check_history(store)
        assert history.compaction
        assert history.compaction.event.summary == "What was said."
        assert await held_by(store, "a") == 0
        assert await store.feed.heartbeats(GROUP) == {}

    @pytest.mark.guarantee("C5", "W3")
    async def test_it_gives_up_what_takes_too_long(
        self, server: Server, store: RedisStore, compactors: Any, directory: Path
    ) -> None:
        """After its time to drain it exits with 0, leaves the history as it was, and the session to others at once."""
        worker = await compactors(
            "a", "--drain", "0.2", summarizer="waits", patience=60, ANSWER=str(directory / "never")
        )
        await store.append("s", numbered(COUNT))
        await worker.says("asked")
        worker.terminate()
        assert await worker.ended() == 0
        assert len((await check_history(store)).messages) == COUNT
        async with ContextEngine(server.url, workers=False) as engine, asyncio.timeout(10):
            assert (await engine.compress_conversation("s", "summarize"))["success"]


class TestServerAway:
    @pytest.mark.guarantee("C5")
    async def test_a_server_that_dies_during_a_summary(
        self, server: Server, store: RedisStore, compactors: Any, directory: Path
    ) -> None:
        """The summary is lost, the history is as it was, and it is compacted when the server is back."""
        answer = anyio.Path(directory / "answer")
        worker = await compactors("a", summarizer="waits", patience=1, ANSWER=str(answer))
        await store.append("s", numbered(COUNT))
        await worker.says("asked")
        server.kill()
        await answer.write_text("What was said.")
        server.start()
        await looked_at(store)
        history = await check_history(store)
        assert len(history.messages) == 4
        assert len(effective(await store.read("s"))) == 1

    async def test_an_agent_does_not_notice(self, server: Server) -> None:
        """``compress_on_append_if_needed`` does not raise, even if there is no server any more."""
        async with ContextEngine(server.url, compress_on_append=True, timeout=0.3) as engine:
            await engine.add_conversation_messages("s", [{"role": "user", "content": "x"} for _ in range(30)])
            server.kill()
            report = await engine.compress_on_append_if_needed("s")
            assert report
            assert (report["success"], "StoreUnavailable" in report["error"]) == (False, True)
