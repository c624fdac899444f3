"""The rows of the projection worker: how much it takes in, and how soon a view shows what was appended."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time

from redis.asyncio import Redis

from benchmarks import BenchFailed
from benchmarks.bench import Bench
from benchmarks.filling import project_all
from benchmarks.measuring import Check, Figure, Result, Timed, Values, latencies, percentile, ratios, timed
from benchmarks.messages import Messages
from benchmarks.processes import working
from benchmarks.writing import MICROSECONDS, PER_SECOND
from contextengine import ContextEngine
from eventstore import open_store
from eventstore.redis.keys import Keys
from projections import GROUP
from projections.redis.commits import SESSION

WRITERS = 64
A_SECOND = 2000
PROBE_EVERY = 0.01
PATIENCE = 10.0


async def worker(bench: Bench) -> Result:
    """Measure what one worker projects from a backlog, against what one process appends."""
    appended: Values = []
    projected: dict[str, Values] = {"hot": [], "cold": []}
    async with bench.open() as (server, engine, _), open_store(server.url) as store:
        count = bench.size(25_600, 6_400)
        for run in range(-1, bench.repeats):
            wrote = await _append(bench.messages, engine, f"hot-{run}", count)
            hot = await timed(count, project_all(store))
            await _append(bench.messages, engine, f"cold-{run}", count // 2, each=1)
            cold = await timed(count // 2, project_all(store))
            if run >= 0:  # the first was to warm up
                appended.append(wrote.count / wrote.seconds)
                projected["hot"].append(hot.count / hot.seconds)
                projected["cold"].append(cold.count / cold.seconds)
                bench.step()
    return Result(
        [
            Figure("worker, backlog of 64 sessions", PER_SECOND, projected["hot"]),
            Figure("worker, every event of another session", PER_SECOND, projected["cold"]),
            Figure("engine, 64 writers", PER_SECOND, appended),
        ],
        [Check("projected / appended", ratios(projected["hot"], appended), 1, at_least=True)],
    )


async def visible(bench: Bench) -> Result:
    """Measure how long after an acknowledged append the view has it, at 2,000 events a second."""
    async with bench.open() as (server, engine, redis), open_store(server.url) as store:
        trips = [
            statistics.median((await latencies({"": redis.ping}, calls=bench.size(1000, 500)))[""])
            for _ in range(bench.repeats)
        ]
        async with working(server, store, GROUP):
            keys = Keys(store.namespace, store.partitions)
            probed = _Probed(engine, redis, keys)
            await probed.run(bench.messages, bench.size(3, 1))  # to warm up
            p50, p99 = [], []
            for _ in range(bench.repeats):
                times = await probed.run(bench.messages, bench.size(6, 2))
                p50.append(statistics.median(times))
                p99.append(percentile(times, 99))
                bench.step()
    return Result(
        [
            Figure("append acknowledged to view visible, p50", MICROSECONDS, p50),
            Figure("append acknowledged to view visible, p99", MICROSECONDS, p99),
            Figure("a round trip (PING), p50", MICROSECONDS, trips),
        ],
        [
            Check("p50 in round trips", ratios(p50, trips), 8),
            Check("p99 in round trips", ratios(p99, trips), 50),
        ],
    )


class _Probed:
    """Appends at a steady pace, and looks now and then when the view has the newest event."""

    def __init__(self, engine: ContextEngine, redis: Redis, keys: Keys) -> None:
        self._engine = engine
        self._redis = redis
        self._keys = keys
        self._runs = itertools.count()

    async def run(self, messages: Messages, seconds: float) -> Values:
        """Return the microseconds that each probe took."""
        run = next(self._runs)
        times: Values = []
        said, sessions = iter(messages), itertools.count()
        async with asyncio.TaskGroup() as tasks:
            pace = tasks.create_task(self._append(messages, f"paced-{run}", seconds))
            while not pace.done():
                session_id, began = f"probe-{run}-{next(sessions)}", time.perf_counter()
                await self._engine.add_conversation_message(session_id, **next(said).fields)
                times.append(await self._seen(session_id))
                await asyncio.sleep(max(0.0, PROBE_EVERY - (time.perf_counter() - began)))
        return times

    async def _append(self, messages: Messages, name: str, seconds: float) -> None:
        """Append without waiting for one another, each event when it is due."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number, message in zip(range(int(A_SECOND * seconds)), messages, strict=False):
                early = began + number / A_SECOND - time.perf_counter()
                if early > 0:
                    await asyncio.sleep(early)
                tasks.create_task(self._engine.add_conversation_message(f"{name}-{number % WRITERS}", **message.fields))

    async def _seen(self, session_id: str) -> float:
        """Ask for the view of a session's only event until it is there; return the microseconds since now."""
        view = self._keys.of_session(SESSION, session_id.encode())
        began = time.perf_counter()
        while not await self._redis.exists(view):
            if time.perf_counter() > began + PATIENCE:
                raise BenchFailed(f"The worker has not projected an event within {PATIENCE:g} s.")
        return (time.perf_counter() - began) * 1e6


async def _append(messages: Messages, engine: ContextEngine, name: str, count: int, each: int | None = None) -> Timed:
    """Append by 64 writers, each to a session of its own, or to a new one after every ``each`` events."""
    given = messages.take(count // WRITERS)

    async def write(writer: int) -> None:
        for number, message in enumerate(given):
            session_id = f"{name}-{writer}" if each is None else f"{name}-{writer}-{number // each}"
            await engine.add_conversation_message(session_id, **message.fields)

    return await timed(WRITERS * len(given), asyncio.gather(*map(write, range(WRITERS))))
