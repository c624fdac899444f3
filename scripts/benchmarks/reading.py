"""The rows that read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from redis.asyncio import Redis

from benchmarks.bench import Bench, answer, engine_on
from benchmarks.filling import fill, project_all, start
from benchmarks.measuring import Check, Figure, Result, medians, rates, ratios, timed
from benchmarks.writing import MICROSECONDS, PER_SECOND
from contextengine import ContextEngine
from eventstore import EventStore, open_store
from eventstore.redis.keys import Keys
from projections import SessionState, fold, open_views
from projections.redis.names import Names
from projections.views import GENERATION

LENGTHS = (50, 500, 5_000, 50_000)
LAST = 50
PAGE = 1000
FEW, MANY = 1_000, 100_000
LISTED = 100

Sides = dict[str, Callable[[], Awaitable[Any]]]
_decode = msgspec.json.decode


async def history(bench: Bench) -> Result:
    """Measure the last 50 messages of short and of long histories."""
    async with bench.open() as (server, engine, redis), open_store(server.url) as store:
        keys = Keys(store.namespace, store.partitions)
        for length in LENGTHS:
            await fill(engine, str(length), [each.fields for each in bench.messages.take(length)])
        await project_all(store)
        last = bench.messages.take(LENGTHS[0])  # the same messages at the end of all, so that equal things are compared
        for length in LENGTHS:
            await fill(engine, str(length), [each.fields for each in last])
        await project_all(store)

        def ours(length: int) -> Callable[[], Awaitable[Any]]:
            return lambda: engine.get_conversation_history(str(length), limit=LAST)

        async def theirs() -> list[Any]:
            log = _log(keys, str(LENGTHS[-1]))
            entries = await answer(redis.xrevrange(log, count=LAST))
            return [_decode(fields[b"e"]) for _, fields in reversed(entries)]

        sides: Sides = {"raw": theirs} | {str(length): ours(length) for length in LENGTHS}
        found = await medians(sides, repeats=bench.repeats, calls=bench.size(600, 150), after_repeat=bench.step)
    each = [found[str(length)] for length in LENGTHS]
    slowest, quickest = ([pick(values) for values in zip(*each, strict=True)] for pick in (max, min))
    return Result(
        [
            *(Figure(f"last 50 of {length:,}, p50", MICROSECONDS, found[str(length)]) for length in LENGTHS),
            Figure("XREVRANGE 50, decoded, p50", MICROSECONDS, found["raw"]),
        ],
        [
            Check("slowest / quickest length", ratios(slowest, quickest), 1.15),
            Check("slowest / XREVRANGE 50", ratios(slowest, found["raw"]), 1.2),
        ],
    )


async def values(bench: Bench) -> Result:
    """Measure a session's metrics and one of its context values."""
    async with bench.open() as (server, engine, redis), open_store(server.url) as store:
        await engine.create_session("read", user_id="ann", metadata={"channel": "web", "locale": "en"})
        await fill(engine, "read", [each.fields for each in bench.messages.take(50)])
        await engine.set_context("read", "preferences", {"theme": "dark", "seat": "aisle", "max_layover_minutes": 120})
        await project_all(store)
        keys = Keys(store.namespace, store.partitions)
        names = Names(GENERATION, 1)
        session, context = (keys.of_session(what, b"read") for what in (b"bare", names.context))
        (view,) = await open_views(store).read_sessions(["read"])
        head = f"{view.version}-{view.state.active_ms}"
        fields = ("version", view.version, "state", msgspec.json.encode(view.state), "head", head)
        await answer(redis.hset(session, items=[*fields]))
        sides: Sides = {
            "get_session": lambda: engine.get_session("read"),
            "HGETALL": lambda: answer(redis.hgetall(session)),
            "get_context": lambda: engine.get_context("read", "preferences"),
            "HGET": lambda: answer(redis.hget(context, "preferences")),
        }
        found = await medians(sides, repeats=bench.repeats, calls=bench.size(2000, 500), after_repeat=bench.step)
    return Result(
        [Figure(f"{name}, p50", MICROSECONDS, times) for name, times in found.items()],
        [
            Check("get_session / HGETALL", ratios(found["get_session"], found["HGETALL"]), 1.3),
            Check("get_context / HGET", ratios(found["get_context"], found["HGET"]), 1.3),
        ],
    )


async def replay(bench: Bench) -> Result:
    """Measure reading a long log from its beginning and folding it, as a rebuild of its views does."""
    async with bench.open() as (server, engine, redis), open_store(server.url) as store:
        length = bench.size(100_000, 25_000)
        await fill(engine, "long", [each.fields for each in bench.messages.take(length)])
        log = _log(Keys(store.namespace, store.partitions), "long")
        sides = {
            "engine": lambda: timed(length, _fold_all(store, "long")),
            "redis-py": lambda: timed(length, _range_all(redis, log)),
        }
        found = await rates(sides, repeats=bench.repeats, rounds=1, after_repeat=bench.step)
    return Result(
        [
            Figure("store.read, decoded and folded", PER_SECOND, found["engine"]),
            Figure("XRANGE COUNT 1000, not decoded", PER_SECOND, found["redis-py"]),
        ],
        [Check("replay / XRANGE loop", ratios(found["engine"], found["redis-py"]), 1.3, at_least=True)],
    )


async def lists(bench: Bench) -> Result:
    """Measure a page of a list of few sessions, and of many."""
    few, many = FEW, bench.size(MANY, MANY // 10)
    with bench.server() as server:
        sides: Sides = {}
        async with (
            engine_on(server, namespace="few") as of_few,
            engine_on(server, namespace="many") as of_many,
        ):
            for engine, namespace, count in ((of_few, "few", few), (of_many, "many", many)):
                async with open_store(server.url, namespace=namespace) as store:
                    await start(store, (f"session-{number}" for number in range(count)))
                    await project_all(store)
                sides[namespace] = _page(engine)
            found = await medians(sides, repeats=bench.repeats, calls=bench.size(150, 25), after_repeat=bench.step)
    return Result(
        [
            Figure(f"list_sessions(limit={LISTED}) among {count:,}, p50", MICROSECONDS, found[name])
            for name, count in (("few", few), ("many", many))
        ],
        [Check(f"among {many:,} / among {few:,}", ratios(found["many"], found["few"]), 1.5)],
    )


def _page(engine: ContextEngine) -> Callable[[], Awaitable[Any]]:
    return lambda: engine.list_sessions(limit=LISTED)


def _log(keys: Keys, session_id: str) -> bytes:
    session_key = session_id.encode()
    return keys.log(keys.partition(session_key), session_key)


async def _fold_all(store: EventStore, session_id: str) -> SessionState:
    version, state = 0, SessionState()
    async for page in store.read(session_id).pages():
        change = fold(session_id, version, state, page)
        version, state = change.version, change.after
    return state


async def _range_all(redis: Redis, log: bytes) -> int:
    found, last = 0, "-"
    while entries := await answer(redis.xrange(log, min=last, count=PAGE)):
        found += len(entries)
        last = "(" + entries[-1][0].decode()
    return found
