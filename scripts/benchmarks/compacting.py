"""The rows of compaction: it slows no append, and costs the same however often a session was compacted before."""

from __future__ import annotations

import statistics
import time

from benchmarks import BenchFailed
from benchmarks.bench import Bench
from benchmarks.filling import fill, project_all
from benchmarks.measuring import Check, Figure, Result, Values, latencies, percentile, ratios
from benchmarks.processes import working
from benchmarks.writing import MICROSECONDS
from contextengine import CompressionConfig
from eventstore import open_store
from workers.compaction.worker import GROUP

THRESHOLD, TARGET = 100, 50
CONFIG = CompressionConfig(
    strategy="summarize", auto_compress_enabled=True, auto_compress_threshold=THRESHOLD, auto_compress_target=TARGET
)
COMPACTION = ("--compaction", "--threshold", str(THRESHOLD), "--target", str(TARGET))
PERCENTS = (50, 99)
DUE = 200
"""Sessions that there are to compact in each repeat; more than a worker can in the time."""
CALLS = 250


async def beside(bench: Bench) -> Result:
    """Measure appends while a worker compacts other sessions, and while it is frozen in the middle of that."""
    phases = bench.size(8, 4)
    quiet: dict[int, Values] = {percent: [] for percent in PERCENTS}
    busy: dict[int, Values] = {percent: [] for percent in PERCENTS}
    compacted = 0
    async with bench.open() as (server, engine, _), open_store(server.url) as store:
        messages = iter(bench.messages)

        async def append() -> None:
            await engine.add_conversation_message("appended", **next(messages).fields)

        async with working(server, store, GROUP, *COMPACTION) as worker:
            for repeat in range(bench.repeats):
                due = [f"due-{repeat}-{number}" for number in range(DUE)]
                with worker.frozen():
                    for session_id in due:
                        await fill(engine, session_id, [each.fields for each in bench.messages.take(THRESHOLD)])
                    await project_all(store)
                times: dict[bool, Values] = {True: [], False: []}
                for _ in range(phases):
                    times[False] += (await latencies({"": append}, calls=CALLS))[""]
                    with worker.frozen():
                        times[True] += (await latencies({"": append}, calls=CALLS))[""]
                for percent in PERCENTS:
                    busy[percent].append(percentile(times[False], percent))
                    quiet[percent].append(percentile(times[True], percent))
                compacted += sum([await store.version(session_id) > THRESHOLD for session_id in due])
                bench.step()
    return Result(
        [
            *(Figure(f"append beside compactions, p{percent}", MICROSECONDS, busy[percent]) for percent in PERCENTS),
            *(Figure(f"append, the worker frozen, p{percent}", MICROSECONDS, quiet[percent]) for percent in PERCENTS),
        ],
        [Check("p50 beside compactions / without", ratios(busy[50], quiet[50]), 1.1)],
        [f"{compacted:,} of {bench.repeats * DUE:,} due sessions were compacted meanwhile, on the same cores"],
    )


async def again(bench: Bench) -> Result:
    """Measure compactions of a session that has been compacted often, against its first ones."""
    rounds = bench.size(60, 20)
    part = rounds // 4
    first, last = [], []
    async with bench.open() as (server, engine, _), open_store(server.url) as store:
        messages = [each.fields for each in bench.messages.take(THRESHOLD)]
        for repeat in range(-1, bench.repeats):
            session_id, times = f"again-{repeat}", []
            for _ in range(rounds):
                await fill(engine, session_id, messages)
                await project_all(store)
                began = time.perf_counter()
                done = await engine.compress_conversation(session_id, config_override=CONFIG)
                times.append((time.perf_counter() - began) * 1e6)
                if not done["success"]:
                    raise BenchFailed(f"A compaction failed: {done['error']}")
            if repeat >= 0:  # the first was to warm up
                first.append(statistics.median(times[:part]))
                last.append(statistics.median(times[-part:]))
                bench.step()
    return Result(
        [
            Figure(f"compaction, the first {part}", MICROSECONDS, first),
            Figure(f"compaction, after {rounds - part} earlier ones", MICROSECONDS, last),
        ],
        [Check("late / early compactions", ratios(last, first), 1.25)],
    )
