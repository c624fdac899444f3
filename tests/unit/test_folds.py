"""The folds: given some events, when another happens, then the view is so."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore import (
    ContextDeleted,
    ContextSet,
    CorruptLog,
    Event,
    FoldFailed,
    HistoryCleared,
    MessageAdded,
    RecordedEvent,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
    UnknownEvent,
)
from projections import History, SessionState, fold, session


def recorded(*events: Event | UnknownEvent, first: int = 1) -> list[RecordedEvent]:
    """Return events as if they had been recorded a second apart."""
    return [
        RecordedEvent("s", version, version * 1000, f"id-{version}", event, {}, b"")
        for version, event in enumerate(events, first)
    ]


def state_after(*events: Event | UnknownEvent) -> SessionState:
    """Return the session view after these events."""
    return fold("s", 0, SessionState(), recorded(*events)).after


def texts(history: History, limit: int | None = None) -> list[Any]:
    """Return what a reader is shown."""
    return [message["content"] for message in history.newest(limit)]


class TestSession:
    def test_begins_with_its_first_event(self) -> None:
        """Any first event gives a session its time of creation."""
        state = state_after(ContextSet("k", 1), MessageAdded("assistant", "x"))
        assert (state.created_ms, state.active_ms, state.created, state.status) == (1000, 2000, False, "active")

    def test_created_once(self) -> None:
        """A second creation changes nothing."""
        state = state_after(SessionStarted("ann", {"a": 1}), SessionStarted("bob", {"b": 2}))
        assert (state.user_id, state.metadata) == ("ann", {"a": 1})

    def test_created_after_it_began(self) -> None:
        """A session that began by itself takes its user when it is created, and keeps its time and counts."""
        state = state_after(MessageAdded("user", "x"), SessionStarted("ann"), MessageAdded("user", "y"))
        assert (state.user_id, state.created_ms, state.request_count, state.message_count) == ("ann", 1000, 1, 2)

    def test_counts_requests_by_itself_where_nobody_created_it(self) -> None:
        """User messages are the requests of a session that only agents wrote to."""
        agents = [MessageAdded("user", "a"), MessageAdded("assistant", "b"), MessageAdded("user", "c")]
        assert state_after(*agents).request_count == 2
        assert state_after(SessionStarted(), *agents).request_count == 0

    def test_updates_add_up(self) -> None:
        """Counters are sums of what the events say."""
        state = state_after(
            SessionStarted(), SessionUpdated(requests=1, processing_time=0.25), SessionUpdated(errors=1, requests=2)
        )
        assert (state.request_count, state.error_count, state.total_processing_time) == (3, 1, 0.25)

    def test_changes_replace_fields_and_merge_metadata(self) -> None:
        """Known fields are replaced, metadata is merged, other keys join the metadata."""
        changes = {"user_id": "bob", "metadata": {"b": 2}, "request_count": 7, "theme": "dark"}
        state = state_after(SessionStarted("ann", {"a": 1}), SessionUpdated(changes=changes))
        assert (state.user_id, state.request_count) == ("bob", 7)
        assert state.metadata == {"a": 1, "b": 2, "theme": "dark"}

    @pytest.mark.guarantee("V6")
    def test_ended_stays_ended(self) -> None:
        """An update that raced the end does not bring the session back; another end may change the status."""
        ended = [SessionStarted(), SessionEnded("failed"), SessionUpdated(changes={"status": "active"})]
        assert state_after(*ended).status == "failed"
        assert state_after(*ended, SessionEnded("cleared")).status == "cleared"

    def test_a_fold_leaves_its_input_alone(self) -> None:
        """Folding makes a new state and changes neither the old one nor the events."""
        before = state_after(SessionStarted("ann", {"a": 1}))
        session.fold(before, recorded(SessionUpdated(changes={"metadata": {"a": 2}}), first=2))
        assert before == state_after(SessionStarted("ann", {"a": 1}))


class TestHistory:
    def test_messages_as_users_see_them(self) -> None:
        """A message has its time, its version, and only the optional fields that were given."""
        change = fold(
            "s",
            0,
            SessionState(),
            recorded(MessageAdded("user", "x", {"m": 1}), MessageAdded("tool", "y", name="f", tool_call_id="c")),
        )
        assert change.history.added == (
            {
                "role": "user",
                "content": "x",
                "timestamp": "1970-01-01T00:00:01.000",
                "metadata": {"m": 1},
                "version": 1,
            },
            {
                "role": "tool",
                "content": "y",
                "timestamp": "1970-01-01T00:00:02.000",
                "metadata": {},
                "version": 2,
                "name": "f",
                "tool_call_id": "c",
            },
        )

    def test_clear(self) -> None:
        """A clear drops what came before it, in the view and in the change."""
        events = recorded(MessageAdded("user", "x"), HistoryCleared(), MessageAdded("user", "y"))
        change = fold("s", 0, SessionState(), events).history
        before = History([{"content": "b", "version": 0}])
        assert texts(change.apply(before)) == ["y"]
        assert texts(fold("s", 0, SessionState(), events[:1]).history.apply(before)) == ["b", "x"]


class TestContext:
    def test_the_last_word_counts(self) -> None:
        """Setting, deleting and setting again: the last of them is what remains."""
        events = recorded(
            ContextSet("a", 1), ContextSet("b", 1), ContextDeleted("a"), ContextDeleted("c"), ContextSet("c", None)
        )
        change = fold("s", 0, SessionState(), events).context
        assert change.apply({"a": 0, "z": 9}) == {"b": 1, "c": None, "z": 9}


class TestViews:
    @pytest.mark.guarantee("L10")
    def test_unknown_events_are_passed_over(self) -> None:
        """An event of a later version's type counts as a version and as activity, and changes nothing else."""
        change = fold("s", 0, SessionState(), recorded(SessionStarted(), UnknownEvent("Later", {"x": 1})))
        assert change.version == 2
        assert change.after.active_ms == 2000
        assert change.history.added == ()

    @pytest.mark.parametrize("first", [1, 3])
    def test_a_missing_version_is_noticed(self, first: int) -> None:
        """Views are never folded over a gap, nor over an event that they have had."""
        with pytest.raises(CorruptLog):
            fold("s", 1, SessionState(), recorded(SessionStarted(), first=first))

    def test_a_failure_names_its_event(self) -> None:
        """Whatever a fold raises becomes FoldFailed with the version of the event."""
        events = recorded(SessionStarted(), SessionUpdated(changes={"metadata": 5}), SessionUpdated(requests=1))
        with pytest.raises(FoldFailed, match="version 2: TypeError") as raised:
            fold("s", 0, SessionState(), events)
        assert (raised.value.session_id, raised.value.version) == ("s", 2)
