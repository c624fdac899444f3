"""What the demo shows with rich, step by step."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demonstration import counted
from demonstration.comparing import Kept
from demonstration.drawing import SHOWN, chat, facts, indented, panel, printable, short
from demonstration.input import EXAMPLES, Conversation
from demonstration.processes import Pair
from demonstration.recording import Tally
from eventstore import EventStore

EVENTS = 4
"""Events that are shown of a log at most."""


def title(out: Console) -> None:
    """Say what will be seen."""
    out.print(Text.assemble("\n", ("contextengine", "bold"), " records conversations, is killed, and comes back."))


def headline(out: Console, number: int, text: str) -> None:
    """Begin a step."""
    out.print()
    out.rule(Text.assemble((f" {number} ", "bold reverse"), (f"  {text} ", "bold")), align="left", style="dim")


def started(out: Console, pair: Pair) -> None:
    """Say what runs."""
    told = {
        "server": f"pid {pair.server.pid}: every event is on disk before it is acknowledged",
        "worker": f"pid {pair.worker.pid}: keeps the views (histories, metrics, contexts) up to date",
        "directory": str(pair.server.directory),
    }
    out.print(indented(facts(told)))


def source(out: Console, conversations: list[Conversation], path: Path) -> None:
    """Say what is to be recorded."""
    messages = sum(len(conversation.messages) for conversation in conversations)
    different = len({id(conversation.messages) for conversation in conversations})  # copies share their messages
    again = ", repeated" if different < len(conversations) else ""
    told = f"{counted(messages, 'message')}: {counted(different, 'conversation')} of {path.name}{again}"
    out.print(Text(f"  {printable(told)}\n"))


@contextlib.contextmanager
def progress(out: Console, tally: Tally) -> Iterator[None]:
    """Show how far the recording and the worker have come, for as long as they are at it."""
    with Live(get_renderable=lambda: _progress(tally), console=out, refresh_per_second=15):
        yield
    if not out.is_terminal:
        out.print()


def _progress(tally: Tally) -> RenderableType:
    events = counted(tally.events, "event")
    rows = [
        ("finished", "magenta", tally.recorded, tally.sessions, f"of {counted(tally.sessions, 'conversation')}"),
        ("appended", "cyan", tally.appended, tally.events, f"of {events} to the log"),
        ("projected", "green", tally.projected, tally.events, f"of {events} into the views"),
        ("lag", "yellow", tally.lag, tally.events, f"to be projected; {tally.largest_lag:,} at most"),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_column(justify="right")
    for name, colour, done, total, meaning in rows:
        bar = ProgressBar(total=max(1, total), completed=done, width=40, complete_style=colour, finished_style=colour)
        table.add_row(name, bar, f"{done:,}", meaning)
    return indented(table)


def most_telling(kept: dict[str, Kept]) -> Kept:
    """Return the session that shows most: with tool calls and context, and not too long."""

    def tells(each: Kept) -> tuple[bool, ...]:
        calls = any("tool_calls" in message for message in each.history)
        return calls, bool(each.context), len(each.history) <= SHOWN

    return max(kept.values(), key=tells)


async def session(out: Console, store: EventStore, kept: Kept) -> None:
    """Print a session: its history as a chat, its metrics, its context, and where they come from: its log."""
    session_id, length = kept.session.session_id, kept.session.version
    out.print(panel(f'get_conversation_history("{session_id}")', chat(kept.history)))
    out.print(panel(f'get_session("{session_id}")', facts(kept.session)))
    if kept.context:
        context = {key: short(value, lines=2) for key, value in kept.context.items()}
        out.print(panel(f'get_context("{session_id}", ...)', facts(context)))
    log = Table.grid(padding=(0, 2))
    for event in await store.read(session_id, limit=EVENTS):
        entry = Text(printable(msgspec.json.encode(event.data).decode()), no_wrap=True, overflow="ellipsis")
        log.add_row(Text(f"{event.version}-{event.recorded_ms}", style="cyan"), entry)
    rest = [Text(f"... and {length - EVENTS:,} more", style="dim")] if length > EVENTS else []
    title = f"the log that all of this is made from: a Redis stream of {counted(length, 'event')}"
    out.print(panel(title, Group(log, *rest)))


def killed(out: Console, pair: Pair) -> None:
    """Say what is dead."""
    for name, pid in (("server", pair.server.pid), ("worker", pair.worker.pid)):
        out.print(f"  kill -9 {pid:<8}the {name} is dead", style="red")


def nothing_missing(out: Console, kept: dict[str, Kept]) -> None:
    """Say what has been compared."""
    messages = sum(len(each.history) for each in kept.values())
    values = sum(len(each.context) for each in kept.values())
    counts = f"{counted(len(kept), 'session')}, {counted(messages, 'message')}, {counted(values, 'context value')}"
    told = {
        "histories": "message by message: order, role, content, name, tool calls, metadata, time, place in the log",
        "metrics": "of each session: status, requests, errors, processing time, dates, metadata, version",
        "contexts": "of each session: every key and its value",
    }
    out.print()
    out.print(indented(facts(told)))
    out.print()
    out.print(f"  nothing is missing: {counts}, compared one by one", style="bold green", soft_wrap=True)


def longest(kept: dict[str, Kept]) -> Kept:
    """Return the session with the longest history."""
    return max(kept.values(), key=lambda each: len(each.history))


def compacted(
    out: Console,
    session_id: str,
    report: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    originals: Sequence[Mapping[str, Any]],
) -> None:
    """Show a history that has become shorter, what that saves, and that the originals are still there."""
    if report.get("version") is None:
        out.print(f"  The longest history has {counted(len(originals), 'message')}: there is nothing to make shorter.")
        return
    out.print(panel(f'get_conversation_history("{session_id}")', chat(history)))
    out.print(panel("its summary", Text(printable(history[0]["content"]))))
    told = {
        "before": f"{counted(report['original_count'], 'message')}, {counted(report['tokens_before'], 'token')}",
        "after": f"{counted(report['compressed_count'], 'message')}, {counted(report['tokens_after'], 'token')}, "
        f"summarized by the {report['summarizer']} summarizer",
        "saved": counted(report["tokens_saved"], "token"),
    }
    out.print(indented(facts(told)))
    out.print()
    still = (
        f"  all {counted(len(originals), 'original')} are still in the log: include_compacted=True, expand_summary(...)"
    )
    out.print(still, style="bold green", soft_wrap=True)


def what_next(out: Console, log: str, kept: Path | None, given: Path) -> None:
    """Say where to go from here, in lines that can be copied.

    Args:
        out: Where to.
        log: The Redis key of a session's log.
        kept: The directory that stays, if there is one.
        given: The file that was recorded.
    """
    directory = (kept or Path(".demo")).absolute()
    python = "python" if shutil.which("python") == sys.executable else shlex.quote(_near(Path(sys.executable)))
    cli = next(filter(shutil.which, ("valkey-cli", "redis-cli")), "redis-cli")
    again = ["--dir", ".demo", *(["--input", str(given)] if given != EXAMPLES else [])]
    steps = [
        ("your own conversations", 'make demo ARGS="--input FILE.jsonl"'),
        ("in your agent", "README.md"),
        ("what is guaranteed", "docs/GUARANTEES.md"),
        ("workers", f"{python} -m workers --help"),
        *([] if kept else [("keep the data", f'make demo ARGS="{shlex.join(again)}"')]),
        ("start its server again", f"{python} -m workers --url embedded://{quote(str(directory))}"),
        (
            "see a session's log",
            f"{cli} -s {shlex.quote(_near(directory / 'server.sock'))} XRANGE {shlex.quote(log)} - +",
        ),
    ]
    for name, line in steps:
        out.print(Text.assemble(f"  {name:24}", (line, "cyan")), soft_wrap=True)


def _near(path: Path) -> str:
    """Return a path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
