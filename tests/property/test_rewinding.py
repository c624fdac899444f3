"""Rewinding, compacting and clearing in any order, folded in any pieces: told a second time with a plain list."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventstore import Event, HistoryCleared, HistoryCompacted, HistoryRewound, MessageAdded, RecordedEvent
from projections import SessionState
from projections.changes import fold
from projections.history import History
from projections.past import Past

steps = st.lists(
    st.one_of(
        st.just("said"),
        st.just("said"),
        st.just("cleared"),
        st.tuples(st.just("compacted"), st.integers(1, 4), st.lists(st.booleans(), min_size=4, max_size=4)),
        st.tuples(st.just("rewound"), st.integers(0, 6)),
    ),
    max_size=20,
)


def told(wanted: list[str | tuple[object, ...]]) -> tuple[list[RecordedEvent], list[list[int]]]:
    """Return a log, and after each of its events the versions of the messages that are the history."""
    log: list[RecordedEvent] = []
    history: list[int] = []
    histories: list[list[int]] = [[]]
    rewritten = 0
    for version, step in enumerate(wanted, 1):
        event: Event
        match step:
            case ("compacted", int(reach), list(stays)):
                reached = history[:reach]
                kept = [each for each, stay in zip(reached, stays, strict=False) if stay]
                gone = len(reached) - len(kept)
                event = HistoryCompacted(rewritten, 1, version, gone, 0, gone, "a test's", kept)
                if gone:
                    history, rewritten = kept + history[reach:], version
            case ("rewound", int(removed)):
                event = HistoryRewound(0, removed, removed)
                if 0 < removed <= len(history):
                    history, rewritten = history[:-removed], version
            case "cleared":
                event, history, rewritten = HistoryCleared(), [], version
            case _:
                event, history = MessageAdded("user", "x"), [*history, version]
        log.append(RecordedEvent("s", version, 1000 + version, str(version), event, {}, b""))
        histories.append(history)
    return log, histories


@pytest.mark.guarantee("R8")
@settings(deadline=None, max_examples=200)
@given(wanted=steps, cuts=st.lists(st.integers(0, 20), max_size=6))
@example([*["said"] * 3, ("compacted", 3, [False, True, True, True]), ("rewound", 1)], [3])
def test_in_any_pieces(wanted: list[str | tuple[object, ...]], cuts: list[int]) -> None:
    """However the log is cut, the history is what a plain list comes to, and the session view counts its messages."""
    log, histories = told(wanted)
    state, present, grown = SessionState(), History(), Past("s")
    for start, end in itertools.pairwise(sorted({0, *(min(cut, len(log)) for cut in cuts), len(log)})):
        change = fold("s", start, state, log[start:end])
        state, present = change.after, change.history.apply(present)
        grown.take(log[start:end])
        for found in (present, grown.history):
            assert [message["version"] for message in found.messages] == histories[end]
        assert (state.history_messages, state.rewritten) == (len(histories[end]), change.history.rewritten)
