"""What is told of an import: its progress while it runs, and at the end a table or one JSON object."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from printing import printable
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from importing import Counts
from importing.copying import Outcome, Verdict

EVERY = 1000
"""Streams after which a line tells of the progress, where no terminal shows it."""


class Report:
    """The sums of an import."""

    def __init__(self, *, dry_run: bool) -> None:
        """Begin at 0."""
        self.dry_run = dry_run
        self.streams = 0
        self.stopped: str | None = None
        self.sums = {verdict: Counts() for verdict in Verdict}
        self.refused: list[Outcome] = []

    def take(self, outcome: Outcome) -> None:
        """Add what has become of a stream."""
        self.streams += 1
        self.sums[outcome.verdict].add(outcome.counts)
        if outcome.refusal is not None:
            self.refused.append(outcome)

    @property
    def complete(self) -> bool:
        """Whether everything that the source holds is in the target now."""
        return not self.refused and self.stopped is None

    def as_json(self) -> str:
        """Return it for machines."""
        told: dict[str, Any] = {
            "dry_run": self.dry_run,
            "stopped": self.stopped,
            **{verdict.name.lower(): msgspec.structs.asdict(counts) for verdict, counts in self.sums.items()},
            "refusals": [
                {"name": outcome.name, "key": outcome.refusal.key, "reason": outcome.refusal.reason}
                for outcome in self.refused
                if outcome.refusal is not None
            ],
        }
        return json.dumps(told)

    def as_text(self) -> str:
        """Return it for people."""
        titles = {verdict: verdict.value for verdict in Verdict}
        if self.dry_run:
            titles[Verdict.IMPORTED] = "would be imported"
        lines = [" " * 14 + "".join(f"{title:>20}" for title in titles.values())]
        lines += [
            f"{name:14}" + "".join(f"{getattr(self.sums[verdict], name):20,}" for verdict in Verdict)
            for name in Counts.__struct_fields__
        ]
        for outcome in self.refused:
            lines += ["", f"refused: {printable(outcome.name)}", f"  {printable(str(outcome.refusal))}"]
        if self.stopped is not None:
            lines += [
                "",
                f"Stopped: {printable(self.stopped)}",
                "Once that is mended, run it again: it goes on where it was.",
            ]
        return "\n".join(lines)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """Show on standard error how far an import is, given how many streams are done, and how many there are."""
    if not sys.stderr.isatty():
        yield _line
        return
    columns = (BarColumn(), MofNCompleteColumn(), "sessions and threads", TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("importing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _line(done: int, total: int) -> None:
    if done % EVERY == 0 or done == total:
        print(f"{done:,} of {total:,} sessions and threads", file=sys.stderr, flush=True)
