"""What the parts of an append and of a replay cost: the figures of "Where the time goes" in docs/BENCHMARKS.md.

    python tests/bench/parts.py

Best of several, in microseconds. The server's part is what it counts itself (INFO commandstats), when one call follows
the other as the calls of one caller do.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hiredis
from redis.asyncio import Redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.servers import Server, binaries

from eventstore import MessageAdded, open_store
from eventstore.appending import encode_append
from eventstore.codec import encode
from eventstore.ids import new_event_id
from eventstore.redis import appender
from eventstore.redis.commands import Script, pack
from eventstore.redis.entries import all_recorded
from eventstore.redis.store import RedisStore
from eventstore.store import ANY, EXISTS, PAGE, Append
from projections import SessionState, checkpoints, context, fold, history, session
from projections.checkpoints import CheckpointChange
from projections.context import ContextChange
from projections.history import HistoryChange

MESSAGE = MessageAdded("user", "x" * 300, {"channel": "web", "turn": 1, "final": True})
SCORED = MessageAdded("user", "x" * 300, {"channel": "web", "turn": 1, "score": 0.5})
"""A message that is read back before it is accepted: a float may be none that JSON knows."""
NOTHING = Script("return {#ARGV}")
"""An append script that stores nothing."""
MANY, BULK = 1000, 100
REPEATS = 20
LIMIT = 1024 * 1024


def best(work: Callable[[], Any], events: int) -> float:
    """Return the microseconds that an event took in the best repeat."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times) / events * 1e6


def client_parts() -> dict[str, float]:
    """Return what the client's parts cost for each event."""
    entries = [encode(new_event_id(), MESSAGE, None) for _ in range(MANY)]
    places = [b"%d-%d" % (n, 1_700_000_000_000 + 37 * n) for n in range(1, MANY + 1)]
    found = [[place, [b"e", entry]] for place, entry in zip(places, entries, strict=True)]
    events = all_recorded("s", found)
    page = b"*%d\r\n" % PAGE + b"".join(map(in_reply, places[:PAGE], entries))
    return {
        "check and encode an append": best(
            lambda: [encode_append("s", MESSAGE, ANY, None, LIMIT) for _ in range(MANY)], MANY
        ),
        "  of it, an event id": best(lambda: [new_event_id() for _ in range(MANY)], MANY),
        "  of it, the entry": best(lambda: [encode("id", MESSAGE, None) for _ in range(MANY)], MANY),
        "  of another, read back": best(lambda: [encode("id", SCORED, None) for _ in range(MANY)], MANY),
        "parse an entry of a reply": best(lambda: parsed(page), PAGE),
        "decode an event": best(lambda: all_recorded("s", found), MANY),
        "fold all views": best(lambda: fold("s", 0, SessionState(), events), MANY),
        "  of it, the session": best(lambda: session.fold(SessionState(), events), MANY),
        "  of it, the history": best(lambda: history.fold(HistoryChange(), events), MANY),
        "  of it, the context": best(lambda: context.fold(ContextChange(), events), MANY),
        "  of it, the checkpoints": best(lambda: checkpoints.fold(CheckpointChange(), events), MANY),
    }


def in_reply(place: bytes, entry: bytes) -> bytes:
    """Return an entry as a server sends it."""
    (fields,) = pack([(b"e", entry)])
    return b"*2\r\n$%d\r\n%b\r\n%b" % (len(place), place, fields)


def parsed(reply: bytes) -> Any:
    """Return a reply as hiredis reads it."""
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()


async def bulk_parts(url: str) -> dict[str, float]:
    """Return what each event of a bulk costs the caller who waits for it, and each XADD of a pipeline."""
    events = [MESSAGE] * BULK
    async with open_store(url, partitions=1) as store, Redis.from_url(url) as redis:

        async def pipeline() -> None:
            pipe = redis.pipeline(transaction=False)
            for _ in range(BULK):
                pipe.xadd("bare", {"e": "x" * 400})
            await pipe.execute()

        sides: dict[str, tuple[Callable[[], Awaitable[Any]], Script]] = {
            f"each of a bulk of {BULK}": (lambda: store.append("bulk", events), appender.APPEND),
            "  if the script stored nothing": (lambda: store.append("bulk", events), NOTHING),
            f"each XADD of a pipeline of {BULK}": (pipeline, appender.APPEND),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(REPEATS):
            for name, (call, script) in sides.items():
                with patch.object(appender, "APPEND", script):
                    await call()
                    began = time.perf_counter()
                    for _ in range(10):
                        await call()
                times[name].append((time.perf_counter() - began) / 10 / BULK * 1e6)
    return {name: min(each) for name, each in times.items()}


async def server_parts(url: str) -> dict[str, float]:
    """Return what the server's parts cost for each append."""
    async with open_store(url, partitions=1) as store:
        assert isinstance(store, RedisStore)
        await store.append("s0", MESSAGE)
        sixteen = [Append(f"s{n}", [MESSAGE]) for n in range(16)]
        alone, general, together, bare = [], [], [], []
        for _ in range(REPEATS):
            alone.append(await counted(store, "evalsha", 200, lambda: store.append("s0", MESSAGE)))
            general.append(
                await counted(store, "evalsha", 200, lambda: store.append("s0", MESSAGE, expected_version=EXISTS))
            )
            together.append(await counted(store, "evalsha", 200, lambda: store.append_many(sixteen)) / 16)
            bare.append(
                await counted(store, "xadd", 200, lambda: store.links.call("XADD", "bare", "*", "e", "x" * 400))
            )
        return {
            "append script, one append": min(alone),
            "  by the general way": min(general),
            "append script, each of 16": min(together),
            "a bare XADD": min(bare),
        }


async def counted(store: RedisStore, command: str, calls: int, call: Callable[[], Any]) -> float:
    """Return the microseconds that the server says it spent on each call of a command."""
    await store.links.call("CONFIG", "RESETSTAT")
    for _ in range(calls):
        await call()
    stats = (await store.links.call("INFO", "commandstats")).decode()
    (line,) = [line for line in stats.splitlines() if line.startswith(f"cmdstat_{command}:")]
    return float(line.split("usec_per_call=")[1].split(",")[0])


def main() -> None:
    """Measure and print."""
    binary = next(iter(binaries().values()))
    with tempfile.TemporaryDirectory(prefix="ce") as directory, Server(binary, Path(directory)) as server:
        parts = asyncio.run(server_parts(server.url)) | asyncio.run(bulk_parts(server.url)) | client_parts()
    for name, microseconds in parts.items():
        print(f"{name:32}{microseconds:7.2f} µs")


if __name__ == "__main__":
    main()
