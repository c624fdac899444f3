"""How things are measured: in turn, several times, with the same garbage collector, and as ratios within one run."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

Values: TypeAlias = list[float]
"""One figure for each repeat."""
Latencies: TypeAlias = dict[str, Values]
"""Microseconds of every call, for each side."""

WARM_UP = 3
"""Calls for nothing before the first that counts, where there are few."""


class Figure(msgspec.Struct, frozen=True):
    """Something measured: a value for each repeat."""

    name: str
    unit: str
    values: Values

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.values)


class Check(msgspec.Struct, frozen=True):
    """A target: a figure that may not be above, or below, a bound.

    Attributes:
        name: What is compared with what.
        values: The ratio, or the figure, for each repeat.
        bound: What the median is held against.
        at_least: Whether the bound is the smallest that passes; else it is the largest.
        unit: Of the values; ratios have ``x``.
    """

    name: str
    values: Values
    bound: float
    at_least: bool = False
    unit: str = "x"

    @property
    def median(self) -> float:
        """What decides."""
        return statistics.median(self.values)

    @property
    def passed(self) -> bool:
        """Whether the target is met."""
        return self.median >= self.bound if self.at_least else self.median <= self.bound

    @property
    def margin(self) -> Values:
        """For each repeat, how many times better than the target it is; below 1 it is missed."""
        return [value / self.bound if self.at_least else self.bound / value for value in self.values]


class Result(msgspec.Struct, frozen=True):
    """What a row found."""

    figures: list[Figure]
    checks: list[Check] = []
    remarks: list[str] = []


class Timed(msgspec.Struct, frozen=True):
    """So many things took so many seconds."""

    count: int
    seconds: float


async def timed(count: int, work: Awaitable[object]) -> Timed:
    """Time some work that does a thing ``count`` times. What earlier work left to be collected is not on its bill."""
    gc.collect()
    began = time.perf_counter()
    await work
    return Timed(count, time.perf_counter() - began)


async def rates(
    sides: Mapping[str, Callable[[], Awaitable[Timed]]],
    *,
    repeats: int,
    rounds: int = 2,
    after_repeat: Callable[[], None] = lambda: None,
) -> dict[str, Values]:
    """Run all sides in turn, ``rounds`` times a repeat, and return their rates a second for each repeat.

    Every side runs once beforehand, for nothing. Who begins changes from round to round.
    """
    for run in sides.values():
        await run()
    found: dict[str, Values] = {name: [] for name in sides}
    for repeat in range(repeats):
        runs: dict[str, list[Timed]] = {name: [] for name in sides}
        for number in range(rounds):
            for name in _from(list(sides), repeat + number):
                runs[name].append(await sides[name]())
        for name, done in runs.items():
            found[name].append(sum(each.count for each in done) / sum(each.seconds for each in done))
        after_repeat()
    return found


async def latencies(sides: Mapping[str, Callable[[], Awaitable[object]]], *, calls: int, block: int = 25) -> Latencies:
    """Call all sides in turn, in small blocks, one call after the other; return the microseconds of each call."""
    for call in sides.values():
        for _ in range(max(WARM_UP, calls // 20)):
            await call()
    gc.collect()
    found: Latencies = {name: [] for name in sides}
    clock = time.perf_counter_ns
    for number in range(max(1, calls // block)):
        for name in _from(list(sides), number):
            call, times = sides[name], found[name]
            for _ in range(block):
                began = clock()
                await call()
                times.append((clock() - began) / 1000)
    return found


async def medians(
    sides: Mapping[str, Callable[[], Awaitable[object]]],
    *,
    repeats: int,
    calls: int,
    block: int = 25,
    after_repeat: Callable[[], None] = lambda: None,
) -> dict[str, Values]:
    """Return the median microseconds of a call of each side, for each repeat; see `latencies`."""
    found: dict[str, Values] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, times in (await latencies(sides, calls=calls, block=block)).items():
            found[name].append(statistics.median(times))
        after_repeat()
    return found


def ratios(of: Sequence[float], to: Sequence[float]) -> Values:
    """Return the ratio for each repeat."""
    return [mine / theirs for mine, theirs in zip(of, to, strict=True)]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _from(names: Sequence[str], start: int) -> list[str]:
    """Return the names in turn, beginning with another one each time."""
    start %= len(names)
    return [*names[start:], *names[:start]]
