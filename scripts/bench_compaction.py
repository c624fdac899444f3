"""Measure what a compaction without a model keeps of the values that an agent needs later, and what it costs.

The input has sessions with tool calls, one JSON object a line: {"session_id": ..., "messages": [...]}, the messages in
OpenAI's form; or the messages of one session, one a line.

Exit codes: 0; 2 if a file cannot be used.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from command import Code, Script
    from compaction_bench.measuring import READINGS, Compact, Message, in_steps, measure, newest, speeds
    from compaction_bench.showing import share, table
    from demonstration.input import EXAMPLES, BadInput, parse
    from options import Json

    from workers.compaction.extractive import extract
except ImportError as missing:
    sys.exit(f"The benchmark is not installed yet ({missing}). Run: pip install '.[demo]'")

PARTS = (2, 4, 8)
STEPS = 4
WAYS: dict[str, Compact] = {
    "newest messages": newest,
    "extractive": extract,
    f"extractive, in {STEPS} steps": in_steps(STEPS),
}
GROWTH = (1, 4, 16)
BASE = 100
"""Messages of the smallest history whose time is measured."""


main = Script(__doc__)


@main.command
def compare(
    *,
    paths: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            metavar="FILE.jsonl",
            show_default=False,
            help=f"sessions to measure on; may be given again (default: the repository's own {EXAMPLES.name})",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Measure and print."""
    try:
        files = {path.name: _sessions(path) for path in paths or [EXAMPLES]}
    except BadInput as error:
        print(error, file=sys.stderr)
        return Code.STOPPED
    results = {name: _measured(sessions) for name, sessions in files.items()}
    if as_json:
        print(json.dumps(results, indent=1))
    else:
        for name, result in results.items():
            _show(name, result)
    return Code.DONE


def _sessions(path: Path) -> list[list[Message]]:
    """Return the messages of a file's sessions.

    Raises:
        BadInput: The file cannot be read, or holds something else.
    """
    try:
        return [conversation.messages for conversation in parse(path.read_bytes(), path.stem)]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except BadInput as error:
        raise BadInput(f"{path}, {error}.") from error


def _measured(sessions: list[list[Message]]) -> dict[str, Any]:
    kept = [
        {
            "reading": reading.name,
            "way": way,
            "part": part,
            "needed": found.needed,
            "kept": found.kept,
            "micro": round(found.micro, 4),
            "macro": round(found.macro, 4),
        }
        for reading in READINGS
        for way, compact in WAYS.items()
        for part in PARTS
        for found in (measure(sessions, compact, part, reading),)
    ]
    cost = [
        {"times": speed.times, "megabytes": round(speed.megabytes, 3), "seconds": round(speed.seconds, 3)}
        for speed in speeds(sessions, BASE, GROWTH)
    ]
    return {"sessions": len(sessions), "kept": kept, "cost": cost}


def _show(name: str, result: dict[str, Any]) -> None:
    rows = []
    for reading in READINGS:
        found = [row for row in result["kept"] if row["reading"] == reading.name]
        for way in WAYS:
            shares = [share(row["micro"]) if row["needed"] else "-" for row in found if row["way"] == way]
            rows.append([reading.name, way, str(found[0]["needed"]), *shares])
    columns = ["needed values", "compaction", "values", *(f"1/{part}" for part in PARTS)]
    table(f"{name}: the share that is still there, by the part of the size that is left", columns, rows)
    rows = [
        [f"{row['times']}x", f"{row['megabytes']:.2f}", f"{row['seconds']:.2f}", _rate(row)] for row in result["cost"]
    ]
    table(f"{name}: time of the processor for a quarter", ["history", "MB", "s", "s per MB"], rows)


def _rate(row: dict[str, float]) -> str:
    return f"{row['seconds'] / row['megabytes']:.2f}" if row["megabytes"] else "-"


if __name__ == "__main__":
    sys.exit(main())
