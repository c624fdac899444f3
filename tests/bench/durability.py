"""What each durability level costs: appends one by one, and 64 at once, on a server with a replica on this machine.

python tests/bench/durability.py
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.replicas import Pair
from support.servers import binaries

from eventstore import EventStore, MessageAdded, open_store

CALLERS = 64
SECONDS = 3.0
LEVELS = ("accepted", "fsynced", "replicated")
MESSAGE = MessageAdded("user", "x" * 200)


async def rate(store: EventStore, level: str, callers: int) -> float:
    """Return how many appends a second so many callers get done who await each of theirs."""
    done = 0
    until = time.perf_counter() + SECONDS

    async def call(number: int) -> None:
        nonlocal done
        while time.perf_counter() < until:
            await store.append(f"s{number}", MESSAGE, durability=level)
            done += 1

    begun = time.perf_counter()
    await asyncio.gather(*map(call, range(callers)))
    return done / (time.perf_counter() - begun)


async def main() -> None:
    """Measure and print."""
    kind, binary = next(iter(binaries().items()))
    print(f"{kind}; appends a second, one caller and {CALLERS}")
    for policy in ("always", "everysec"):
        with tempfile.TemporaryDirectory(prefix="ce") as directory:
            pair = Pair(binary, Path(directory), appendfsync=policy)
            async with pair, open_store(f"unix://{pair.primary.path}") as store:
                for level in LEVELS:
                    await store.append("s0", MESSAGE, durability=level)
                    one, many = await rate(store, level, 1), await rate(store, level, CALLERS)
                    print(f"appendfsync {policy:9} {level:11} {one:8,.1f} {many:9,.0f}")


if __name__ == "__main__":
    asyncio.run(main())
