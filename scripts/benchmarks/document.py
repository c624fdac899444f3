"""What a run leaves: JSON, and the page of the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.machine import Circumstances
from benchmarks.running import Measured
from benchmarks.showing import number, spread

PAGE, PLOT = "BENCHMARKS.md", "benchmarks.png"
KEPT = "## Where the time goes"
"""The heading of the section that is written by hand: it and what follows it stay when the page is written again."""
NOTHING_YET = f"{KEPT}\n\nThis section is kept by hand: the script leaves it as it is.\n"

INTRODUCTION = """\
# Benchmarks

Written by `scripts/bench.py` (`make bench ARGS="--write docs"`), but for the last section. Every figure stands beside
the raw thing, measured in the same run: compare ratios, not figures of different runs or machines. Medians of
{repeats} interleaved repeats, with the smallest and the largest in brackets.

| | |
|---|---|
| date | {date} |
| command | `{command}` |
| machine | {machine} |
| load | {load} |
| server | {server} |
| versions | {versions} |
| messages | {messages} |

## Targets

{targets}

![How many times better than its target each is; lines: smallest and largest of the repeats]({plot})

## Figures

{figures}

## How it is measured

- Everything goes through `ContextEngine.add_conversation_message` and the engine's other public methods; a replay and
  the worker through the public `store.read`, `fold` and `Projector`. Engines have `workers=False`: workers run where
  the row says so.
- The raw side is redis-py with hiredis, RESP2, its own pool, nothing decoded unless the row says so. It writes the very
  bytes that the log holds, encoded beforehand, and no more: no version, no check, no feed.
- Sides take turns within each repeat, in small blocks where round trips are compared, and everything runs once
  beforehand for nothing. The garbage collector is on for both, and is run before each timing.
- Servers are started for the run, each with an append-only file in a temporary directory, `appendfsync everysec` unless
  the row says otherwise, without rewrites of that file, with `stream-node-max-bytes 1536` like an embedded server's.
- Everybody reaches the server over TCP on loopback, as `redis://` does (`--transport unix` for a Unix socket).
- "The server's limit" is the append script called by a client that costs nothing, 16 sessions a call, several calls at
  once; "the script alone" is the same with one caller who awaits each call of 100 events.

"""


def as_json(about: Circumstances, found: Sequence[Measured]) -> bytes:
    """Return all of a run, with the medians and verdicts that a reader would have to work out."""
    rows: list[dict[str, Any]] = []
    for row in found:
        given = msgspec.to_builtins(row)
        for told, figure in zip(given["result"]["figures"], row.result.figures, strict=True):
            told |= {"median": figure.median}
        for told, check in zip(given["result"]["checks"], row.result.checks, strict=True):
            told |= {"median": check.median, "passed": check.passed}
        rows.append({**given, "passed": row.passed})
    return msgspec.json.format(msgspec.json.encode({"about": about, "rows": rows}), indent=2) + b"\n"


def write_page(directory: Path, about: Circumstances, found: Sequence[Measured], *, plot: bool) -> Path:
    """Write the page, keeping what stands there by hand.

    Args:
        directory: Where to.
        about: The run.
        found: What it found.
        plot: Whether there is a plot beside it.
    """
    path = directory / PAGE
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    kept = KEPT + before.partition(KEPT)[2] if KEPT in before else NOTHING_YET
    text = INTRODUCTION.format(
        repeats=statistics.mode([len(f.values) for row in found for f in row.result.figures] or [0]),
        plot=PLOT,
        targets="\n".join(_targets(found)),
        figures="\n".join(_figures(found)),
        **msgspec.structs.asdict(about),
    )
    if not plot:
        text = "\n".join(line for line in text.split("\n") if not line.startswith("![")).replace("\n\n\n", "\n\n")
    path.write_text(text + kept, encoding="utf-8")
    return path


def _targets(found: Sequence[Measured]) -> list[str]:
    lines = ["| what | target | found | |", "|---|---|---|---|"]
    for row in found:
        for place, check in enumerate(row.result.checks):
            what, target = (row.title, row.target) if place == 0 else ("", "")
            bound = f"{'at least' if check.at_least else 'at most'} {number(check.bound)}"
            measured = f"{check.name}: **{number(check.median)}**{spread(check.values)}, {bound}"
            lines.append(f"| {what} | {target} | {measured} | {'pass' if check.passed else '**fail**'} |")
    return lines


def _figures(found: Sequence[Measured]) -> list[str]:
    lines = ["| row | what | median | from .. to | |", "|---|---|---:|---:|---|"]
    for row in found:
        for place, figure in enumerate(row.result.figures):
            extent = spread(figure.values).strip(" ()")
            name = f"`{row.name}`" if place == 0 else ""
            lines.append(f"| {name} | {figure.name} | {number(figure.median)} | {extent} | {figure.unit} |")
    remarks = [f"- `{row.name}`: {remark}" for row in found for remark in row.result.remarks]
    return [*lines, *([""] if remarks else []), *remarks]
