"""What a namespace's number of partitions costs on one server (docs/adr/0004).

Run it with ``python tests/bench/partition_counts.py``. It starts a server of its own and prints, as medians of
interleaved rounds, thousands of events a second: appended by 64 tasks to sessions of their own, and projected by one
worker, of 64 sessions and where every event is of another session.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.servers import Server, binaries

from eventstore import Append, EventStore, MessageAdded, open_store
from projections import GROUP, Projector, open_views

COUNTS = (1, 2, 4, 6, 8, 16, 64)
ROUNDS = 7
WRITERS = 64
EACH = 250
MESSAGE = MessageAdded("user", "x" * 300, {"channel": "web", "turn": 1, "final": True})


async def timed(events: int, work: Awaitable[object]) -> float:
    """Return how many thousand events a second some work took in."""
    began = time.perf_counter()
    await work
    return events / (time.perf_counter() - began) / 1000


async def write(store: EventStore, session_id: str) -> None:
    """Append to a session, one event after the other."""
    for _ in range(EACH):
        await store.append(session_id, MESSAGE)


async def project(store: EventStore) -> None:
    """Project all that there is to project."""
    projector = Projector(store, open_views(store))
    consumer = await store.feed.join(GROUP, "bench")
    while await projector.step(consumer, wait=0):
        pass
    consumer.abandon()


async def measure(store: EventStore, run: int) -> tuple[float, float, float]:
    """Return what was appended, projected of few sessions, and projected of many."""
    appended = await timed(
        WRITERS * EACH, asyncio.gather(*(write(store, f"{run}-{writer}") for writer in range(WRITERS)))
    )
    hot = await timed(WRITERS * EACH, project(store))
    many = 4000
    for first in range(0, many, 100):
        await store.append_many([Append(f"{run}-cold-{first + number}", [MESSAGE]) for number in range(100)])
    return appended, hot, await timed(many, project(store))


async def main() -> None:
    """Measure every count in turn, several times."""
    found: dict[int, list[tuple[float, float, float]]] = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory(prefix="ce") as directory:
        binary = next(iter(binaries().values()))
        with Server(binary, Path(directory), appendonly="yes", stream_node_max_bytes="2048") as server:
            for run in range(-1, ROUNDS):
                for count in COUNTS:
                    async with open_store(server.url, namespace=f"of-{count}", partitions=count) as store:
                        figures = await measure(store, run)
                    if run >= 0:  # the first was to warm up
                        found[count].append(figures)
    print(f"{'partitions':>10} {'appended':>10} {'projected':>10} {'of many':>10}")
    for count, all_figures in found.items():
        medians = (statistics.median(figures) for figures in zip(*all_figures, strict=True))
        print(f"{count:10}", *(f"{median:10.1f}" for median in medians))


if __name__ == "__main__":
    asyncio.run(main())
