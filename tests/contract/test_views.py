"""What every store of views does, beside memory and beside each server alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from support.conversation import compaction
from support.projected import check_views, projected
from support.waiting import until

from eventstore import (
    CompactionConfigured,
    ContextDeleted,
    ContextSet,
    Event,
    EventStore,
    HistoryCleared,
    InvalidInput,
    MessageAdded,
    RecordedEvent,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
    StoreUnavailable,
)
from eventstore.redis import consumer
from eventstore.redis.store import RedisStore
from projections import (
    GROUP,
    MISSING,
    Parked,
    Projector,
    Queries,
    SessionState,
    Totals,
    ViewsChange,
    ViewStore,
    changes,
    fold,
)
from projections.exchange import Taken, take
from projections.projector import CHUNK_BYTES, LONG_AT_ONCE
from projections.views import TAIL, TAIL_BYTES
from workers import ProjectionWorker, following
from workers.compaction.worker import GROUP as COMPACTION


@pytest.fixture(autouse=True, params=[0, changes.SHORT_EVENTS], ids=["", "short"])
def short_events(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run everything twice: where each session stores all its views, and where short ones store but the first."""
    monkeypatch.setattr(changes, "SHORT_EVENTS", request.param)


@pytest.fixture
def queries(store: EventStore, views: ViewStore, projector: Projector) -> Queries:
    """Return the queries."""
    return Queries(store, views, projector)


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


LIFE: list[Event] = [
    SessionStarted("ann", {"source": "web"}),
    said("one"),
    ContextSet("a", {"x": [1]}),
    SessionUpdated(requests=1, processing_time=0.5),
    MessageAdded("assistant", None, tool_calls=[{"id": "c"}]),
    MessageAdded("tool", "22 °C", name="weather", tool_call_id="c"),
    ContextSet("b", None),
    ContextDeleted("a"),
    SessionEnded("completed"),
]


async def answers(queries: Queries, session_id: str = "s") -> list[object]:
    """Return everything that can be asked of a session."""
    return [
        await queries.session(session_id),
        await queries.history(session_id),
        await queries.context_keys(session_id),
        [(await queries.context(session_id, key))[0] for key in ("a", "b")],
    ]


class TestReads:
    @pytest.mark.parametrize("projected", range(len(LIFE) + 1))
    @pytest.mark.guarantee("V1", "V2")
    async def test_answers_do_not_depend_on_how_far_a_worker_came(
        self, store: EventStore, projector: Projector, queries: Queries, projected: int
    ) -> None:
        """View and tail together give the same answers, wherever the view ends and the tail begins."""
        for number, event in enumerate(LIFE):
            if number == projected:
                await projector.project(["s"])
            await store.append("s", event)
        session, history, keys, values = await answers(queries)
        assert (session.version, session.state.status) == (9, "completed")  # type: ignore[attr-defined]
        assert [(m["role"], m["content"], m["version"]) for m in history] == [  # type: ignore[attr-defined]
            ("user", "one", 2),
            ("assistant", None, 5),
            ("tool", "22 °C", 6),
        ]
        assert history[1]["tool_calls"] == [{"id": "c"}]  # type: ignore[index]
        assert (history[2]["name"], history[2]["tool_call_id"]) == ("weather", "c")  # type: ignore[index]
        assert keys == ["b"]
        assert values == [MISSING, None]

    async def test_an_unknown_session_has_nothing(self, queries: Queries) -> None:
        """Nothing is answered of a session that does not exist."""
        assert await answers(queries, "nobody") == [None, [], [], [MISSING, MISSING]]

    @pytest.mark.parametrize("projected", [0, 3, 7])
    @pytest.mark.parametrize("last", [1, 3, 5, 7, 50, None])
    @pytest.mark.guarantee("V3")
    async def test_last_messages_are_the_newest_in_order(
        self, store: EventStore, projector: Projector, queries: Queries, projected: int, last: int | None
    ) -> None:
        """The newest messages come oldest first, across view and tail."""
        texts = [str(number) for number in range(7)]
        for number, text in enumerate(texts):
            await store.append("s", said(text))
            if number + 1 == projected:
                await projector.project(["s"])
        assert [m["content"] for m in await queries.history("s", last)] == (texts if last is None else texts[-last:])

    @pytest.mark.parametrize("projected", [True, False])
    async def test_a_cleared_history_begins_anew(
        self, store: EventStore, projector: Projector, queries: Queries, projected: bool
    ) -> None:
        """After a clear, only what came later is the current history; the log has everything."""
        await store.append("s", [said("1"), said("2")])
        await projector.project(["s"])
        await store.append("s", [said("3"), HistoryCleared(), said("4")])
        if projected:
            await projector.project(["s"])
        assert [m["content"] for m in await queries.history("s")] == ["4"]
        session = await queries.session("s")
        assert session is not None
        assert session.state.message_count == 4

    async def test_a_reader_that_met_a_long_tail_commits_it(
        self, store: EventStore, views: ViewStore, queries: Queries
    ) -> None:
        """A tail that does not fit a read is folded whole, and the next reader finds it short."""
        await store.append("s", [said(str(n)) for n in range(TAIL + 50)])
        assert len(await queries.history("s")) == TAIL + 50
        (snapshot,) = await views.read_sessions(["s"])
        assert (snapshot.version, snapshot.tail) == (TAIL + 50, [])

    async def test_a_reader_leaves_a_short_tail_to_the_workers(
        self, store: EventStore, views: ViewStore, queries: Queries
    ) -> None:
        """A read writes nothing where it need not."""
        await store.append("s", said("1"))
        await answers(queries)
        (snapshot,) = await views.read_sessions(["s"])
        assert (snapshot.version, len(snapshot.tail)) == (0, 1)

    @pytest.mark.parametrize("projected", [0, 1, 3])
    async def test_a_tail_of_large_events_ends_early(
        self, store: EventStore, views: ViewStore, projector: Projector, queries: Queries, projected: int
    ) -> None:
        """Where what comes after a view is large, a read brings a part of it, and who needs the rest asks for it."""
        large = [f"{number}" * (TAIL_BYTES * 3 // 5) for number in range(7)]
        for text in large[:projected]:
            await store.append("s", said(text))
        await projector.project(["s"])
        await store.append("s", [said(text) for text in large[projected:]])
        (snapshot,) = await views.read_sessions(["s"])
        assert [event.version for event in snapshot.tail] == [projected + 1, projected + 2]
        assert not snapshot.complete
        assert [m["content"] for m in await queries.history("s")] == large
        (snapshot,) = await views.read_sessions(["s"])
        assert (snapshot.version, snapshot.tail, snapshot.complete) == (7, [], True)

    @pytest.mark.parametrize("size", [TAIL_BYTES - 1000, 2 * TAIL_BYTES])
    async def test_the_last_event_is_in_the_tail_however_large(
        self, store: EventStore, views: ViewStore, projector: Projector, queries: Queries, size: int
    ) -> None:
        """A tail that reaches to the end of the log says so; what a view stands at does not count."""
        for number in range(3):
            await store.append("s", said(str(number) * size))
            (snapshot,) = await views.read_sessions(["s"])
            assert ([event.version for event in snapshot.tail], snapshot.complete) == ([number + 1], True)
            session = await queries.session("s")
            assert session is not None
            assert session.state.message_count == number + 1
            await projector.project(["s"])

    async def test_very_long_sessions(self, store: EventStore, queries: Queries) -> None:
        """Several thousand events are projected in more than one commit."""
        for start in range(0, 5000, 1000):
            await store.append("s", [said(str(n)) for n in range(start, start + 1000)])
        assert [m["content"] for m in await queries.history("s")] == [str(n) for n in range(5000)]
        assert [m["content"] for m in await queries.history("s", 2)] == ["4998", "4999"]

    @pytest.mark.guarantee("W4")
    async def test_large_backlogs_are_taken_in_portions(
        self, store: EventStore, views: ViewStore, projector: Projector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However much there is to project, little of it is in memory at a time."""
        names, texts = [f"s{number}" for number in range(LONG_AT_ONCE + 2)], ["x" * 100_000] * 50
        for name in names:
            await store.append(name, [said(text) for text in texts])
        portions: list[list[int]] = []
        commit = type(views).commit

        async def noted(self: ViewStore, changes: Sequence[ViewsChange]) -> list[bool]:
            portions.append([sum(len(event.entry) for event in change.history.added) for change in changes])
            return await commit(self, changes)

        monkeypatch.setattr(type(views), "commit", noted)
        assert await projector.project(names) == []
        assert max(map(len, portions)) == LONG_AT_ONCE
        assert max(map(max, filter(None, portions))) <= CHUNK_BYTES
        assert sum(map(sum, portions)) > len(names) * sum(map(len, texts))
        for snapshot in await views.read_sessions(names):
            assert (snapshot.version, snapshot.tail) == (len(texts), [])

    async def test_large_contexts(self, store: EventStore, projector: Projector, queries: Queries) -> None:
        """Hundreds of keys in one commit."""
        await store.append("s", [ContextSet(f"k{n}", n) for n in range(800)])
        await projector.project(["s"])
        await store.append("s", [ContextDeleted(f"k{n}") for n in range(700)])
        await projector.project(["s"])
        assert await queries.context_keys("s") == sorted(f"k{n}" for n in range(700, 800))


def so_far(messages: int) -> str:
    """Return what a reader is told of messages that went."""
    return f"[Summary of {messages} earlier messages]\n\nso far"


async def contents(queries: Queries, last: int | None = None) -> list[object]:
    """Return what a reader of the history is shown."""
    return [message["content"] for message in await queries.history("s", last)]


async def later_than(store: EventStore, ms: int) -> bool:
    """Whether what is appended now is recorded after a time."""
    return (await store.now()).timestamp() * 1000 >= ms + 1


class TestCompactions:
    @pytest.mark.parametrize("projected", [None, 0, 3, 6, 7, 8])
    @pytest.mark.parametrize("last", [1, 2, 3, 5, 6, 50, None])
    @pytest.mark.guarantee("V3", "V7")
    async def test_a_summary_and_then_the_newest(
        self, store: EventStore, projector: Projector, queries: Queries, projected: int | None, last: int | None
    ) -> None:
        """A reader is shown the summary, what was kept, and what came later, wherever the view ends; N in all."""
        log = [*(said(str(n)) for n in range(1, 7)), compaction(replaced=3, kept=[2]), said("8")]
        for number, event in enumerate(log, 1):
            await store.append("s", event)
            if number == projected:
                await projector.project(["s"])
        shown = [so_far(3), "2", "5", "6", "8"]
        expected = shown if last is None else [shown[0], *shown[max(1, len(shown) - last + 1) :]]
        assert await contents(queries, last) == expected
        assert [event.data for event in await store.read("s")] == log

    @pytest.mark.parametrize("projected", range(7))
    @pytest.mark.guarantee("V7")
    async def test_a_compaction_of_another_history_does_nothing(
        self, store: EventStore, projector: Projector, queries: Queries, projected: int
    ) -> None:
        """Of two compactions that were planned for one history, one happens; after a clear, none of either."""
        log: list[list[Event]] = [
            [said("1"), said("2"), said("3")],
            [compaction(replaced=1, kept=[1])],
            [compaction(replaced=3, summary="too late")],
            [said("6"), compaction(base=4, replaced=2)],
            [HistoryCleared(), said("9")],
            [compaction(base=7, replaced=1, summary="too late"), compaction(replaced=1, summary="far too late")],
        ]
        expected: list[list[object]] = [
            ["1", "2", "3"],
            [so_far(1), "1", "3"],
            [so_far(1), "1", "3"],
            [so_far(2), "6"],
            ["9"],
            ["9"],
        ]
        for number, (events, shown) in enumerate(zip(log, expected, strict=True)):
            if number == projected:
                await projector.project(["s"])
            await store.append("s", events)
            assert await contents(queries) == shown
            assert await contents(queries, 1) == (shown[:1] if so_far(1) in shown or so_far(2) in shown else shown[-1:])
        await projector.project(["s"])
        assert await contents(queries) == expected[-1]

    @pytest.mark.parametrize("projected", [True, False])
    async def test_without_a_summary(
        self, store: EventStore, projector: Projector, queries: Queries, projected: bool
    ) -> None:
        """A compaction without a summary, or with one that is not shown, leaves the newest messages alone."""
        await store.append("s", [said("1"), said("2"), said("3"), compaction(replaced=1, summary=None)])
        if projected:
            await projector.project(["s"])
        assert (await contents(queries), await contents(queries, 1)) == (["2", "3"], ["3"])
        await store.append("s", compaction(base=4, replaced=1, shown=False))
        if projected:
            await projector.project(["s"])
        assert (await contents(queries), await contents(queries, 1)) == (["3"], ["3"])

    @pytest.mark.parametrize("projected", [True, False])
    @pytest.mark.guarantee("V7")
    async def test_long_histories(
        self, store: EventStore, projector: Projector, queries: Queries, projected: bool
    ) -> None:
        """Thousands of messages go and hundreds among them stay, in their order; a clear takes those away too."""
        for start in range(0, 5000, 1000):
            await store.append("s", [said(str(n + 1)) for n in range(start, start + 1000)])
        await projector.project(["s"])
        kept = [*range(1, 4800, 8)]
        assert len(kept) == 600
        await store.append("s", [compaction(replaced=4300, kept=kept), said("new")])
        if projected:
            await projector.project(["s"])
        remaining = [so_far(4300), *map(str, kept), *map(str, range(4901, 5001)), "new"]
        assert await contents(queries) == remaining
        assert await contents(queries, 1000) == remaining
        assert await contents(queries, 3) == [remaining[0], *remaining[-2:]]
        session = await queries.session("s")
        assert session is not None
        assert (session.state.history_messages, session.state.message_count) == (701, 5001)
        await store.append("s", [HistoryCleared(), said("anew")])
        if projected:
            await projector.project(["s"])
        assert (await contents(queries), await contents(queries, 2)) == (["anew"], ["anew"])

    @pytest.mark.guarantee("V2")
    async def test_changes_that_follow_each_other_in_one_commit(
        self, store: EventStore, views: ViewStore, queries: Queries
    ) -> None:
        """What a change keeps is what the change before it left, though both are committed in one go."""
        await store.append("s", [*(said(str(n)) for n in range(1, 5)), compaction(replaced=2, kept=[1, 3])])
        await store.append("s", [said("6"), said("7"), compaction(base=5, replaced=1, kept=[3, 6])])
        (snapshot,) = await views.read_sessions(["s"])
        changes, state = [], SessionState()
        for base in range(0, 8, 4):
            changes.append(fold("s", base, state, snapshot.tail[base : base + 4]))
            state = changes[-1].after
        assert await views.commit(changes) == [True, True]
        assert (await views.read_history("s", None)).tail == []
        assert await contents(queries) == [so_far(1), "3", "6", "7"]

    @pytest.mark.guarantee("V2")
    async def test_many_projectors_compact_as_one(
        self, store: EventStore, projector: Projector, queries: Queries
    ) -> None:
        """Projectors that race to commit a compaction keep what is kept, once."""
        await store.append("s", [said(str(n)) for n in range(1, 9)])
        await projector.project(["s"])
        await store.append("s", [compaction(replaced=4, kept=[1, 3]), said("10")])
        await asyncio.gather(*(projector.project(["s"]) for _ in range(8)))
        assert await contents(queries) == [so_far(4), "1", "3", "7", "8", "10"]

    async def test_is_no_activity(self, store: EventStore, queries: Queries, projector: Projector) -> None:
        """A compaction makes no session, and none more recent: a session that is idle is as idle after it."""
        await store.append("nobody", compaction(replaced=1))
        await store.append("s", [said("1"), CompactionConfigured({"keep": 5})])
        before = await queries.session("s")
        assert before is not None
        await until(lambda: later_than(store, before.state.active_ms))
        await store.append("s", compaction(replaced=1))
        for _ in ("the log", "the views"):
            after = await queries.session("s")
            assert after is not None
            assert (after.version, after.state.active_ms) == (3, before.state.active_ms)
            assert after.state.compaction == {"keep": 5}
            await projector.project(["s"])
        assert [session.session_id for session in (await queries.sessions()).sessions] == ["s"]
        assert await queries.totals() == Totals(sessions=1, active_sessions=1, messages=1, events=4, configured=1)


class TestLeases:
    async def test_one_holder_at_a_time(self, views: ViewStore) -> None:
        """A lease of a session is given to one, who may extend it; the next gets it when it is released."""
        assert await views.lease("s", "ann", 60)
        assert not await views.lease("s", "bob", 60)
        assert await views.lease("s", "ann", 60)
        assert await views.lease("t", "bob", 60)
        await views.release("s", "ann")
        assert await views.lease("s", "bob", 60)
        assert not await views.lease("s", "ann", 60)

    async def test_only_its_holder_releases_it(self, views: ViewStore) -> None:
        """A release by somebody else does nothing, nor does one of a lease that nobody has."""
        await views.release("s", "ann")
        assert await views.lease("s", "ann", 60)
        await views.release("s", "bob")
        assert not await views.lease("s", "bob", 60)

    async def test_it_ends_by_itself(self, views: ViewStore) -> None:
        """A lease that its holder does not extend goes to who asks after its time, and is not the old holder's then."""
        assert await views.lease("s", "ann", 0.05)

        async def bob_has_it() -> bool:
            return await views.lease("s", "bob", 60)

        await until(bob_has_it)
        await views.release("s", "ann")
        assert not await views.lease("s", "ann", 60)

    async def test_the_last_extension_counts(self, views: ViewStore) -> None:
        """A holder that asks for less time than it has left has less."""
        assert await views.lease("s", "ann", 60)
        assert await views.lease("s", "ann", 0.05)

        async def bob_has_it() -> bool:
            return await views.lease("s", "bob", 60)

        await until(bob_has_it)

    async def test_bad_session_ids(self, views: ViewStore) -> None:
        """A lease is on a session that can exist."""
        with pytest.raises(InvalidInput):
            await views.lease("", "ann", 60)
        with pytest.raises(InvalidInput):
            await views.release("", "ann")


class TestCommits:
    @pytest.mark.guarantee("V2")
    async def test_only_a_current_base_is_committed(self, store: EventStore, views: ViewStore) -> None:
        """Of two changes folded from the same version, the second does nothing."""
        await store.append("s", [said("1"), said("2")])
        (snapshot,) = await views.read_sessions(["s"])
        first = fold("s", 0, SessionState(), snapshot.tail[:1])
        both = fold("s", 0, SessionState(), snapshot.tail)
        assert await views.commit([both, first]) == [True, False]
        assert await views.commit([both]) == [False]
        stored = await views.read_history("s", None)
        assert [m["content"] for m in stored.value.messages] == ["1", "2"]
        assert (await views.totals()).messages == 2

    @pytest.mark.guarantee("V2")
    async def test_many_projectors_have_the_effect_of_one(
        self, store: EventStore, views: ViewStore, projector: Projector
    ) -> None:
        """Projectors that race on the same sessions leave views and totals as one alone would."""
        for number in range(50):
            await store.append(f"s{number % 5}", [said(str(number)), ContextSet("k", number)])
        await asyncio.gather(*(projector.project(f"s{n}" for n in range(5)) for _ in range(8)))
        assert await views.totals() == Totals(5, 5, 50, 50, events=100)
        assert [len((await views.read_history(f"s{n}", None)).value.messages) for n in range(5)] == [10] * 5

    async def test_nothing_to_commit(self, views: ViewStore) -> None:
        """An empty batch is fine."""
        assert await views.commit([]) == []


class TestLists:
    async def test_by_last_activity_status_and_user(self, store: EventStore, queries: Queries) -> None:
        """Lists hold what fits, the last active first, and are right at once without a worker."""
        for session_id, user in (("a", "ann"), ("b", "bob"), ("c", "ann"), ("d", None)):
            await store.append(session_id, SessionStarted(user))
            await asyncio.sleep(0.002)  # no-sleep-ok: the order is by milliseconds
        await store.append("b", SessionEnded("completed"))
        await asyncio.sleep(0.002)  # no-sleep-ok: as above
        await store.append("a", said("hello"))

        async def listed(**choice: str) -> list[str]:
            return [session.session_id for session in (await queries.sessions(**choice)).sessions]  # type: ignore[arg-type]

        assert await listed() == ["a", "b", "d", "c"]
        assert await listed(status="active") == ["a", "d", "c"]
        assert await listed(status="completed") == ["b"]
        assert await listed(user_id="ann") == ["a", "c"]
        assert await listed(user_id="bob", status="active") == []
        assert await listed(status="failed") == []

    @pytest.mark.parametrize("limit", [1, 7, 30, 31])
    @pytest.mark.guarantee("V4")
    async def test_pages_cover_the_list_once(self, store: EventStore, queries: Queries, limit: int) -> None:
        """A walk over pages meets each session once, however many share a millisecond."""
        await asyncio.gather(*(store.append(f"s{n}", SessionStarted("ann")) for n in range(30)))
        whole = [s.session_id for s in (await queries.sessions()).sessions]
        assert sorted(whole) == sorted(f"s{n}" for n in range(30))
        walked: list[str] = []
        cursor = None
        while True:
            page = await queries.sessions(user_id="ann", status="active", limit=limit, cursor=cursor)
            assert len(page.sessions) <= limit
            walked += [s.session_id for s in page.sessions]
            if (cursor := page.cursor) is None:
                break
        assert walked == whole

    @pytest.mark.parametrize("cursor", ["", "x", "1", 5, "a:b", "1:\ud800"])
    async def test_bad_cursors(self, queries: Queries, cursor: str) -> None:
        """A cursor is what a page gave."""
        with pytest.raises(InvalidInput):
            await queries.sessions(cursor=cursor)

    @pytest.mark.guarantee("V4")
    async def test_totals_are_right_at_once(self, store: EventStore, queries: Queries) -> None:
        """Totals count what has been appended, without a worker and after trimming."""
        for session_id in ("a", "b"):
            await store.append(session_id, LIFE)
        await store.append("c", said("x"))
        assert await queries.totals() == Totals(
            sessions=3, active_sessions=1, messages=7, context_operations=6, events=19
        )
        await store.feed.trim()
        assert (await queries.totals()).sessions == 3

    @pytest.mark.guarantee("V4")
    async def test_a_dead_worker_does_not_hold_up_a_list(self, store: EventStore, queries: Queries) -> None:
        """What a worker took and did not finish is projected by who needs it."""
        await store.append("a", SessionStarted())
        dead = await store.feed.join(GROUP, "dead")
        assert await dead.take(count=10, wait=0)
        assert [s.session_id for s in (await queries.sessions()).sessions] == ["a"]


class TestWorking:
    async def test_what_is_done_is_acknowledged_at_once(
        self, store: EventStore, views: ViewStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker does not wait for news before it acknowledges what it has projected: lists would wait with it."""
        monkeypatch.setattr(following, "LONGEST_WAIT", 60.0)
        monkeypatch.setattr(consumer, "LONGEST_WAIT", 60.0)
        worker = ProjectionWorker(store, views)
        working = asyncio.create_task(worker.run())
        await store.append("s", said("1"))
        await projected(store)
        working.cancel()
        await asyncio.wait([working])

    @pytest.mark.guarantee("W1")
    async def test_who_stops_when_the_server_fails_finishes(
        self, store: EventStore, views: ViewStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker that is asked to stop just when the server failed leaves nothing in hand, if the server is back."""
        worker, kind = ProjectionWorker(store, views, name="w"), type(views)
        exchange = kind.exchange

        async def fail(*_: object, **__: object) -> tuple[list[bool], Taken]:
            monkeypatch.setattr(kind, "exchange", exchange)
            await worker.stop()
            raise StoreUnavailable("staged")

        monkeypatch.setattr(kind, "exchange", fail)
        await store.append("s", said("1"))
        await worker.run()
        assert [partition.waiting for partition in await store.feed.progress(GROUP) if partition.waiting] == []
        assert (await views.read_sessions(["s"]))[0].version == 1

    async def test_who_comes_back_takes_up_what_it_had_in_hand(self, store: EventStore, views: ViewStore) -> None:
        """A worker whose connection broke does not leave what it had taken to whoever takes over from the dead."""
        await store.append("s", said("1"))
        await (await store.feed.join(views.group, "same")).take(count=10, wait=0)
        worker = ProjectionWorker(store, views, name="same", claim_after=3600)
        working = asyncio.create_task(worker.run())
        await projected(store)
        working.cancel()
        await asyncio.wait([working])


class TestExchanging:
    """What a worker has folded goes, and what is new comes."""

    async def test_what_is_written_is_in_what_is_read(
        self, store: EventStore, views: ViewStore, projector: Projector
    ) -> None:
        """Changes are written before what is new is read; entries that are done are not given again."""
        consumer = await store.feed.join(views.group, "w")
        await store.append("s", said("1"))
        first = await take(views, consumer, count=10, wait=0)
        changes, failures = await projector.changes(first.snapshots)
        await store.append("s", said("2"))
        written, second = await views.exchange(consumer, changes, first.deliveries, count=10)
        assert (written, failures) == ([True], [])
        (snapshot,) = second.snapshots
        assert (snapshot.version, [event.version for event in snapshot.tail]) == (1, [2])
        assert [each.attempts for each in await consumer.unfinished(count=10)] == [1 + 1]
        assert [pointer.version for each in second.deliveries for pointer in each.pointers] == [2]

    async def test_many_at_once(self, store: EventStore, views: ViewStore) -> None:
        """Of each session that changed, either the view is read or it is named; each entry is handed out once."""
        consumer = await store.feed.join(views.group, "w")
        names = [f"s{number}" for number in range(300)]
        for name in names:
            await store.append(name, said(name))
        taken: list[Taken] = []
        while not taken or taken[-1].deliveries:
            taken.append((await views.exchange(consumer, [], [], count=20))[1])
        found = [each.session_id for some in taken for each in some.snapshots]
        assert sorted([*found, *(name for some in taken for name in some.rest)]) == sorted(names)
        entries = [(each.partition, each.entry_id) for some in taken for each in some.deliveries]
        assert len(set(entries)) == len(entries)

    async def test_what_was_not_written_is_said(
        self, store: EventStore, views: ViewStore, projector: Projector
    ) -> None:
        """A change whose base another one has passed is not written, and the others are."""
        for name in ("a", "b"):
            await store.append(name, said("1"))
        consumer = await store.feed.join(views.group, "w")
        first = await take(views, consumer, count=10, wait=0)
        changes, _ = await projector.changes(first.snapshots)
        assert not await projector.project([changes[0].session_id])
        assert (await views.exchange(consumer, changes, [], count=10))[0] == [False, True]

    async def test_a_group_that_is_gone(self, store: EventStore, views: ViewStore, projector: Projector) -> None:
        """Who exchanges makes the group anew, and then gets everything again."""
        consumer = await store.feed.join(views.group, "w")
        await store.append("s", said("1"))
        first = await take(views, consumer, count=10, wait=0)
        changes, _ = await projector.changes(first.snapshots)
        await store.feed.disband(views.group)
        if not isinstance(store, RedisStore):
            pytest.skip("in memory it is an error of one's own")
        written, second = await views.exchange(consumer, changes, [], count=10)
        again = second.deliveries or (await take(views, consumer, count=10, wait=0)).deliveries
        assert written == [True]
        assert [pointer.session_id for each in again for pointer in each.pointers] == ["s"]

    @pytest.mark.guarantee("W1")
    async def test_a_worker_beside_many_writers(self, store: EventStore, views: ViewStore) -> None:
        """A worker that is busy all the time brings every view to the end of its log, and acknowledges everything."""
        worker = ProjectionWorker(store, views)
        working = asyncio.create_task(worker.run())

        async def write(name: str) -> None:
            for number in range(30):
                await store.append(f"{name}-{number % 3}", [said(f"{number}"), ContextSet("k", number)])

        await asyncio.gather(*(write(f"s{number}") for number in range(40)))
        await projected(store)
        await worker.stop()
        await working
        await check_views(store, views=views)


class TestTidying:
    async def test_a_group_in_which_nobody_works_keeps_no_feed(self, store: EventStore, views: ViewStore) -> None:
        """The compaction workers' group is forgotten when it was silent at two looks, and not while somebody joins."""
        feed, worker = store.feed, ProjectionWorker(store, views)
        (await feed.join(COMPACTION, "gone")).abandon()
        await worker.tidy()
        assert not (await feed.join(COMPACTION, "gone")).founded
        await worker.tidy()
        returned = await feed.join(COMPACTION, "returned")
        assert returned.founded
        await returned.beat()
        for _ in range(3):
            await worker.tidy()
        assert not (await feed.join(COMPACTION, "another")).founded


class TestParking:
    async def test_a_parked_session_is_left_alone(
        self, store: EventStore, views: ViewStore, projector: Projector
    ) -> None:
        """Workers pass a parked session over until it is retried."""
        await store.append("s", said("1"))
        await store.append("t", said("1"))
        await projector.park("s", 1, "for the test")
        await projector.project_or_park(["s", "t"])
        assert [(await views.read_sessions([s]))[0].version for s in ("s", "t")] == [0, 1]
        assert [(p.session_id, p.version, p.reason) for p in await views.parked()] == [("s", 1, "for the test")]
        assert [each.value for each in await views.read_sessions(["s", "t", "u"])] == [True, False, False]
        assert await projector.retry("s") is None
        assert (await views.read_sessions(["s"]))[0].version == 1
        assert await views.parked() == []

    @pytest.mark.guarantee("V4", "W2")
    async def test_what_came_before_a_failure_is_projected(
        self, store: EventStore, views: ViewStore, projector: Projector
    ) -> None:
        """A session that cannot be folded beyond an event stands in lists and totals as it was before that event."""
        await store.append("s", [said("1"), said("2"), SessionUpdated(changes={"metadata": 5}), said("3")])
        await projector.project_or_park(["s"])
        assert [(parked.session_id, parked.version) for parked in await views.parked()] == [("s", 3)]
        assert (await views.read_sessions(["s"]))[0].version == 2
        assert (await views.totals()).messages == 2
        queries = Queries(store, views, projector)
        assert [(at.session_id, at.version) for at in (await queries.sessions()).sessions] == [("s", 2)]

    @pytest.mark.guarantee("W2")
    async def test_a_fold_that_fails_parks_its_session_only(
        self, store: EventStore, views: ViewStore, projector: Projector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An event that a fold cannot take parks its session, with version and traceback; the others go on."""
        from projections import session

        sound = session.fold

        def fragile(state: SessionState, events: Sequence[RecordedEvent]) -> SessionState:
            if said("poison") in [event.data for event in events]:
                raise ZeroDivisionError("the fold broke")
            return sound(state, events)

        monkeypatch.setattr(session, "fold", fragile)
        await store.append("bad", [said("1"), said("2"), said("poison"), said("4")])
        await store.append("good", said("1"))
        consumer = await store.feed.join(GROUP, "c")
        await projector.step(consumer, wait=0)
        (parked,) = await views.parked()
        assert (parked.session_id, parked.version) == ("bad", 3)
        assert "ZeroDivisionError: the fold broke" in parked.reason
        assert "Traceback" in parked.traceback
        assert (await views.read_sessions(["good"]))[0].version == 1
        assert [p.waiting for p in await store.feed.progress(GROUP) if p.waiting] == []
        still = await projector.retry("bad")
        assert still is not None
        assert still.version == 3
        monkeypatch.setattr(session, "fold", sound)
        assert await projector.retry("bad") is None
        assert (await views.read_sessions(["bad"]))[0].version == 4

    async def test_parked_again_is_one_entry(self, views: ViewStore) -> None:
        """A session is parked once, with the latest reason."""
        for reason in ("a", "b"):
            await views.park(Parked("s", 1, reason, "", 0))
        assert [parked.reason for parked in await views.parked()] == ["b"]

    async def test_attempts_are_counted_until_forgotten(self, views: ViewStore) -> None:
        """Attempts add up per session, until the session proves harmless."""
        assert [await views.count_attempt("s") for _ in range(3)] == [1, 2, 3]
        assert await views.count_attempt("t") == 1
        await views.forget_attempts("s")
        assert await views.count_attempt("s") == 1

    @pytest.mark.guarantee("W4")
    async def test_a_worker_that_meets_large_backlogs(self, store: EventStore, views: ViewStore) -> None:
        """What is too much for one exchange comes after it, and is not forgotten."""
        worker = ProjectionWorker(store, views)
        working = asyncio.create_task(worker.run())
        texts = [f"{number}" * (TAIL_BYTES // 3) for number in range(6)]

        async def write(name: str) -> None:
            for _ in range(3):
                await store.append(name, [said(text) for text in texts])

        await asyncio.gather(*(write(f"s{number}") for number in range(3 * LONG_AT_ONCE)))
        await projected(store)
        await worker.stop()
        await working
        await check_views(store, views=views)
