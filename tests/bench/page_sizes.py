"""What the size of a page does to a replay: "Replay" of "Where the time goes" in docs/BENCHMARKS.md.

    python tests/bench/page_sizes.py

Microseconds for each event of a long log that is read, decoded and folded, with the garbage collector on and off;
medians of 7 interleaved rounds.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from benchmarks.bench import Bench
from benchmarks.filling import fill
from benchmarks.messages import Messages
from benchmarks.serving import find
from demonstration.input import EXAMPLES

from eventstore import EventStore, open_store
from eventstore.redis import reading, reads
from projections import SessionState, fold

EVENTS, ROUNDS = 50_000, 7
SIZES = (100, 250, 400, 1000)


async def replayed(store: EventStore) -> float:
    """Return the microseconds that each event took."""
    version, state = 0, SessionState()
    began = time.perf_counter()
    async for page in store.read("long").pages():
        change = fold("long", version, state, page)
        version, state = change.version, change.after
    return (time.perf_counter() - began) / EVENTS * 1e6


async def measure(bench: Bench) -> None:
    """Measure and print."""
    found: dict[tuple[int, bool], list[float]] = defaultdict(list)
    async with bench.open() as (server, engine, _), open_store(server.url) as store:
        await fill(engine, "long", [each.fields for each in bench.messages.take(EVENTS)])
        for _ in range(ROUNDS):
            for size in SIZES:
                for collects in (True, False):
                    gc.collect()
                    if not collects:
                        gc.disable()
                    with patch.object(reading, "PAGE", size), patch.object(reads, "PAGE", size):
                        found[size, collects].append(await replayed(store))
                    gc.enable()
    print("events a page     collector on     off")
    for size in SIZES:
        on, off = (statistics.median(found[size, collects]) for collects in (True, False))
        print(f"{size:13}{on:17.2f}{off:8.2f} µs")


if __name__ == "__main__":
    asyncio.run(measure(Bench(find(None), Messages(EXAMPLES), tcp=True, quick=False, within=None)))
