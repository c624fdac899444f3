"""What the crash tests found, as JSON and as a table of docs/GUARANTEES.md: ``python -m support.figures``."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.machine import machine

PAGE, KEPT_IN = "GUARANTEES.md", "crash.json"
HEADING = "## What the crash tests found"
COLUMNS = {
    "rounds": "rounds",
    "acknowledged": "acknowledged",
    "found": "found",
    "lost": "lost",
    "doubled": "doubled",
    "out_of_order": "out of order",
    "unknown": "unknown",
    "unknown_there": "of these there",
}
LEFT_OUT = {"torn", "untold"}
"""They are 0, or the test fails; they stand in the JSON."""

Finding: TypeAlias = Mapping[str, Any]

INTRODUCTION = """
Written by `make test-crash` ({date}; {machine}; {versions}) from [crash.json](crash.json), which has the
figures of each server; here they are summed over {servers}. Rounds are how often it was done; then come
events that were acknowledged, and what became of them; then appends that raised `AppendOutcomeUnknown`, and how many of
those were there: of each `outcome()` said so rightly. What was lost was not on the disk yet, was cut off from it, or
had not reached the replica that took over.
"""


def as_json(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return all findings, in an order of their own, and to what they belong."""
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": "make test-crash",
        "machine": machine(),
        "versions": f"Python {platform.python_version()}, redis-py {version('redis')}",
    }
    return {"about": about, "findings": sorted(findings, key=lambda f: (f["name"], str(f.get("server"))))}


def table(findings: Iterable[Finding]) -> list[str]:
    """Return one row for each name, with the figures of all servers."""
    rows: dict[str, dict[str, int]] = {}
    for finding in findings:
        row = rows.setdefault(finding["name"], {})
        for name, figure in finding.items():
            if isinstance(figure, int):
                row[name] = max(row.get(name, 0), figure) if name.startswith("most_") else row.get(name, 0) + figure
    lines = [
        f"| what was done | {' | '.join(COLUMNS.values())} | besides |",
        f"|---|{'---:|' * len(COLUMNS)}---|",
    ]
    for name, row in rows.items():
        figures = [f"{row[column]:,}" if column in row else "" for column in COLUMNS]
        besides = [
            f"{name.replace('_', ' ')} {figure:,}" for name, figure in row.items() if name not in {*COLUMNS, *LEFT_OUT}
        ]
        lines.append(f"| {name} | {' | '.join(figures)} | {', '.join(besides)} |")
    return lines


def page_with(page: str, found: Mapping[str, Any]) -> str:
    """Return the page with the findings in the place of earlier ones."""
    before, heading, rest = page.partition(f"{HEADING}\n")
    if not heading:
        raise ValueError(f"The page has no section {HEADING!r}.")
    after = rest[rest.index("\n## ") :]
    servers = sorted({finding["server"] for finding in found["findings"] if "server" in finding})
    introduction = INTRODUCTION.format(servers=", ".join(servers), **found["about"])
    return "\n".join([before + heading + introduction, *table(found["findings"]), ""]) + after


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of some findings, and write it down if asked to."""
    parser = argparse.ArgumentParser(prog="python -m support.figures", description=__doc__)
    parser.add_argument("findings", type=Path, help="what `support.findings` has written")
    parser.add_argument("--write", type=Path, metavar="DOCS", help=f"write {KEPT_IN}, and the table of {PAGE}, there")
    options = parser.parse_args(arguments)
    found = as_json(json.loads(line) for line in options.findings.read_text(encoding="utf-8").splitlines())
    sys.stdout.write("\n".join(table(found["findings"])) + "\n")
    if options.write:
        page = options.write / PAGE
        text = page_with(page.read_text(encoding="utf-8"), found)
        (options.write / KEPT_IN).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
