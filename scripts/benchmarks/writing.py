"""The rows that write: against raw XADD of the same bytes, encoded beforehand, with redis-py."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from benchmarks import BenchFailed
from benchmarks.bench import ALWAYS, EVERYSEC, Bench
from benchmarks.limit import Limit
from benchmarks.measuring import Check, Figure, Result, Timed, medians, rates, ratios, timed
from contextengine import ContextEngine

ENGINE, RAW = "engine", "redis-py"
PER_SECOND, MICROSECONDS = "events/s", "µs"
BULK, CALLERS = 100, 8


async def one_message(bench: Bench) -> Result:
    """Measure one message after the other, by one caller."""
    async with bench.open() as (_, engine, redis):
        ours, theirs = iter(bench.messages), iter(bench.messages)
        sides: dict[str, Callable[[], Awaitable[object]]] = {
            ENGINE: lambda: engine.add_conversation_message("one", **next(ours).fields),
            RAW: lambda: redis.xadd("one", {"e": next(theirs).entry}),
        }
        found = await medians(sides, repeats=bench.repeats, calls=bench.size(3000, 800), after_repeat=bench.step)
    return Result(
        [
            Figure("add_conversation_message, p50", MICROSECONDS, found[ENGINE]),
            Figure("XADD, p50", MICROSECONDS, found[RAW]),
        ],
        [Check("p50 / XADD p50", ratios(found[ENGINE], found[RAW]), 1.3)],
    )


async def writers_64(bench: Bench) -> Result:
    """Measure 64 tasks of one process, each with a session of its own."""
    async with bench.open() as (_, engine, redis):
        sides = {
            ENGINE: _engine_side(bench, engine, 64, bench.size(32_000, 6_400)),
            RAW: _raw_side(bench, redis, 64, bench.size(12_800, 3_200)),
        }
        found = await rates(sides, repeats=bench.repeats, after_repeat=bench.step)
    return Result(
        [
            Figure("engine, 64 writers", PER_SECOND, found[ENGINE]),
            Figure("XADD, 64 tasks over a pool of 64", PER_SECOND, found[RAW]),
        ],
        [Check("engine / XADD", ratios(found[ENGINE], found[RAW]), 4, at_least=True)],
    )


async def one_session(bench: Bench) -> Result:
    """Measure 64 tasks that write to one session, and look afterwards whether everything is there, in order."""
    async with bench.open() as (_, engine, redis):
        runs = itertools.count()
        count = bench.size(32_000, 6_400)

        async def write_together() -> Timed:
            session_id = f"together-{next(runs)}"
            messages = bench.messages.take(count // 64)

            async def write(writer: int) -> None:
                for number, message in enumerate(messages):
                    metadata = message.fields["metadata"] | {"writer": writer, "number": number}
                    await engine.add_conversation_message(session_id, **message.fields | {"metadata": metadata})

            return await timed(64 * len(messages), asyncio.gather(*map(write, range(64))))

        sides = {ENGINE: write_together, RAW: _raw_side(bench, redis, 64, bench.size(12_800, 3_200), one_stream=True)}
        found = await rates(sides, repeats=bench.repeats, after_repeat=bench.step)
        checked = [await _check_whole(engine, f"together-{run}", count // 64) for run in range(next(runs))]
    return Result(
        [
            Figure("engine, 64 writers, one session", PER_SECOND, found[ENGINE]),
            Figure("XADD, 64 tasks, one stream", PER_SECOND, found[RAW]),
        ],
        [Check("engine / XADD", ratios(found[ENGINE], found[RAW]), 3, at_least=True)],
        [f"{sum(checked):,} messages read back: none is lost or doubled, and each writer's are in its order"],
    )


async def writers_256(bench: Bench) -> Result:
    """Measure 256 tasks of one process, against what the server can take from a client that costs nothing."""
    async with bench.open() as (server, engine, redis):
        limit = await Limit.of_sessions(server, redis, bench.messages.typical(Limit.SESSIONS))
        calls = bench.size(4_000, 1_000)
        sides = {
            ENGINE: _engine_side(bench, engine, 256, bench.size(51_200, 12_800)),
            "limit": lambda: limit.run(calls),
        }
        found = await rates(sides, repeats=bench.repeats, after_repeat=bench.step)
    return Result(
        [
            Figure("engine, 256 writers", PER_SECOND, found[ENGINE]),
            Figure(f"the server's limit ({limit.how}, {Limit.SESSIONS} sessions a call)", PER_SECOND, found["limit"]),
        ],
        [Check("engine / limit", ratios(found[ENGINE], found["limit"]), 0.4, at_least=True)],
    )


async def bulk(bench: Bench) -> Result:
    """Measure 100 events a call: by one caller; for information, by 8 at once, and by a client that costs nothing."""
    async with bench.open() as (server, engine, redis):
        pages = [bench.messages.take(BULK)] * (bench.size(160, 64) // CALLERS)
        fields, entries = ([[getattr(each, form) for each in page] for page in pages] for form in ("fields", "entry"))

        async def ours(caller: int) -> None:
            for messages in fields:
                await engine.add_conversation_messages(f"bulk-{caller}", messages)

        async def theirs(caller: int) -> None:
            for page in entries:
                pipeline = redis.pipeline(transaction=False)
                for entry in page:
                    pipeline.xadd(f"bulk-{caller}", {"e": entry})
                await pipeline.execute()

        async def one_by_one(write: Callable[[int], Awaitable[None]]) -> None:
            for caller in range(CALLERS):
                await write(caller)

        count, limit = CALLERS * len(pages) * BULK, await Limit.of_bulk(server, redis, pages[0])
        sides = {
            ENGINE: lambda: timed(count, one_by_one(ours)),
            RAW: lambda: timed(count, one_by_one(theirs)),
            f"{ENGINE} at once": lambda: timed(count, asyncio.gather(*map(ours, range(CALLERS)))),
            f"{RAW} at once": lambda: timed(count, asyncio.gather(*map(theirs, range(CALLERS)))),
            "limit": lambda: limit.run(count // BULK),
        }
        found = await rates(sides, repeats=bench.repeats, after_repeat=bench.step)
    return Result(
        [
            Figure("add_conversation_messages, 100 a call", PER_SECOND, found[ENGINE]),
            Figure("pipeline of 100 XADD", PER_SECOND, found[RAW]),
            Figure(f"add_conversation_messages, {CALLERS} callers at once", PER_SECOND, found[f"{ENGINE} at once"]),
            Figure(f"pipelines of 100 XADD, {CALLERS} callers at once", PER_SECOND, found[f"{RAW} at once"]),
            Figure(f"the script alone, 1 caller ({limit.how})", PER_SECOND, found["limit"]),
        ],
        [Check("engine / pipeline", ratios(found[ENGINE], found[RAW]), 3, at_least=True)],
    )


async def fsync(bench: Bench) -> Result:
    """Measure 64 writers on two servers: one that has written before it answers, and one that writes every second."""
    async with bench.open(fsync=ALWAYS) as (_, safe, _), bench.open(fsync=EVERYSEC) as (_, fast, _):
        count = bench.size(25_600, 6_400)
        sides = {ALWAYS: _engine_side(bench, safe, 64, count), EVERYSEC: _engine_side(bench, fast, 64, count)}
        found = await rates(sides, repeats=bench.repeats, after_repeat=bench.step)
    return Result(
        [Figure(f"engine, appendfsync {name}", PER_SECOND, found[name]) for name in (ALWAYS, EVERYSEC)],
        [Check("always / everysec", ratios(found[ALWAYS], found[EVERYSEC]), 0.45, at_least=True)],
    )


def _engine_side(bench: Bench, engine: ContextEngine, writers: int, count: int) -> Callable[[], Awaitable[Timed]]:
    """Return a run in which writers write to a new session each."""
    runs = itertools.count()
    messages = bench.messages.take(count // writers)

    async def write_all() -> Timed:
        run = next(runs)

        async def write(writer: int) -> None:
            session_id = f"own-{run}-{writer}"
            for message in messages:
                await engine.add_conversation_message(session_id, **message.fields)

        return await timed(writers * len(messages), asyncio.gather(*map(write, range(writers))))

    return write_all


def _raw_side(
    bench: Bench, redis: Redis, writers: int, count: int, *, one_stream: bool = False
) -> Callable[[], Awaitable[Timed]]:
    """Return a run in which tasks write to a new stream each, or all to one."""
    runs = itertools.count()
    messages = bench.messages.take(count // writers)

    async def write_all() -> Timed:
        run = next(runs)

        async def write(writer: int) -> None:
            key = f"raw-{run}" if one_stream else f"raw-{run}-{writer}"
            for message in messages:
                await redis.xadd(key, {"e": message.entry})

        return await timed(writers * len(messages), asyncio.gather(*map(write, range(writers))))

    return write_all


async def _check_whole(engine: ContextEngine, session_id: str, each: int) -> int:
    """Read back what 64 writers wrote to a session, and return how many messages that are.

    Raises:
        BenchFailed: Something is missing, double, or not in the order in which its writer wrote it.
    """
    numbers: dict[int, list[int]] = defaultdict(list)
    history = await engine.get_conversation_history(session_id, limit=None, include_compacted=True)
    for message in history:
        numbers[message["metadata"]["writer"]].append(message["metadata"]["number"])
    if any(numbers[writer] != list(range(each)) for writer in range(64)):
        raise BenchFailed(f"The session {session_id!r} does not hold what was written to it, in order.")
    return len(history)
