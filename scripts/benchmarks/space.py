"""The row about memory: what a message costs in Redis, in the log and in its view together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from benchmarks.bench import Bench
from benchmarks.filling import fill, project_all
from benchmarks.measuring import Check, Figure, Result
from contextengine import CompressionConfig
from eventstore import open_store

SESSIONS, LENGTH, LEFT = 20, 1000, 50
SMALL = 500
BYTES = "bytes"
SERVERS_DEFAULT = 4096
"""Of ``stream-node-max-bytes``."""


async def memory(bench: Bench) -> Result:
    """Measure long sessions after compaction to 50 messages, and small ones of 1 to 5."""
    used, of_long = await _long(bench)
    told, measured = bench.messages.take(SMALL), bench.messages.of_length(SMALL)
    real = [message.fields for message in told]
    of_small, as_long = await _small(bench, real), await _small(bench, measured)
    by_default = await _small(bench, real, SERVERS_DEFAULT)
    long, small = sum(of_long.values()), sum(of_small.values())
    return Result(
        [
            Figure("a message of a long session", BYTES, [long]),
            Figure("the same by the server's used_memory", BYTES, [used]),
            Figure("a session of 1 to 5 messages, the file's", BYTES, [small]),
            Figure("the same of messages of 300 bytes with 3 metadata fields", BYTES, [sum(as_long.values())]),
            Figure("the file's, with stream-node-max-bytes 4096", BYTES, [sum(by_default.values())]),
        ],
        [
            Check("bytes a message", [long], 520, unit=BYTES),
            Check("bytes a small session of the file's messages", [small], 2500, unit=BYTES),
        ],
        [f"bytes a message: {_shares(of_long)}", f"bytes a small session: {_shares(of_small)}"],
    )


async def _long(bench: Bench) -> tuple[float, dict[str, float]]:
    """Return the bytes a message, by the server's own count, and by what the keys hold."""
    config = CompressionConfig(strategy="truncate", max_messages=LEFT)
    async with bench.open() as (server, engine, redis), open_store(server.url) as store:
        before = await _used(redis)
        messages = bench.messages.of_length(LENGTH)
        for number in range(SESSIONS):
            await fill(engine, f"session-{number:08}", messages)
        await project_all(store)
        for number in range(SESSIONS):
            await engine.compress_conversation(f"session-{number:08}", config_override=config)
        await project_all(store)
        bench.step()
        count = SESSIONS * LENGTH
        return (await _used(redis) - before) / count, _divided(await _sizes(redis), count)


async def _small(
    bench: Bench, messages: Sequence[dict[str, Any]], node_max_bytes: int | None = None
) -> dict[str, float]:
    """Return the bytes that a session of 1 to 5 messages takes on average, by what they are for."""
    async with bench.open() as (server, engine, redis), open_store(server.url) as store:
        if node_max_bytes is not None:
            await redis.config_set("stream-node-max-bytes", node_max_bytes)
        for number in range(SMALL):
            await fill(engine, f"session-{number:08}", [*messages, *messages][number : number + 1 + number % 5])
        await project_all(store)
        bench.step()
        return _divided(await _sizes(redis), SMALL)


async def _used(redis: Redis) -> int:
    """Return the server's memory without what its clients and its file need for the moment."""
    stats = await redis.info("memory")
    return int(stats["used_memory"] - stats["mem_clients_normal"] - stats["mem_aof_buffer"])


async def _sizes(redis: Redis) -> Counter[str]:
    """Return the bytes of all keys by what they hold."""
    sizes: Counter[str] = Counter()
    async for key in redis.scan_iter(count=1000):
        what = key.decode().partition("}:")[2].partition(":")[0].partition("@")[0]
        sizes[what] += int(await redis.memory_usage(key, samples=0) or 0)
    return sizes


def _divided(sizes: Mapping[str, float], count: int) -> dict[str, float]:
    """Return the bytes for each of so many."""
    return {what: size / count for what, size in sizes.items()}


def _shares(sizes: Mapping[str, float]) -> str:
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    return ", ".join(f"{what} {size:.0f}" for what, size in ordered if size >= 1)
