"""The plot: for each target, how many times better than it, or worse, the run was."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.running import Measured

MET, MISSED = "#2a7f62", "#c0392b"
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10)


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def plot(path: Path, found: Sequence[Measured]) -> bool:
    """Draw all targets, and return whether there was one."""
    checks = [(row, check) for row in found for check in row.result.checks]
    if not checks:
        return False
    from matplotlib.figure import Figure  # noqa: PLC0415 - it belongs to the extra "bench"

    figure = Figure(figsize=(9, 1.2 + 0.32 * len(checks)), layout="constrained")
    axes = figure.subplots()
    for place, (_, check) in enumerate(checks):
        margins, colour = check.margin, MET if check.passed else MISSED
        middle = statistics.median(margins)
        axes.barh(place, middle - 1, left=1, height=0.62, color=colour, alpha=0.85)
        axes.hlines(place, min(margins), max(margins), color="black", linewidth=1)
    axes.set_yticks(range(len(checks)), [f"{row.title}: {check.name}" for row, check in checks], fontsize=8)
    axes.set_ylim(len(checks) - 0.4, -0.6)
    axes.set_xscale("log")
    every = [margin for _, check in checks for margin in check.margin]
    shown = [tick for tick in TICKS if min(every) / 2 <= tick <= max(every) * 2] or [1]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("times better than the target")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=80)
    return True
