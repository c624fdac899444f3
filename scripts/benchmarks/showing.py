"""What is shown on a terminal: how far it has come, and the table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from benchmarks.bench import Bench, Row
from benchmarks.machine import Circumstances
from benchmarks.measuring import Check, Figure
from benchmarks.running import Measured


@contextlib.contextmanager
def progress(out: Console, bench: Bench, rows: Sequence[Row]) -> Iterator[Callable[[Row], Callable[[], None]]]:
    """Show which row is at hand. Nothing is drawn while something is being timed."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, auto_refresh=False) as shown:
        task = shown.add_task("", total=len(rows) * bench.repeats)
        begun = 0

        def begin(row: Row) -> Callable[[], None]:
            nonlocal begun
            if not out.is_terminal:
                out.print(f"{row.title} ...")
            shown.update(task, description=row.title, completed=begun * bench.repeats, refresh=True)
            begun += 1

            def step() -> None:
                shown.update(task, advance=1, refresh=True)

            return step

        yield begin


def table(out: Console, about: Circumstances, found: Sequence[Measured]) -> None:
    """Print everything that was measured, and which targets are met."""
    drawn = Table(title=None, show_lines=True, expand=False)
    drawn.add_column("what")
    drawn.add_column("measured")
    drawn.add_column("target")
    drawn.add_column("")
    for row in found:
        drawn.add_row(
            Text(row.title, style="bold"),
            "\n".join([*map(figure, row.result.figures), *row.result.remarks]),
            "\n".join([row.target, *map(check, row.result.checks)]),
            _verdict(row),
        )
    out.print(drawn)
    out.print(f"{about.machine}; {about.server}\n{about.versions}\n{about.messages}", style="dim")
    checks = [each for row in found for each in row.result.checks]
    out.print(f"{sum(each.passed for each in checks)} of {len(checks)} targets met")


def figure(measured: Figure) -> str:
    """Write a figure: the median, and from where to where."""
    return f"{measured.name}: {number(measured.median)}{spread(measured.values)} {measured.unit}"


def check(tried: Check) -> str:
    """Write a target, and what was found."""
    bound = f"{'at least' if tried.at_least else 'at most'} {number(tried.bound)}"
    found = f"{number(tried.median)}{spread(tried.values)} {tried.unit}"
    return f"{tried.name}: {found}, {bound}: {'pass' if tried.passed else 'FAIL'}"


def number(value: float) -> str:
    """Write a number with three digits or more."""
    return f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"  # noqa: PLR2004


def spread(values: Sequence[float]) -> str:
    """Write from where to where values go; empty if there is one only."""
    return f" ({number(min(values))} .. {number(max(values))})" if len(values) > 1 else ""


def _verdict(row: Measured) -> Text:
    if not row.result.checks:
        return Text("")
    return Text("pass", style="bold green") if row.passed else Text("FAIL", style="bold red")
