"""How the benchmark shows its tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 120
"""Of a table, where no terminal says how wide it is."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; its last columns, which hold figures, to the right."""
    drawn = Table(box=box.SIMPLE_HEAD)
    for column, justify in zip(columns, _justified(rows), strict=True):
        drawn.add_column(column, justify="right" if justify else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    print(f"\n{title}")
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(drawn)


def _justified(rows: Sequence[Sequence[str]]) -> list[bool]:
    """Tell of each column whether it holds figures."""
    return [all(cell[:1].isdecimal() or cell == "-" for cell in column) for column in zip(*rows, strict=True)]


def share(value: float) -> str:
    """Return a share as per cent."""
    return f"{100 * value:.1f} %"
