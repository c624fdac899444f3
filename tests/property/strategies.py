"""Random events and random JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

from hypothesis import strategies as st
from support.conversation import FAULTS, Wanted, Wish

from eventstore import (
    CheckpointStored,
    CheckpointWritesStored,
    CompactionConfigured,
    ContextDeleted,
    ContextSet,
    Event,
    HistoryCleared,
    HistoryCompacted,
    MessageAdded,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
)
from eventstore.events import KnownEvent

SESSIONS = ["a", "{b}:c d", "日本\n語", "'%s' *", "$global"]
"""The streams. The last one is no session, whatever happens in it; any is none while it holds but checkpoints."""
USERS = ["ann", "ann:2", "用户"]
STATUSES = ["active", "completed", "failed", "paused"]
KEYS = ["k", "é:{} *"]
CHECKPOINTS = ["c1", "ü:{} *", "c1\0t1"]
TASKS = ["t1", "t2"]
OWN_TIMES = [
    datetime(2020, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2021, 1, 1, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=14))),
    datetime(1969, 12, 31, tzinfo=UTC),
    datetime(2999, 1, 1, tzinfo=UTC),
]
"""When events happened that were imported; also before there were sessions, and in the future."""

texts = st.text(max_size=12) | st.sampled_from(
    ["\0", "\x1b[0m\r\n", "\u2028", "\uffff", "👩‍🚀", "e\u0301", '"\\/', "null"]
)
ints = st.integers() | st.sampled_from([2**53 + 1, 2**63, -(2**63) - 1, 2**64])
huge = st.sampled_from([70, 400, 4000]).map(lambda digits: -(10**digits) + 1)
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 5e-324, 1.7e308, 1e16, 1e22, 0.1])
leaves = st.none() | st.booleans() | ints | floats | texts


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return lists and dicts of something."""
    return st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)


any_json = st.recursive(leaves | huge, nested, max_leaves=20)

# Events take a little of everything, because drawing them is most of a test's time.
json = leaves | st.lists(leaves, max_size=2) | st.dictionaries(texts, leaves | st.lists(leaves, max_size=2), max_size=2)
objects = st.dictionaries(texts, json, max_size=2)
seconds = st.floats(0, 1e6)

own_times = st.sampled_from([None, None, *OWN_TIMES])

messages = st.builds(
    MessageAdded,
    occurred_at=own_times,
    role=st.sampled_from(["user", "user", "assistant", "tool"]) | texts,
    content=json,
    metadata=objects,
    name=st.none() | texts,
    tool_calls=st.none() | st.lists(json, max_size=2),
    tool_call_id=st.none() | texts,
)
said = st.builds(MessageAdded, role=st.just("user"), content=st.sampled_from(["a", "é", "日本", {"k": 1.5}, None]))
changes: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.sampled_from(USERS),
        "status": st.sampled_from(STATUSES),
        "metadata": objects,
        "request_count": st.integers(0, 9),
        "error_count": st.integers(0, 9),
        "total_processing_time": seconds,
        # Names that are fields of the view but not of an update are metadata, like any other.
        "created": json,
        "created_ms": json,
        "message_count": json,
        "ended": json,
        "checkpoint_count": json,
        "history_messages": json,
        "rewritten": json,
        "compaction": json,
        "plan": json,
    },
)
keys = st.sampled_from(KEYS) | st.sampled_from(KEYS) | texts
checkpoint_ids = st.sampled_from(CHECKPOINTS) | st.sampled_from(CHECKPOINTS) | texts
contexts = st.builds(ContextSet, occurred_at=own_times, key=keys, value=json)
# A compaction that is drawn at random would fit no history: it is fitted to the log where that is known.
wishes = st.builds(
    Wish,
    share=st.sampled_from([1.0, 0.5, 0.9, 0.3, 0.1]),
    keeping=st.sampled_from([[False], [True, False], [True, True, False]])
    | st.lists(st.booleans(), min_size=1, max_size=4),
    fault=st.sampled_from([None] * 12 + [*FAULTS]),
    summary=st.none() | texts,
    shown=st.booleans(),
    role=st.sampled_from(["system", "user"]) | texts,
    summarizer=st.none() | texts,
    remark=st.none() | texts,
)
OF_TYPE: dict[type[Event], st.SearchStrategy[Wanted]] = {
    MessageAdded: messages,
    HistoryCleared: st.builds(HistoryCleared),
    HistoryCompacted: wishes,
    CompactionConfigured: st.builds(CompactionConfigured, settings=objects),
    ContextSet: contexts,
    ContextDeleted: st.builds(ContextDeleted, key=keys),
    SessionStarted: st.builds(
        SessionStarted, occurred_at=own_times, user_id=st.none() | st.sampled_from(USERS), metadata=objects
    ),
    SessionUpdated: st.builds(
        SessionUpdated,
        requests=st.integers(0, 3),
        errors=st.integers(0, 3),
        processing_time=seconds,
        changes=changes,
    ),
    SessionEnded: st.builds(SessionEnded, occurred_at=own_times, status=st.sampled_from(STATUSES[1:])),
    CheckpointStored: st.builds(
        CheckpointStored, occurred_at=own_times, checkpoint_id=checkpoint_ids, data=objects, metadata=objects
    ),
    CheckpointWritesStored: st.builds(
        CheckpointWritesStored,
        checkpoint_id=checkpoint_ids,
        task_id=st.sampled_from(TASKS) | texts,
        writes=st.lists(json, max_size=3),
    ),
}


@st.composite
def _any_event(draw: st.DrawFn) -> Wanted:
    """Return any event, or the wish for a compaction.

    A function of its own, because Hypothesis warns of strategies that are too long to print.
    """
    return draw(_ANY_EVENT)


_ANY_EVENT: st.SearchStrategy[Wanted] = st.one_of(messages, *OF_TYPE.values())
events = _any_event()
checkpoints = st.one_of(OF_TYPE[CheckpointStored], OF_TYPE[CheckpointWritesStored])


@st.composite
def _turn(draw: st.DrawFn) -> Wanted:
    """Return a wish as often as a message, and seldom a clear: `one_of` would take one as likely as the other."""
    turn: st.SearchStrategy[Wanted] = draw(st.sampled_from([*[said] * 10, *[wishes] * 9, OF_TYPE[HistoryCleared]]))
    return draw(turn)


turns = _turn()
"""What happens to a history, and nothing else: small messages, so that there can be more of them."""

UNKNOWN_TO_US = set(get_args(KnownEvent)) - set(OF_TYPE)
"""Types of events that the oracle has not been taught."""
