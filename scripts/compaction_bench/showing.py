"""How the benchmark shows its tables: with rich where it is installed, else as plain text."""

from __future__ import annotations

import sys
from collections.abc import Sequence

WIDTH = 120
"""Of a table, where no terminal says how wide it is."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; its last columns, which hold figures, to the right."""
    try:
        from rich import box  # noqa: PLC0415 - only the extra "demo" has it
        from rich.console import Console  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
    except ImportError:
        _plain(title, columns, rows)
        return
    drawn = Table(box=box.SIMPLE_HEAD)
    for column, justify in zip(columns, _justified(rows), strict=True):
        drawn.add_column(column, justify="right" if justify else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    print(f"\n{title}")
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(drawn)


def _plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    print(f"\n{title}")
    for row in (columns, *rows):
        cells = zip(row, widths, _justified(rows), strict=True)
        print("  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip())


def _justified(rows: Sequence[Sequence[str]]) -> list[bool]:
    """Tell of each column whether it holds figures."""
    return [all(cell[:1].isdecimal() or cell == "-" for cell in column) for column in zip(*rows, strict=True)]


def share(value: float) -> str:
    """Return a share as per cent."""
    return f"{100 * value:.1f} %"
