"""A view that is rebuilt equals the one that grew."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import CHECKPOINTS, KEYS, SESSIONS, STATUSES, USERS, events, said, turns
from support.conversation import Logged, Wish, fitted
from support.model import Oracle, happened_ms, same

from eventstore import Event, EventStore, RecordedEvent, UnknownEvent, open_store
from eventstore.memory.store import MemoryStore
from projections import (
    GROUP,
    Projector,
    SessionState,
    Totals,
    ViewsChange,
    ViewStore,
    checkpoints,
    context,
    fold,
    history,
    open_views,
)
from projections.checkpoints import Checkpoint, CheckpointChange, Writes
from projections.context import ContextChange
from projections.history import History, HistoryChange
from projections.memory import MemoryViews
from projections.redis import commits
from projections.redis import views as redis_views
from projections.views import GENERATION

SETTINGS = settings(deadline=None, max_examples=200)
BEGAN_MS = 1_700_000_000_000

unknown = st.builds(UnknownEvent, type=st.just("OfTheFuture"), fields=st.just({"role": "user"}))
any_log = st.lists(events | unknown, max_size=3) | st.lists(events | unknown, min_size=8, max_size=40)
chats = st.builds(
    lambda first, then: [*first, *then], st.lists(said, min_size=4, max_size=8), st.lists(turns, max_size=12)
)
logs = any_log.map(lambda wanted: fitted([], wanted))
histories = chats.map(lambda wanted: fitted([], wanted))
either = st.booleans().flatmap(lambda chat: histories if chat else logs)
streams = st.sampled_from(["s", "$global"])
cuts = st.lists(st.integers(0, 40), max_size=8)


def recorded(log: Sequence[Logged], stream: str = "s") -> list[RecordedEvent]:
    """Return events as they stand in a log."""
    return [
        RecordedEvent(stream, version, BEGAN_MS + version * 7, str(version), event, {}, b"")
        for version, event in enumerate(log, 1)
    ]


def chunks(log: Sequence[RecordedEvent], at: Sequence[int]) -> list[Sequence[RecordedEvent]]:
    """Cut a log into pieces, of which some may be empty."""
    places = [0, *sorted(min(place, len(log)) for place in at), len(log)]
    return [log[start:end] for start, end in itertools.pairwise(places)]


def stored(state: SessionState) -> SessionState:
    """Return a state as it comes back from where it is kept."""
    return msgspec.json.decode(msgspec.json.encode(state), type=SessionState)


@pytest.mark.guarantee("V2")
class TestFolds:
    @SETTINGS
    @given(log=either, at=cuts, stream=streams)
    def test_a_log_can_be_folded_in_any_pieces(self, log: list[Logged], at: list[int], stream: str) -> None:
        """Views that take a log piece by piece are those that take it at once, and what the oracle says."""
        oracle = Oracle()
        oracle.append(stream, log)
        whole = recorded(log, stream)
        newest: list[Checkpoint] = []
        writes: dict[str, list[Writes]] = {owner: [] for owner in oracle.checkpoint_ids(stream)}
        present = History()
        values: dict[str, Any] = {}
        state, version = SessionState(), 0
        for chunk in chunks(whole, at):
            change = fold(stream, version, state, chunk)
            assert (change.base, change.before) == (version, state)
            present = change.history.apply(present)
            assert (change.history.rewritten, change.history.messages) == (
                change.after.rewritten,
                change.after.history_messages,
            )
            assert len(present.messages) == change.after.history_messages
            values = change.context.apply(values)
            newest = change.checkpoints.newest(newest, None)
            writes = {owner: change.checkpoints.writes_of(owner, found) for owner, found in writes.items()}
            state, version = stored(change.after), change.version
        at_once = fold(stream, 0, SessionState(), whole)
        assert (version, state) == (at_once.version, at_once.after)
        assert same(msgspec.structs.asdict(state), msgspec.structs.asdict(at_once.after))
        assert same(msgspec.to_builtins(present), msgspec.to_builtins(at_once.history.apply(History())))
        assert same(values, at_once.context.apply({}))
        assert same(newest, at_once.checkpoints.newest([], None))
        for limit in (None, 1, 2, 3, 50):
            shown = [{k: v for k, v in m.items() if k != "timestamp"} for m in present.newest(limit)]
            assert same(shown, oracle.shown(stream, limit))
        stands = present.compaction and (present.compaction.version, present.compaction.event)
        assert stands == oracle.compaction(stream)
        assert same(values, oracle.context(stream))
        assert same([{k: v for k, v in c.items() if k != "created_at"} for c in newest], oracle.checkpoints(stream))
        assert same(writes, {owner: oracle.writes(stream, owner) for owner in writes})
        fields = {k: v for k, v in msgspec.structs.asdict(state).items() if not k.endswith("_ms")}
        assert not log or same(fields, oracle.session(stream))
        began = oracle.began(stream)
        last = oracle.last_active(stream)
        ends = () if not began or not last else (whole[began - 1], whole[last - 1])
        times = tuple(happened_ms(event.data, event.recorded_ms) for event in ends) or (0, 0)
        assert (state.created_ms, state.active_ms) == times

    @settings(SETTINGS, max_examples=400)
    @given(log=histories, more=st.lists(turns, min_size=2, max_size=12), at=cuts)
    def test_changes_of_a_history_add_up(self, log: list[Logged], more: list[Event | Wish], at: list[int]) -> None:
        """A change that grew piece by piece does to any history what its pieces do one after another."""
        after = recorded([*log, *fitted(log, more)])[len(log) :]
        there = history.fold(HistoryChange(), recorded(log))
        before = HistoryChange(there.rewritten, there.messages)
        grown, one_by_one, piece = before, there.apply(History()), before
        for chunk in chunks(after, at):
            grown = history.fold(grown, chunk)
            piece = history.fold(HistoryChange(piece.rewritten, piece.messages), chunk)
            one_by_one = piece.apply(one_by_one)
        assert grown == history.fold(before, after)
        assert same(msgspec.to_builtins(grown.apply(there.apply(History()))), msgspec.to_builtins(one_by_one))

    @SETTINGS
    @given(log=logs, at=cuts, values=st.dictionaries(st.sampled_from(KEYS), st.integers()))
    def test_changes_of_a_context_add_up(self, log: list[Logged], at: list[int], values: dict[str, Any]) -> None:
        """A change that grew piece by piece does to any context what its pieces do one after another."""
        grown, one_by_one = ContextChange(), values
        for chunk in chunks(recorded(log), at):
            grown = context.fold(grown, chunk)
            one_by_one = context.fold(ContextChange(), chunk).apply(one_by_one)
        assert grown == context.fold(ContextChange(), recorded(log))
        assert same(grown.apply(values), one_by_one)

    @SETTINGS
    @given(log=logs, before=logs, at=cuts)
    def test_changes_of_checkpoints_add_up(self, log: list[Logged], before: list[Logged], at: list[int]) -> None:
        """A change that grew piece by piece does to any checkpoints what its pieces do one after another."""
        events = recorded([*before, *log])
        there, after = checkpoints.fold(CheckpointChange(), events[: len(before)]), events[len(before) :]
        grown, newest = CheckpointChange(), there.newest([], None)
        writes = {owner: there.writes_of(owner, []) for owner in CHECKPOINTS}
        for chunk in chunks(after, at):
            grown = checkpoints.fold(grown, chunk)
            piece = checkpoints.fold(CheckpointChange(), chunk)
            newest = piece.newest(newest, None)
            writes = {owner: piece.writes_of(owner, found) for owner, found in writes.items()}
        assert same(grown.newest(there.newest([], None), None), newest)
        for limit in (1, 2, 3):  # the newest need but the newest
            assert same(grown.newest(there.newest([], limit), limit), newest[:limit])
        assert same({owner: grown.writes_of(owner, there.writes_of(owner, [])) for owner in CHECKPOINTS}, writes)

    @SETTINGS
    @given(
        before=either,
        log=st.lists(events, max_size=20),
        values=st.dictionaries(st.sampled_from(KEYS), st.lists(st.integers(), max_size=1)),
    )
    def test_folds_leave_alone_what_they_are_given(
        self, before: list[Logged], log: list[Event | Wish], values: dict[str, Any]
    ) -> None:
        """A fold changes neither the events nor the state, and a change does not change what it is applied to."""
        there = fold("s", 0, SessionState(), recorded(before))
        state = msgspec.structs.replace(there.after, metadata=there.after.metadata | {"kept": [1]})
        messages = there.history.apply(History())
        whole = recorded([*before, *fitted(before, log)])[len(before) :]
        stored = [{"checkpoint_id": CHECKPOINTS[0], "version": 0}]
        writes = [{"task_id": "t1", "writes": [1], "version": 0}]
        given = msgspec.json.encode([whole, state, values, messages, stored, writes])
        change: ViewsChange = fold("s", len(before), state, whole)
        change.history.apply(messages).newest(2)
        change.context.apply(values)
        change.checkpoints.newest(stored, 2)
        change.checkpoints.writes_of(CHECKPOINTS[0], writes)
        assert msgspec.json.encode([whole, state, values, messages, stored, writes]) == given


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(SESSIONS), st.lists(events, min_size=1, max_size=6)),
        st.tuples(st.sampled_from(SESSIONS), st.lists(turns, min_size=1, max_size=8)),
        st.integers(1, 4).map(lambda count: ("step", count)),
        st.sampled_from(SESSIONS).map(lambda session_id: ("project", session_id)),
    ),
    min_size=4,
    max_size=25,
)


async def grow(store: EventStore, views: ViewStore, story: Sequence[tuple[str, Any]]) -> None:
    """Append, with a worker that now and then does some of its work, and all that is left at the end."""
    projector = Projector(store, views)
    oracle = Oracle()
    consumer = await store.feed.join(GROUP, "worker")
    for what, argument in story:
        if what == "step":
            await projector.step(consumer, wait=0, count=argument)
        elif what == "project":
            await projector.project([argument])
        else:
            new = fitted(oracle.events(what), argument)
            oracle.append(what, new)
            await store.append(what, new)
    while await projector.step(consumer, wait=0):
        pass
    consumer.abandon()


async def rebuild(store: EventStore, views: ViewStore) -> None:
    """Build views from the log alone."""
    await Projector(store, views).project({event.session_id async for event in store.read_all()})


async def everything(views: ViewStore) -> dict[str, Any]:
    """Return all that views hold."""
    found: dict[str, Any] = {"totals": await views.totals()}
    for status in (None, *STATUSES):
        found[f"in {status}"] = await views.listed(status=status, user_id=None, after=None, limit=100)
    for user_id in USERS:
        found[f"of {user_id}"] = await views.listed(status=None, user_id=user_id, after=None, limit=100)
    for session_id in SESSIONS:
        (snapshot,) = await views.read_sessions([session_id])
        assert snapshot.tail == []
        keys = sorted((await views.read_context_keys(session_id)).value)
        newest = (await views.read_checkpoints(session_id, None)).value
        owners = [*CHECKPOINTS, *(c["checkpoint_id"] for c in newest if c["checkpoint_id"] not in CHECKPOINTS)]
        found[session_id] = [
            snapshot.version,
            msgspec.structs.asdict(snapshot.state),
            msgspec.to_builtins((await views.read_history(session_id, None)).value),
            {key: (await views.read_context(session_id, key)).value for key in keys},
            newest,
            (await views.read_checkpoints(session_id, 2)).value,
            {owner: (await views.read_checkpoint(session_id, owner)).value for owner in owners},
            {owner: _by_version((await views.read_writes(session_id, owner)).value) for owner in owners},
        ]
    return found


def _by_version(writes: Sequence[Writes]) -> list[Writes]:
    return sorted(writes, key=lambda found: found["version"])


def generation_of_its_own(patch: pytest.MonkeyPatch) -> None:
    """Let every view stand under other keys than before."""
    mark = f"@{GENERATION}".encode()
    names = [name for name, key in vars(commits).items() if isinstance(key, bytes) and key.endswith(mark)]
    assert {"SESSION", "HISTORY", "COMPACTION", "CONTEXT", "SESSIONS", "TOTALS", "CHECKPOINTS"} <= set(names)
    assert {"ORDER", "WRITES"} <= set(names)
    for name in names:
        patch.setattr(commits, name, f"{name.lower()}@other".encode())
        patch.setattr(redis_views, name, f"{name.lower()}@other".encode(), raising=False)


def assert_same(grown: dict[str, Any], rebuilt: dict[str, Any]) -> None:
    """Compare all that two stores of views hold."""
    assert grown == rebuilt
    for session_id in SESSIONS:
        assert same(grown[session_id], rebuilt[session_id])


@pytest.mark.guarantee("V2")
class TestViews:
    @settings(SETTINGS, max_examples=60)
    @given(story=steps)
    def test_rebuilt_in_memory(self, story: list[tuple[str, Any]]) -> None:
        """Views that grew with the log equal fresh ones that are built from it at once."""

        async def compare() -> None:
            async with open_store("memory://", partitions=2) as store:
                assert isinstance(store, MemoryStore)
                await grow(store, grown := open_views(store), story)
                await rebuild(store, rebuilt := MemoryViews(store))
                assert_same(await everything(grown), await everything(rebuilt))

        asyncio.run(compare())

    def test_rebuilt_on_a_server(self, redis_url: str) -> None:
        """Views of another generation, built at once from the log, equal those that grew with it."""

        async def compare(story: list[tuple[str, Any]]) -> None:
            async with open_store(redis_url, namespace=uuid.uuid4().hex, partitions=2) as store:
                views = open_views(store)
                await grow(store, views, story)
                grown = await everything(views)
                with pytest.MonkeyPatch.context() as patch:
                    generation_of_its_own(patch)
                    assert await views.totals() == Totals()
                    await rebuild(store, views)
                    assert_same(grown, await everything(views))
                assert_same(grown, await everything(views))

        with asyncio.Runner() as runner:

            @settings(SETTINGS, max_examples=25)
            @given(story=steps)
            def check(story: list[tuple[str, Any]]) -> None:
                runner.run(compare(story))

            check()
