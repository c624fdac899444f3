"""How scripts show things: progress with an estimate on standard error, tables and JSON on standard output."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

SHORT = 100
"""Characters of a value that are shown."""
EVERY = 1.0
"""Seconds between two lines of progress, where no terminal shows it."""

Show = Callable[[int, int], None]


@contextlib.contextmanager
def progress(what: str) -> Iterator[Show]:
    """Show how far something is and how long it will take, given how much is done, and of how much."""
    if not sys.stderr.isatty():
        yield _lines(what)
        return
    columns = (BarColumn(), MofNCompleteColumn(), what, TimeRemainingColumn())
    # What is printed meanwhile goes above the bar, if it goes to the terminal: not what goes into a file or a pipe.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the same, given how many more are done."""
    done = 0

    def more(number: int) -> None:
        nonlocal done
        done += number
        show(done, max(done, total))  # there may be more meanwhile

    with progress(what) as show:
        yield more


def _lines(what: str) -> Show:
    began = told = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= EVERY:
            told = now
            left = (now - began) * (total - done) / done if done else 0.0
            print(f"{done:,} of {total:,} {what}, about {left:.0f} s left", file=sys.stderr, flush=True)

    return show


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: drawn on a terminal, in plain columns elsewhere."""
    texts = [[shown(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        drawn = Table(*titles)
        for row in texts:
            drawn.add_row(*map(Text, row))
        Console().print(drawn)
        return
    widths = [max(map(len, column)) for column in zip(titles, *texts, strict=True)]
    for row in (list(titles), *texts):
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def shown(value: object) -> str:
    """Return a value in one short line that plays no tricks on a terminal."""
    text = value if isinstance(value, str) else as_json(value)
    return printable(text if len(text) <= SHORT else text[: SHORT - 3] + "...")


def printable(text: str) -> str:
    """Return a text that plays no tricks on a terminal."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def as_json(value: Any) -> str:
    """Return JSON."""
    return msgspec.json.encode(value).decode()
