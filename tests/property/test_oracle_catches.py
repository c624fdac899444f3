"""The machine can fail: bugs that are planted in the views, the folds and the readers turn it red."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, Verbosity, settings
from hypothesis.errors import FlakyFailure
from machine import SETTINGS, run_machine

from eventstore import HistoryCompacted, RecordedEvent
from projections import HistoryAt, Message, Queries, ViewsChange, history, session
from projections.checkpoints import Checkpoint, CheckpointChange, Writes
from projections.history import History, HistoryChange, message_of
from projections.memory import MemoryViews
from projections.redis import exchanging
from projections.redis.names import Names
from projections.redis.views import RedisViews

HUNT = settings(
    SETTINGS,
    database=None,
    max_examples=1000,  # the rarest takes about 60
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

    def short(change: HistoryChange, events: Sequence[RecordedEvent]) -> HistoryChange:
        folded = whole(change, events)
        return msgspec.structs.replace(folded, added=folded.added[:-1])

    monkeypatch.setattr(history, "fold", short)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_reader_that_does_not_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that shows what was cleared after the view's version is found out."""

    def keep(change: HistoryChange, before: History) -> History:
        return History([*before.messages, *map(message_of, change.added)], change.compaction)

    monkeypatch.setattr(HistoryChange, "apply", keep)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_compaction_that_ignores_its_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold that compacts a history for which the compaction was not planned is found out."""
    fits = history.takes_effect

    def blind(compacted: HistoryCompacted, rewritten: int, messages: int) -> bool:
        return fits(compacted, compacted.base, messages)

    monkeypatch.setattr(history, "takes_effect", blind)
    monkeypatch.setattr(session, "takes_effect", blind)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_compaction_that_takes_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold that lets a compaction reach beyond the history is found out."""

    def greedy(compacted: HistoryCompacted, rewritten: int, messages: int) -> bool:
        return compacted.base == rewritten and compacted.replaced > 0

    monkeypatch.setattr(history, "takes_effect", greedy)
    monkeypatch.setattr(session, "takes_effect", greedy)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_commit_that_forgets_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views in memory that drop what a compaction keeps are found out."""
    commit = MemoryViews._commit

    def forgetful(views: MemoryViews, change: ViewsChange) -> bool:
        kept = msgspec.structs.replace(change.history, kept=())
        return commit(views, msgspec.structs.replace(change, history=kept))

    monkeypatch.setattr(MemoryViews, "_commit", forgetful)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


@pytest.mark.usefixtures("all_views_stored")
def test_a_commit_on_a_server_that_forgets_what_is_kept(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views on a server that drop what a compaction keeps are found out."""

    async def nothing(views: RedisViews, names: Names, changes: Sequence[ViewsChange]) -> dict[str, list[bytes]]:
        return {}

    monkeypatch.setattr(RedisViews, "_kept", nothing)
    with pytest.raises(AssertionError):
        run_machine(redis_url, HUNT)


@pytest.mark.usefixtures("all_views_stored")
def test_a_commit_on_a_server_that_reads_too_early(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views on a server that look for what is kept before an earlier change is written are found out."""
    monkeypatch.setattr(exchanging, "_each_once", lambda changes: [changes] if changes else [])
    with pytest.raises(AssertionError):
        run_machine(redis_url, HUNT)


@pytest.mark.parametrize("least", [0, 1], ids=["left out", "not counted"])
def test_a_reader_that_miscounts_the_summary(least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that, with a limit, leaves the summary out, or does not count it, is found out."""
    newest = History.newest

    def miscounted(view: History, limit: int | None) -> list[Message]:
        summary = [view.summary][:least] if view.summary else []
        return newest(view, limit) if limit is None else [*summary, *view.messages[-limit:]]

    monkeypatch.setattr(History, "newest", miscounted)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_reader_that_shows_the_summary_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes the summary for one of the newest messages as well is found out."""
    newest = History.newest

    def twice(view: History, limit: int | None) -> list[Message]:
        shown = newest(view, limit)
        return [*shown[:1], *shown][:limit] if view.summary and limit is not None else shown

    monkeypatch.setattr(History, "newest", twice)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_reader_that_compacts_only_what_it_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader with a limit that lets a compaction of the whole history loose on its newest part is found out."""

    async def at_once(queries: Queries, session_id: str, last: int | None = None) -> HistoryAt:
        snapshot = await queries._views.read_history(session_id, last)
        change = await queries._caught_up(snapshot)
        return HistoryAt(change.version, change.after, change.history.apply(snapshot.value))

    monkeypatch.setattr(Queries, "history_at", at_once)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_count_of_messages_that_a_compaction_leaves_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that goes on counting what was compacted as part of its history is found out."""
    follow = session._follow_history

    def only_more(fields: dict[str, Any], event: RecordedEvent) -> None:
        before = fields["history_messages"]
        follow(fields, event)
        if isinstance(event.data, HistoryCompacted):
            fields["history_messages"] = before

    monkeypatch.setattr(session, "_follow_history", only_more)
    with pytest.raises(AssertionError):
        run_machine("memory://", HUNT)


def test_a_compaction_that_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is listed as active because it was compacted is found out."""

    def any_event(fields: dict[str, Any], event: RecordedEvent) -> None:
        if fields["created_ms"] or session.begins_a_session(event.session_id, event.data):
            fields["created_ms"] = fields["created_ms"] or event.recorded_ms
            fields["active_ms"] = event.recorded_ms

    monkeypatch.setattr(session, "_note_time", any_event)
    # What falls into one millisecond cannot be told apart, so it may not be found a second time.
    with pytest.raises((AssertionError, FlakyFailure)):
        run_machine("memory://", HUNT)


def test_a_checkpoint_that_makes_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that holds but checkpoints and yet is listed or counted as a session is found out."""
    monkeypatch.setattr(session, "begins_a_session", lambda session_id, _event: session_id != session.GLOBAL)
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
