"""The machine can fail: bugs that are planted in the views, the folds and the readers turn it red."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import pytest
from hypothesis import Phase, Verbosity, settings
from machine import SETTINGS, run_machine

from eventstore import RecordedEvent
from projections import ViewsChange, history
from projections.history import HistoryChange, Message
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
        return HistoryChange(folded.cleared, folded.added[:-1])

    monkeypatch.setattr(history, "fold", short)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_reader_that_does_not_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that shows what was cleared after the view's version is found out."""

    def keep(change: HistoryChange, messages: Sequence[Message]) -> list[Message]:
        return [*messages, *change.added]

    monkeypatch.setattr(HistoryChange, "apply", keep)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)
