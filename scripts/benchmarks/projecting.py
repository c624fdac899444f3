"""The rows of the projection worker: how much it takes in, and how soon a view shows what was appended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from benchmarks import BenchFailed
from benchmarks.bench import Bench, answer
from benchmarks.filling import project_all
from benchmarks.measuring import Check, Figure, Result, Timed, Values, latencies, percentile, ratios, timed
from benchmarks.messages import Messages
from benchmarks.processes import working
from benchmarks.writing import MICROSECONDS, PER_SECOND
from contextengine import ContextEngine
from eventstore import open_store
from eventstore.redis.keys import Keys
from projections import GROUP
from projections.redis.names import Names
from projections.views import GENERATION

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
        views = _Views(redis, Keys(store.namespace, store.partitions))
        async with working(server, store, GROUP), views.watched():
            probed = _Probed(engine, views)
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


class _Views:
    """The views of sessions, watched from outside.

    The server tells when one is written, as it tells clients that keep copies of keys (CLIENT TRACKING): asking again
    and again would keep busy those who are to be measured.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._names = Names(GENERATION, 1)
        self._written: dict[bytes, asyncio.Future[float]] = {}

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Watch the views whose sessions' names begin with ``probe-``."""
        prefixes = (self._keys.shared(p, self._names.session + b":probe-") for p in range(self._keys.partitions))
        words = (word for prefix in prefixes for word in ("PREFIX", prefix))
        async with self._redis.pubsub() as told, self._redis.client() as tracking:
            await told.connect()
            connection: Any = told.connection
            await connection.send_command("CLIENT", "ID")
            listener = await connection.read_response()
            await told.subscribe("__redis__:invalidate")
            track: tuple[Any, ...] = ("CLIENT", "TRACKING", "ON", "REDIRECT", listener, "BCAST", *words)
            await answer(tracking.execute_command(*track))  # type: ignore[no-untyped-call]
            listening = asyncio.create_task(self._listen(told))
            try:
                yield
            finally:
                listening.cancel()

    async def written(self, session_id: str) -> float:
        """Return when a view was written for the first time."""
        try:
            return await asyncio.wait_for(
                self._when(self._keys.of_session(self._names.session, session_id.encode())), PATIENCE
            )
        except TimeoutError:
            raise BenchFailed(f"The worker has not projected an event within {PATIENCE:g} s.") from None

    async def _listen(self, told: PubSub) -> None:
        async for message in told.listen():
            if message["type"] == "message":
                for key in message["data"] or ():
                    if not (when := self._when(key)).done():
                        when.set_result(time.perf_counter())

    def _when(self, key: bytes) -> asyncio.Future[float]:
        return self._written.setdefault(key, asyncio.get_running_loop().create_future())


class _Probed:
    """Appends at a steady pace, and notes now and then when the view had the newest event."""

    def __init__(self, engine: ContextEngine, views: _Views) -> None:
        self._engine = engine
        self._views = views
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
                acknowledged = time.perf_counter()
                times.append(max(0.0, await self._views.written(session_id) - acknowledged) * 1e6)
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


async def _append(messages: Messages, engine: ContextEngine, name: str, count: int, each: int | None = None) -> Timed:
    """Append by 64 writers, each to a session of its own, or to a new one after every ``each`` events."""
    given = messages.take(count // WRITERS)

    async def write(writer: int) -> None:
        for number, message in enumerate(given):
            session_id = f"{name}-{writer}" if each is None else f"{name}-{writer}-{number // each}"
            await engine.add_conversation_message(session_id, **message.fields)

    return await timed(WRITERS * len(given), asyncio.gather(*map(write, range(WRITERS))))
