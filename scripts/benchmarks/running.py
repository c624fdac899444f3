"""Runs the rows and keeps what they found."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.bench import Bench, Row
from benchmarks.measuring import Result


class Measured(msgspec.Struct, frozen=True):
    """A row, what it found, and how long that took."""

    name: str
    title: str
    target: str
    result: Result
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether all its targets are met."""
        return all(check.passed for check in self.result.checks)


async def run(bench: Bench, rows: Sequence[Row], begin: Callable[[Row], Callable[[], None]]) -> list[Measured]:
    """Measure rows one after the other.

    Args:
        bench: What they measure with.
        rows: What to measure.
        begin: Told which row begins; returns what is to be told after each repeat.
    """
    found = []
    for row in rows:
        bench.step = begin(row)
        gc.collect()
        began = time.perf_counter()
        result = await row.measure(bench)
        found.append(Measured(row.name, row.title, row.target, result, time.perf_counter() - began))
    return found
