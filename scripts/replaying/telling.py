"""What is told of a session as it was, and of what changed in it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from printing import as_json, shown, table

from contextengine.values import Session
from projections import SessionAt
from projections.past import Past
from projections.replaying import Failed


def as_it_was(past: Past, limit: int | None) -> dict[str, Any]:
    """Return a session, its newest messages and its context, for machines."""
    session = Session.of(SessionAt(past.session_id, past.version, past.state)) if past.state.created_ms else None
    return {
        "session_id": past.session_id,
        "version": past.version,
        "recorded_at": datetime.fromtimestamp(past.recorded_ms / 1000, UTC).isoformat() if past.version else None,
        "session": session,
        "history": past.history.newest(limit),
        "context": past.context,
        "checkpoints": list(past.checkpoints),
    }


def failure(failed: Failed) -> dict[str, Any]:
    """Return why a session could not be replayed, for machines."""
    return {"session_id": failed.session_id, "reason": failed.reason}


def teller_of(*, for_machines: bool, full: bool, limit: int | None) -> Teller:
    """Return who tells of sessions and so many messages: to machines, or to people all of each, or a line of each."""
    return JsonTeller(limit) if for_machines else FullTeller(limit) if full else TableTeller(limit)


class Teller(Protocol):
    """Tells of sessions, one after the other, and at the end of those that could not be replayed."""

    def tell(self, past: Past) -> None:
        """Tell of a session."""
        ...

    def end(self, failures: Sequence[Failed], too_short: int) -> None:
        """Tell what could not be replayed, and how many had not come to the version yet."""
        ...


class JsonTeller:
    """One JSON object, written piece by piece."""

    def __init__(self, limit: int | None) -> None:
        """Begin it."""
        self._limit = limit
        self._before = '{"sessions":['

    def tell(self, past: Past) -> None:
        """Add a session."""
        sys.stdout.write(self._before + as_json(as_it_was(past, self._limit)))
        self._before = ","

    def end(self, failures: Sequence[Failed], too_short: int) -> None:
        """Close it."""
        rest = as_json({"not_yet": too_short, "failures": [failure(each) for each in failures]})
        print(("" if self._before == "," else self._before) + "]," + rest[1:])


class FullTeller:
    """All of each session."""

    def __init__(self, limit: int | None) -> None:
        """Show so many of the newest messages."""
        self._limit = limit

    def tell(self, past: Past) -> None:
        """Print it."""
        print_as_it_was(as_it_was(past, self._limit))

    def end(self, failures: Sequence[Failed], too_short: int) -> None:
        """Print what is missing."""
        if too_short:
            print(f"{too_short:,} sessions have not come to that version yet.")
        print_failures(failures)


class TableTeller(FullTeller):
    """A line of each session."""

    def __init__(self, limit: int | None) -> None:
        """Begin the table."""
        super().__init__(limit)
        self._rows: list[tuple[object, ...]] = []

    def tell(self, past: Past) -> None:
        """Add a line."""
        state = past.state
        counts = state.history_messages, len(past.context)
        self._rows.append((past.session_id, past.version, state.user_id or "", state.status, *counts))

    def end(self, failures: Sequence[Failed], too_short: int) -> None:
        """Print the table."""
        table(["session", "version", "user", "status", "messages", "context keys"], self._rows)
        super().end(failures, too_short)


def print_failures(failures: Sequence[Failed]) -> None:
    """Print which sessions could not be replayed, and why."""
    for failed in failures:
        print(f"{shown(failed.session_id)}: {shown(failed.reason)}")


def print_as_it_was(told: Mapping[str, Any]) -> None:
    """Print a session as it was, for people."""
    print(f"\n{shown(told['session_id'])} at version {told['version']}, recorded {told['recorded_at'] or 'never'}")
    for name, value in (told["session"] or {}).items():
        print(f"  {name:24}{shown(value)}")
    print(f"  history ({len(told['history'])} of the newest messages)")
    for message in told["history"]:
        calls = f"  {shown(message['tool_calls'])}" if "tool_calls" in message else ""
        print(f"    {message['version']:>6}  {shown(message['role']):10}{shown(message['content'])}{calls}")
    print(f"  context ({len(told['context'])})")
    for key, value in told["context"].items():
        print(f"    {shown(key)} = {shown(value)}")


def print_difference(session_id: str, changed: Mapping[str, Any]) -> None:
    """Print what changed in a session."""
    print(f"\n{shown(session_id)}")
    for name, (before, after) in changed["session"].items():
        print(f"  {name:24}{shown(before)} -> {shown(after)}")
    for sign, which in (("-", "gone"), ("+", "added")):
        for message in changed["messages"][which]:
            print(f"  {sign} {message['version']:>6}  {shown(message['role']):10}{shown(message['content'])}")
    context = changed["context"]
    for key, value in context["set"].items():
        print(f"  + context {shown(key)} = {shown(value)}")
    for key, (before, after) in context["changed"].items():
        print(f"  * context {shown(key)} = {shown(before)} -> {shown(after)}")
    for key in context["deleted"]:
        print(f"  - context {shown(key)}")
    for checkpoint_id in changed["checkpoints"]:
        print(f"  + checkpoint {shown(checkpoint_id)}")
