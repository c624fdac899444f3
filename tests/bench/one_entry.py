"""What a bulk append would gain, were all its events one entry of the log (docs/adr/0005-an-entry-for-each-event.md).

    python tests/bench/one_entry.py

The row `bulk` of `scripts/bench.py`, for one caller, with the append script, with one that makes one entry of an
append, and with one that stores nothing: thousands of events a second, and how many times a pipeline of XADD that is.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from benchmarks.bench import Bench
from benchmarks.measuring import Timed, rates, ratios, timed
from benchmarks.messages import Messages
from benchmarks.serving import find
from demonstration.input import EXAMPLES

from eventstore.redis import appender
from eventstore.redis.commands import Script

BULK, CALLS, REPEATS = 100, 40, 7
PIPELINE = "pipeline of XADD"
SCRIPTS = {
    "an entry for each event": appender.APPEND,
    "one entry for an append": Script("""
local call, session, events = redis.call, ARGV[1], #ARGV - 2
local version = tonumber(string.match(call('HGET', KEYS[1], session) or '0', '%d+')) + events
local now = string.match(call('XADD', KEYS[2], '*', session, version .. '/' .. events), '%d+')
local place, fields = version .. '-' .. now, {}
for event = 1, events do fields[2 * event - 1], fields[2 * event] = 'e', ARGV[event + 2] end
call('XADD', KEYS[4], place, unpack(fields))
call('HSET', KEYS[1], session, place)
return {version}
"""),
    "nothing stored": Script("return {#ARGV}"),
}


async def measure(bench: Bench) -> None:
    """Measure and print."""
    page = bench.messages.take(BULK)
    fields, entries, sessions = [each.fields for each in page], [each.entry for each in page], itertools.count()
    async with bench.open() as (_, engine, redis):

        def bulk(script: Script) -> Callable[[], Awaitable[Timed]]:
            async def append() -> None:
                session_id = f"s{next(sessions)}"
                with patch.object(appender, "APPEND", script):
                    for _ in range(CALLS):
                        await engine.add_conversation_messages(session_id, fields)

            return lambda: timed(CALLS * BULK, append())

        async def pipeline() -> None:
            key = f"s{next(sessions)}"
            for _ in range(CALLS):
                pipe = redis.pipeline(transaction=False)
                for entry in entries:
                    pipe.xadd(key, {"e": entry})
                await pipe.execute()

        sides = {name: bulk(script) for name, script in SCRIPTS.items()}
        sides[PIPELINE] = lambda: timed(CALLS * BULK, pipeline())
        found = await rates(sides, repeats=REPEATS)
    for name, values in found.items():
        times = statistics.median(ratios(values, found[PIPELINE]))
        print(f"{name:28}{statistics.median(values) / 1000:7.1f} k {times:7.2f} x")


if __name__ == "__main__":
    asyncio.run(measure(Bench(find(None), Messages(EXAMPLES), tcp=True, quick=False, within=None)))
