"""The folds: given some events, when another happens, then the view is so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from support.conversation import compaction

from eventstore import (
    CheckpointStored,
    CompactionConfigured,
    ContextDeleted,
    ContextSet,
    CorruptLog,
    Event,
    FoldFailed,
    HistoryCleared,
    HistoryCompacted,
    MessageAdded,
    RecordedEvent,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
    UnknownEvent,
)
from projections import History, SessionState, fold, session
from projections.history import LATEST_MS, message_of


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
        assert tuple(map(message_of, change.history.added)) == (
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


def said(*contents: Any) -> list[Event]:
    """Return messages of the user."""
    return [MessageAdded("user", content) for content in contents]


def so_far(messages: int, summary: str = "so far") -> str:
    """Return what a reader is told of messages that went."""
    return f"[Summary of {messages} earlier messages]\n\n{summary}"


def read(*pieces: list[Event], limit: int | None = None) -> list[Any]:
    """Return what a reader is shown who has the first pieces from the view, committed one by one, and the last one not.

    Each piece is folded from what the one before it left, as a worker or a reader does.
    """
    version, state, present = 0, SessionState(), History()
    for piece in pieces:
        change = fold("s", version, state, recorded(*piece, first=version + 1))
        version, state, present = change.version, change.after, change.history.apply(present)
        assert len(present.messages) == state.history_messages
    return texts(present, limit)


@pytest.mark.guarantee("V7")
class TestCompactions:
    @pytest.mark.parametrize("border", range(1, 8))
    def test_of_what_was_stored_and_what_came_after(self, border: int) -> None:
        """A compaction takes the oldest, in the view and after it alike, but for those that it keeps."""
        log = [*said("1", "2", "3", "4", "5"), compaction(replaced=3, kept=[1]), *said("7")]
        assert read(log[:border], log[border:]) == [so_far(3), "1", "5", "7"]

    @pytest.mark.parametrize("border", range(1, 9))
    def test_two_after_each_other(self, border: int) -> None:
        """A second compaction begins with what the first one left, and its summary stands in the first one's place."""
        first = compaction(replaced=2, kept=[2, 4], summary="first")
        second = compaction(base=6, replaced=2, kept=[4])
        log = [*said("1", "2", "3", "4", "5"), first, *said("7"), second]
        assert read(log[:border], log[border:]) == [so_far(2), "4", "7"]
        assert read(log[:border], log[border:7], log[7:]) == [so_far(2), "4", "7"]

    @pytest.mark.parametrize("border", range(1, 8))
    def test_a_second_that_reaches_less_far(self, border: int) -> None:
        """What the first compaction kept and the second one does not reach stays."""
        log = [*said("1", "2", "3", "4", "5"), compaction(replaced=2, kept=[1, 2, 4]), compaction(base=6, replaced=1)]
        assert read(log[:border], log[border:]) == [so_far(1), "2", "4"]

    @pytest.mark.parametrize("border", range(1, 9))
    def test_a_clear_between(self, border: int) -> None:
        """A clear takes the summary too, and a compaction after it counts from the clear."""
        log = [*said("1", "2"), compaction(replaced=1), HistoryCleared(), *said("5", "6", "7")]
        assert read(log[:border], log[border:]) == ["5", "6", "7"]
        log = [*log, compaction(base=4, replaced=1, kept=[5])]
        assert read(log[:border], log[border:]) == [so_far(1), "5", "7"]

    @pytest.mark.parametrize(
        "unfit",
        [
            compaction(base=3, replaced=1),
            compaction(base=0, replaced=1, summary="late"),
            compaction(base=4, replaced=0),
            compaction(base=4, replaced=-1),
            compaction(base=4, replaced=4),
            compaction(base=4, replaced=2, kept=[2, 3]),
            compaction(base=4, replaced=0, kept=[2, 3, 5]),
        ],
        ids=[
            "never rewritten",
            "planned before",
            "none",
            "less than none",
            "too many",
            "too many with kept",
            "all kept",
        ],
    )
    @pytest.mark.parametrize("border", range(1, 7))
    def test_one_that_does_not_fit(self, border: int, unfit: Event) -> None:
        """A compaction of another history, or of more than there is, or of nothing, changes nothing but the version."""
        log = [*said("1", "2", "3"), compaction(replaced=1), *said("5")]
        for after in ([], said("7")):
            shown = [so_far(1), "2", "3", "5", *("7" for _ in after)]
            assert read(log[:border], [*log[border:], unfit, *after]) == shown
        fitting, beside = state_after(*log), state_after(*log, unfit)
        assert fitting == beside
        assert fold("s", 0, SessionState(), recorded(*log, unfit)).version == 6

    def test_all_of_it(self) -> None:
        """A history may go as a whole: the summary alone remains."""
        assert read(said("1", "2"), [compaction(replaced=2)]) == [so_far(2)]
        assert read(said("1", "2"), [compaction(replaced=2, summary=None)]) == []

    def test_what_arrived_meanwhile_stays(self) -> None:
        """Messages that were added between the plan and the compaction stay."""
        assert read(said("1", "2"), said("3"), [compaction(replaced=2)]) == [so_far(2), "3"]

    @pytest.mark.parametrize(
        ("summary", "shown"), [(None, True), ("hidden", False), (None, False)], ids=["none", "hidden", "neither"]
    )
    def test_that_shows_nothing(self, summary: str | None, shown: bool) -> None:
        """Without a summary that is shown, a reader has the newest messages alone, and an earlier summary is gone."""
        log = [*said("1", "2", "3", "4"), compaction(replaced=1)]
        log.append(compaction(base=5, replaced=1, summary=summary, shown=shown))
        assert [read(log, limit=limit) for limit in (None, 1, 2, 3)] == [["3", "4"], ["4"], ["3", "4"], ["3", "4"]]
        assert state_after(*log).summary_bytes == 0

    @pytest.mark.parametrize(
        ("limit", "expected"),
        [
            (None, [so_far(2), "3", "4"]),
            (4, [so_far(2), "3", "4"]),
            (3, [so_far(2), "3", "4"]),
            (2, [so_far(2), "4"]),
            (1, [so_far(2)]),
        ],
    )
    @pytest.mark.guarantee("V3")
    def test_limits(self, limit: int | None, expected: list[Any]) -> None:
        """The summary is one of the messages that are asked for, and comes before the others."""
        assert read([*said("1", "2", "3"), compaction(replaced=2)], said("4"), limit=limit)[1:] == expected[1:]
        assert read([*said("1", "2"), compaction(replaced=2), *said("3", "4")], limit=limit) == expected

    def test_the_summary_as_users_see_it(self) -> None:
        """A summary is a message of its own time and version, that says what it stands for."""
        event = HistoryCompacted(
            base=0,
            first=1,
            last=3,
            replaced=2,
            replaced_bytes=2,
            stands_for=9,
            strategy="oldest",
            kept=[1],
            summary="They met.",
            role="user",
            summarizer="a model",
            remark="shortened",
        )
        history = fold("s", 0, SessionState(), recorded(*said("a", "b", "c"), event)).history.apply(History())
        assert history.newest(1) == [
            {
                "role": "user",
                "content": "[Summary of 9 earlier messages]\n\nThey met.",
                "timestamp": "1970-01-01T00:00:04.000",
                "metadata": {
                    "type": "summary",
                    "summarized_count": 9,
                    "compaction": {
                        "messages": 9,
                        "left_out": 0,
                        "first": 1,
                        "last": 3,
                        "strategy": "oldest",
                        "summarizer": "a model",
                        "remark": "shortened",
                    },
                },
                "version": 4,
            }
        ]

    def test_what_the_session_knows_of_its_history(self) -> None:
        """Counts, sizes in UTF-8 and the last rewriting follow the history; what was ever said is counted beside."""
        log: list[Event] = [
            *said("é", {"k": [1.5, None]}, None),
            MessageAdded("assistant", "日本", tool_calls=[{"id": "c"}]),
        ]
        state = state_after(*log)
        assert (state.history_messages, state.history_bytes) == (4, 2 + 16 + 0 + 6 + 12)
        assert (state.summary_bytes, state.rewritten) == (0, 0)
        event = HistoryCompacted(
            base=0,
            first=1,
            last=3,
            replaced=2,
            replaced_bytes=18,
            stands_for=2,
            strategy="a test's",
            kept=[3],
            summary="né",
        )
        state = state_after(*log, event)
        assert (state.history_messages, state.history_bytes, state.message_count) == (2, 18, 4)
        assert (state.summary_bytes, state.rewritten) == (3, 5)
        state = state_after(*log, event, HistoryCleared())
        assert (state.history_messages, state.history_bytes, state.message_count) == (0, 0, 4)
        assert (state.summary_bytes, state.rewritten) == (0, 6)

    def test_is_no_activity(self) -> None:
        """A compaction begins no session and is no sign of life, whether or not it has an effect."""
        state = state_after(compaction(replaced=1))
        assert (state.created_ms, state.active_ms) == (0, 0)
        state = state_after(*said("1", "2"), compaction(replaced=1), compaction(replaced=1))
        assert (state.created_ms, state.active_ms, state.rewritten) == (1000, 2000, 3)

    def test_settings(self) -> None:
        """A session's settings are those that were configured last, as a whole."""
        settings = [CompactionConfigured({"a": 1, "b": 1}), CompactionConfigured({"a": {"c": [2]}})]
        assert state_after(*settings).compaction == {"a": {"c": [2]}}
        assert state_after(*settings, CompactionConfigured()).compaction == {}
        assert state_after(*settings).active_ms == 2000


class TestContext:
    def test_the_last_word_counts(self) -> None:
        """Setting, deleting and setting again: the last of them is what remains."""
        events = recorded(
            ContextSet("a", 1), ContextSet("b", 1), ContextDeleted("a"), ContextDeleted("c"), ContextSet("c", None)
        )
        change = fold("s", 0, SessionState(), events).context
        assert change.apply({"a": 0, "z": 9}) == {"b": 1, "c": None, "z": 9}


LONG_AGO = datetime(1970, 1, 1, 0, 0, 0, 250123, tzinfo=UTC)
IN_TOKYO = datetime(1970, 1, 1, 9, 0, 0, 500000, tzinfo=timezone(timedelta(hours=9)))


class TestOwnTimes:
    """Events that say when they happened, as imported ones do."""

    def test_views_show_them(self) -> None:
        """A message and a checkpoint show their own time in UTC, as exact as it is; the order is the versions'."""
        change = fold(
            "s",
            0,
            SessionState(),
            recorded(
                MessageAdded("user", "x", occurred_at=IN_TOKYO),
                MessageAdded("user", "y", occurred_at=LONG_AGO),
                CheckpointStored("c", {}, occurred_at=LONG_AGO),
                MessageAdded("user", "z"),
            ),
        )
        assert [(m["content"], m["timestamp"]) for m in map(message_of, change.history.added)] == [
            ("x", "1970-01-01T00:00:00.500"),
            ("y", "1970-01-01T00:00:00.250123"),
            ("z", "1970-01-01T00:00:04.000"),
        ]
        assert change.checkpoints.stored["c"]["created_at"] == "1970-01-01T00:00:00.250123"

    def test_a_session_is_as_old_as_its_events_say(self) -> None:
        """A session was created when its first event happened, and was active when its last one did."""
        state = state_after(SessionStarted(occurred_at=LONG_AGO), MessageAdded("user", "x", occurred_at=IN_TOKYO))
        assert (state.created_ms, state.active_ms) == (250, 500)
        assert state_after(SessionStarted(occurred_at=LONG_AGO), MessageAdded("user", "x")).active_ms == 2000

    @pytest.mark.parametrize(
        ("own", "created_ms"),
        [
            (datetime(1, 1, 1, tzinfo=UTC), 1),
            (datetime(9999, 12, 31, tzinfo=UTC), 1000),
            (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), 1000),
            (datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=12))), 1000),
        ],
    )
    def test_times_that_cannot_be(self, own: datetime, created_ms: int) -> None:
        """A session with times of no sense is a session all the same, and was not active in the future."""
        state = state_after(MessageAdded("user", "x", occurred_at=own))
        assert (state.created_ms, state.active_ms) == (created_ms, created_ms)


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

    @pytest.mark.parametrize("recorded_ms", [LATEST_MS + 1, 2**63])
    def test_a_message_of_a_time_that_nobody_can_write(self, recorded_ms: int) -> None:
        """It cannot be shown, unless it brought a time of its own; at the end of the last year of all it can."""
        own_time = MessageAdded("user", "b", occurred_at=datetime(2020, 1, 1, tzinfo=UTC))
        late = [
            msgspec.structs.replace(event, recorded_ms=recorded_ms)
            for event in recorded(MessageAdded("user", "a"), own_time, MessageAdded("user", "c"))
        ]
        with pytest.raises(FoldFailed, match="version 1"):
            fold("s", 0, SessionState(), late)
        in_time = [msgspec.structs.replace(late[0], recorded_ms=LATEST_MS), late[1]]
        history = fold("s", 0, SessionState(), in_time).history.apply(History())
        assert [message["timestamp"][:4] for message in history.messages] == ["9999", "2020"]
