"""Ten thousand writers at once, with workers, compaction and reads: nothing is lost, and memory stays as it is."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import anyio
import pytest
from support.findings import record
from support.load import Load, resident
from support.processes import Processes
from support.projected import check_views, waiting
from support.rounds import rounds
from support.servers import Server
from support.waiting import until

from eventstore import EventStore, open_store
from eventstore.redis import appender
from eventstore.redis.room import MOST_ON_THE_WAY
from eventstore.redis.store import RedisStore
from projections import GROUP, Projector, Queries, open_views
from workers.compaction import worker as compaction

SESSIONS, WRITERS = 200, 50
SECONDS = 3 * rounds(20)
"""A minute in the long form."""
WARM = 0.4
"""The part of the time that processes have to take the memory that they need."""
MAY_GROW = 24.0
"""MiB by which a process may be larger afterwards: an allocator is not exact, what piles up would be hundreds."""
READERS = 10
SAMPLE_EVERY = 0.1
THRESHOLD = 300
"""Messages at which a history is compacted."""
LITTLE_ROOM = 4 * 1024 * 1024
LARGEST = 4096
"""More bytes than one append takes."""


class Memory:
    """What memory processes take, and the most that a store has on its way, looked at again and again."""

    def __init__(self, store: EventStore, pids: dict[str, int | None]) -> None:
        assert isinstance(store, RedisStore)
        self.sizes: dict[str, list[float]] = {name: [] for name in pids}
        self.most_on_the_way = 0
        """Bytes."""
        self._room = store._appenders.here()._room
        self._all_of_it = self._room._left
        self._pids = pids

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            for name, pid in self._pids.items():
                self.sizes[name].append(resident(pid))
            self.most_on_the_way = max(self.most_on_the_way, self._all_of_it - self._room._left)
            await asyncio.sleep(SAMPLE_EVERY)  # no-sleep-ok: memory is looked at in between

    def growth(self) -> dict[str, float]:
        """Return for each process by how many MiB it was larger, once warm, than when it had just become so."""
        grown = {}
        for name, sizes in self.sizes.items():
            warm = sizes[int(len(sizes) * WARM) :]
            grown[name] = round(max(warm) - max(warm[: max(1, len(warm) // 4)]), 1)
        return grown


class TestTenThousandWriters:
    @pytest.mark.guarantee("L1", "L3", "V1", "V2", "S10", "S12")
    async def test_nothing_is_lost_and_memory_is_flat(self, server: Server, processes: Processes) -> None:
        """200 sessions of 50 writers each, beside two workers, one who compacts, and readers who check what they read.

        Every message is there once, in its writer's order; what is on the way is bounded; the memory of each process is
        as it was when warm; afterwards nothing waits, every history is compacted, every view the fold of its log.
        """
        reads: Counter[str] = Counter()
        async with open_store(server.url, timeout=60) as store:
            pids: dict[str, int | None] = {"writers": None}
            compacting = ("--compaction", "--threshold", str(THRESHOLD), "--strategy", "truncate")
            for name, options in (("a", ()), ("b", ()), ("compactor", compacting)):
                worker = await processes.worker(server.url, name, *options)
                await worker.says("worker_started")
                pids[name] = worker.pid
            memory = Memory(store, pids)
            queries = Queries(store, open_views(store), Projector(store, open_views(store)))
            with anyio.fail_after(SECONDS + 240):
                async with Load(store, sessions=SESSIONS, writers=WRITERS) as load:
                    beside = [asyncio.create_task(memory.watch())]
                    beside += [asyncio.create_task(read(queries, load, seed, reads)) for seed in range(READERS)]
                    end = time.monotonic() + SECONDS
                    await until(
                        lambda: (
                            (time.monotonic() > end and load.least > 1 and reads.total() >= READERS)
                            or any(task.done() for task in beside)
                        ),
                        within=SECONDS + 120,
                    )
                    for task in beside:
                        task.cancel()
                    ended = await asyncio.gather(*beside, return_exceptions=True)
                    assert [why for why in ended if not isinstance(why, asyncio.CancelledError)] == []
                    lag = await waiting(store)
                began = time.monotonic()
                await until(lambda: nothing_waits(store), within=120)
                caught_up = time.monotonic() - began
            await load.check()
            await check_views(store)
            assert max([len(await queries.history(session_id)) for session_id in load.sessions]) < THRESHOLD
        growth = memory.growth()
        record(
            "10,000 writers at once",
            rounds=1,
            seconds=SECONDS,
            acknowledged=load.acknowledged,
            reads=reads.total(),
            lag_when_writing_ended=lag,
            lag_gone_after_s=round(caught_up, 1),
            most_on_the_way_mib=round(memory.most_on_the_way / 2**20, 1),
            **{f"grew_mib_{name}": grown for name, grown in growth.items()},
            **{f"most_mib_{name}": round(max(sizes), 1) for name, sizes in memory.sizes.items()},
        )
        assert memory.most_on_the_way <= MOST_ON_THE_WAY
        assert max(growth.values()) < MAY_GROW, growth


class TestASlowServer:
    @pytest.mark.guarantee("S10", "S12")
    async def test_callers_wait_and_memory_does_not_grow(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that stands still again and again: all ten thousand wait, for its answers or for room to ask."""
        monkeypatch.setattr(appender, "MOST_ON_THE_WAY", LITTLE_ROOM)
        sizes = []
        async with open_store(server.url, timeout=60) as store:
            assert isinstance(store, RedisStore)
            room = store._appenders.here()._room
            with anyio.fail_after(120):
                async with Load(store, sessions=SESSIONS, writers=WRITERS, length=1000) as load:
                    for _ in range(4 + rounds(30)):
                        goal = load.acknowledged + SESSIONS * WRITERS
                        await until(lambda goal=goal: load.acknowledged >= goal)  # type: ignore[misc]
                        server.freeze()
                        try:
                            await until(lambda: room.taken + len(room._waiting) == SESSIONS * WRITERS)
                            assert room._left > -LARGEST
                            assert len(room._waiting) > SESSIONS * WRITERS / 2
                            sizes.append(resident())
                        finally:
                            server.thaw()
            await load.check()
        growth = round(max(sizes[2:]) - max(sizes[:2]), 1)
        record(
            "a server that hangs again and again under 10,000 writers",
            writers=SESSIONS * WRITERS,
            rounds=len(sizes),
            acknowledged=load.acknowledged,
            grew_mib=growth,
        )
        assert growth < MAY_GROW, sizes


async def nothing_waits(store: EventStore) -> bool:
    """Whether everything that was appended has been projected, and looked at by who compacts."""
    progress = [*await store.feed.progress(GROUP), *await store.feed.progress(compaction.GROUP)]
    return not any(partition.waiting for partition in progress)


async def read(queries: Queries, load: Load, seed: int, reads: Counter[str]) -> None:
    """Read again and again: what was acknowledged before is there, and each writer's messages are in order."""
    chance = random.Random(seed)
    while True:
        number = chance.randrange(len(load.sessions))
        acknowledged = load.acknowledged_in[number]
        found = await queries.session(load.sessions[number])
        assert (found.state.message_count if found else 0) >= acknowledged
        last: dict[int, int] = {}
        for message in await queries.history(load.sessions[number], 50):
            if message["role"] == "user":
                writer, place = map(int, message["content"].split()[:2])
                assert place == last.get(writer, place - 1) + 1
                last[writer] = place
        reads["sessions"] += 1
