"""The machine can fail: bugs that are planted in the views, the folds and the readers turn it red."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, Verbosity, settings
from machine import SETTINGS, run_machine

from eventstore import RecordedEvent
from projections import ViewsChange, history, session
from projections.checkpoints import Checkpoint, CheckpointChange, Writes
from projections.history import History, HistoryChange
from projections.memory import MemoryViews

HUNT = settings(
    SETTINGS,
    database=None,
    max_examples=300,
    stateful_step_count=30,
    phases=[Phase.generate],  # the first failure will do: nobody needs it small
    report_multiple_bugs=False,
    print_blob=False,
    verbosity=Verbosity.quiet,
)


def test_a_commit_that_does_not_look_at_its_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views that take a change folded from another version than theirs are found out."""
    commit = MemoryViews._commit

    def blind(views: MemoryViews, change: ViewsChange) -> bool:
        return commit(views, msgspec.structs.replace(change, base=views._views(change.session_id).version))

    monkeypatch.setattr(MemoryViews, "_commit", blind)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_fold_that_drops_the_last_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold that loses the last message of what it was given is found out."""
    whole = history.fold

    def short(change: HistoryChange, events: Iterable[RecordedEvent]) -> HistoryChange:
        folded = whole(change, events)
        return msgspec.structs.replace(folded, added=folded.added[:-1])

    monkeypatch.setattr(history, "fold", short)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_reader_that_does_not_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that shows what was cleared after the view's version is found out."""

    def keep(change: HistoryChange, before: History) -> History:
        return History([*before.messages, *change.added], change.compaction)

    monkeypatch.setattr(HistoryChange, "apply", keep)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_checkpoint_that_makes_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that holds but checkpoints and yet is listed or counted as a session is found out."""
    monkeypatch.setattr(session, "_begins_a_session", lambda event: event.session_id != session.GLOBAL)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_global_stream_that_is_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """The global stream, if it is listed or counted as a session, is found out."""
    monkeypatch.setattr(session, "GLOBAL", "another")
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_an_update_that_revives_an_ended_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that changes the status of a session that has ended is found out."""
    change = session._change

    def revive(fields: dict[str, Any], changes: dict[str, Any]) -> None:
        change(fields, changes)
        fields["status"] = changes.get("status", fields["status"])

    monkeypatch.setattr(session, "_change", revive)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_checkpoint_that_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that leaves a checkpoint which was stored again where it stood is found out."""

    def in_place(change: CheckpointChange, stored: Sequence[Checkpoint], limit: int | None) -> list[Checkpoint]:
        places = {checkpoint["checkpoint_id"]: checkpoint for checkpoint in reversed(stored)}
        return list(reversed((places | dict(change.stored)).values()))[:limit]

    monkeypatch.setattr(CheckpointChange, "newest", in_place)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_writes_that_stay_beside_newer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that shows a task's earlier writes beside its last ones is found out."""

    def all_of_them(change: CheckpointChange, checkpoint_id: str, stored: Sequence[Writes]) -> list[Writes]:
        newer = [writes for (owner, _), writes in change.writes.items() if owner == checkpoint_id]
        return sorted([*stored, *newer], key=lambda writes: writes["version"])

    monkeypatch.setattr(CheckpointChange, "writes_of", all_of_them)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)
