"""The network drops, cuts, delays and resets, at random, under 64 writers: each knows the outcome, or can ask."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack

import anyio
import pytest
from support.audits import audited
from support.bad_line import BadLine
from support.crowd import Crowd
from support.findings import record
from support.ledger import Ledger
from support.rounds import rounds
from support.servers import Server, binaries

from eventstore import open_store
from projections import open_views

SERVERS = binaries()
WRITERS = 64
DAMAGES = 50
PATIENT, IMPATIENT = 2.0, 0.25


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.guarantee("L1", "L2", "L3", "L5", "L8")
async def test_nothing_is_lost_or_doubled(kind: str, shared_servers: Callable[[str], Server], namespace: str) -> None:
    """Whatever happens on the way, the log holds what the writers were told, and `outcome` tells what they were not."""
    server = shared_servers(kind)
    figures: Counter[str] = Counter()
    damages, seeds = 0, []
    for number in range(rounds(20)):
        seed = random.randrange(2**32)
        print(f"round {number}: seed {seed}")  # noqa: T201 - shown where it fails
        ledger = Ledger()
        async with AsyncExitStack() as stack:
            line = await stack.enter_async_context(BadLine(server.path, seed))
            stores = [
                await stack.enter_async_context(
                    open_store(line.url, namespace=f"{namespace}-{number}", timeout=timeout)
                )
                for timeout in (PATIENT, PATIENT, PATIENT, IMPATIENT)
            ]
            with anyio.fail_after(120):
                async with Crowd(ledger, stores, writers=WRITERS, seed=seed) as crowd:
                    line.damage()
                    while not line.everything_happened or line.happened.total() < DAMAGES:
                        await ledger.acknowledges(10)
                    line.heal()
                    await crowd.each_is_heard()
                await ledger.ask()
            direct = await stack.enter_async_context(open_store(server.url, namespace=f"{namespace}-{number}"))
            figures.update((await ledger.check(direct)).figures)
            assert await audited(direct, open_views(direct)) == []
        damages += line.happened.total()
        seeds.append(seed)
    record(
        "a network that drops, cuts, delays and resets",
        server=kind, rounds=len(seeds), **figures, damages=damages, seeds=" ".join(map(str, seeds)),
    )  # fmt: skip
