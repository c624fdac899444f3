"""What the scripts of an audit print: tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from printing import printable
from rich.console import Console
from rich.table import Table
from rich.text import Text

from projections.sealing.findings import Finding, Forgotten, Verdict


def as_json(told: Mapping[str, Any]) -> str:
    """Return an object for machines."""
    return json.dumps(told)


def findings(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings for machines."""
    return [msgspec.to_builtins(finding) for finding in found]


def verdict_as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict for machines."""
    return {
        "proved": verdict.proved,
        **msgspec.to_builtins(verdict),
        "unsealed_events": verdict.unsealed_events,
    }


def forgotten(each: Forgotten) -> str:
    """Return a line about a session that was forgotten."""
    stone = each.tombstone
    name = each.session_id or f"{stone.session[:12]}..."
    if not stone.done:
        return f"forgotten: {name} is being forgotten, since {time(stone.begun_ms)}"
    who = f" by {stone.by}" if stone.by else ""
    why = f": {stone.reason}" if stone.reason else ""
    left = f"; files of it were out of reach: {', '.join(stone.files)}" if stone.files else ""
    return f"forgotten: {name}, {stone.version:,} events, on {time(stone.forgotten_ms)}{who}{why}{left}"


def facts(told: Mapping[str, object]) -> None:
    """Print names and values, one below the other."""
    width = max(map(len, told))
    for name, value in told.items():
        print(f"  {name:{width}}  {printable(str(value))}")


def findings_table(found: Sequence[Finding]) -> None:
    """Print what is wrong."""
    rows = [(finding.kind.value, finding.session_id or "", place(finding), finding.message) for finding in found]
    table = Table("what", "session", "version", "", box=None, header_style="bold", padding=(0, 2))
    for kind, *rest in rows:
        table.add_row(Text(kind, style="bold red"), *(Text(printable(cell), overflow="fold") for cell in rest))
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


def place(finding: Finding) -> str:
    """Return at which version something is wrong."""
    if not finding.version:
        return ""
    return f"{finding.version}" if finding.until <= finding.version else f"{finding.version}..{finding.until}"


def time(ms: int) -> str:
    """Return a time for people."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(sep=" ", timespec="seconds") if ms else "never"
