"""Rebuilding, in memory and on each server alike: beside those who write, read and work, and switched to at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from support.audits import audited
from support.waiting import until

from eventstore import (
    CheckpointStored,
    CheckpointWritesStored,
    ContextSet,
    Event,
    EventStore,
    MessageAdded,
    RecordedEvent,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
    ViewsNotBuilt,
)
from eventstore.redis.store import RedisStore
from projections import (
    GROUP,
    Projector,
    Queries,
    SessionState,
    Totals,
    ViewStore,
    fold,
    open_views,
    rebuilding,
    session,
)
from projections.auditing import audit
from projections.following import Following
from projections.rebuilding import Building, StillServed, drop_old, rebuild
from projections.redis.views import RedisViews
from workers import ProjectionWorker, following

SESSIONS = 40

pytestmark = pytest.mark.usefixtures("all_views_stored")


@pytest.fixture
async def filled(store: EventStore, views: ViewStore) -> EventStore:
    """Return a store in which sessions of every kind have been projected, and the feeds trimmed."""
    for number in range(SESSIONS):
        await store.append(f"s{number}", life(number))
    await Following(store, await views.pinned()).catch_up()
    await store.feed.trim()
    return store


def life(number: int) -> list[Event]:
    """Return what happens in a session."""
    return [
        SessionStarted(f"user-{number % 3}"),
        MessageAdded("user", f"{number}"),
        ContextSet("k", number),
        CheckpointStored("c", {"n": number}),
        CheckpointWritesStored("c", "t", [number]),
        CheckpointWritesStored("not stored yet", "t", [number]),
        *([SessionEnded("completed")] if number % 4 == 0 else []),
    ]


def queries_of(store: EventStore, views: ViewStore) -> Queries:
    """Return the queries over views."""
    return Queries(store, views, Projector(store, views))


def other_views(store: EventStore, views: ViewStore) -> ViewStore:
    """Return the views as another process has them; in memory there is no other."""
    return open_views(store) if isinstance(store, RedisStore) else views


async def rebuilt(store: EventStore, views: ViewStore, **options: Any) -> Building:
    """Rebuild, and return the last that was heard of it."""
    steps = [step async for step in rebuild(store, views, **options)]
    assert [step.sessions for step in steps] == sorted(step.sessions for step in steps)
    return steps[-1]


async def damage(store: EventStore, views: ViewStore, session_id: str) -> None:
    """Let a session's views say what its log does not say."""
    (snapshot,) = await views.read_sessions([session_id])
    forged = SessionUpdated(requests=7, changes={"status": "forged"})
    (last,) = await store.read(session_id, after=snapshot.version - 1)
    made_up = msgspec.structs.replace(last, version=snapshot.version + 1, data=forged)
    change = fold(session_id, snapshot.version, snapshot.state, [made_up])
    unguarded = msgspec.structs.replace(change, recorded_ms=None)  # else it is refused: the log holds no such event
    assert await views.commit([unguarded]) == [True]
    await store.append(session_id, MessageAdded("user", "which the views take for done"))


class TestRebuild:
    @pytest.mark.guarantee("R4")
    async def test_new_views_say_what_the_logs_say(self, filled: EventStore, views: ViewStore) -> None:
        """Views that drift are found, and are right after a rebuild: each view, the lists, the totals."""
        await damage(filled, views, "s3")
        drift = await audited(filled, views)
        assert {each.session_id for each in drift} >= {"s3"}
        assert "state.request_count" in {each.field for each in drift}
        done = await rebuilt(filled, views)
        assert (done.phase, done.sessions, done.unfoldable) == ("switched", SESSIONS, ())
        assert await audited(filled, views) == []
        assert await audited(filled, other_views(filled, views)) == []

    @pytest.mark.guarantee("R4")
    async def test_a_worker_that_comes_back_after_the_switch(self, store: EventStore, views: ViewStore) -> None:
        """What it has projected into the old views is not taken for done in the new ones."""
        built = await views.begin()
        await store.append("s", SessionStarted())
        worker = ProjectionWorker(store, views)
        before = await store.feed.join(await worker.group(), "worker")
        for _ in range(2):
            await worker.work(before, wait=0)
        assert await (await store.feed.join(built.group, "another")).take(count=1, wait=0)
        assert await views.switch(built)
        after = await store.feed.join(await worker.group(), "worker")
        await worker.begin(after)
        await worker.work(after, wait=0)
        assert [partition.waiting for partition in await store.feed.progress(after.group) if partition.waiting] == [1]

    @pytest.mark.guarantee("R4")
    async def test_nobody_has_to_stop(
        self, filled: EventStore, views: ViewStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Lists and totals are right before, during and after the switch, while writers and a worker go on."""
        monkeypatch.setattr(following, "BEAT_EVERY", 0.01)
        monkeypatch.setattr(following, "LONGEST_WAIT", 0.05)
        worker = ProjectionWorker(filled, other_views(filled, views), name="worker")
        working = asyncio.create_task(worker.run())
        written, answers, stopping = SESSIONS, 0, asyncio.Event()

        async def write() -> None:
            nonlocal written
            while not stopping.is_set():
                await filled.append(f"s{written % (SESSIONS + 20)}", MessageAdded("user", f"{written}"))
                written += 1
                await asyncio.sleep(0)  # no-sleep-ok: others have their turn

        async def ask() -> None:
            nonlocal answers
            queries = queries_of(filled, other_views(filled, views))
            while not stopping.is_set():
                least = written
                counted = await queries.totals()
                assert least <= counted.messages <= written + 1
                listed = {session.session_id for session in (await queries.sessions()).sessions}
                assert len(listed) == len({f"s{n}" for n in range(SESSIONS)} | listed)
                answers += 1

        tasks = [asyncio.create_task(write()), asyncio.create_task(ask())]
        for _ in range(2):
            asked = answers
            await until(lambda asked=asked: answers > asked)  # type: ignore[misc]
            assert (await rebuilt(filled, views)).phase == "switched"
        asked = answers
        await until(lambda: answers > asked + 1)
        await until(lambda: worker_is_in(filled, views.group))
        stopping.set()
        await asyncio.gather(*tasks)
        await worker.stop()
        await working
        assert await audited(filled, views) == []

    @pytest.mark.guarantee("R5")
    @pytest.mark.parametrize("steps", range(5))
    async def test_interrupted(self, filled: EventStore, views: ViewStore, steps: int) -> None:
        """A rebuild that was left off changes nothing for anybody, and the next one completes it, or begins anew."""
        building = rebuild(filled, views)
        for _ in range(steps):
            await anext(building)
        await building.aclose()
        assert await audited(filled, views) == []
        await filled.append("s1", MessageAdded("user", "meanwhile"))
        await filled.append("new", SessionStarted())
        assert (await rebuilt(filled, views, anew=steps % 2 == 0)).phase == "switched"
        assert await audited(filled, views) == []
        assert (await queries_of(filled, views).totals()).sessions == SESSIONS + 1

    @pytest.mark.guarantee("R5")
    async def test_several_at_once(self, filled: EventStore, views: ViewStore) -> None:
        """Rebuilds that race have the effect of one."""
        if not isinstance(filled, RedisStore):
            pytest.skip("in memory there is one process")
        done = await asyncio.gather(*(rebuilt(filled, open_views(filled)) for _ in range(3)))
        assert "switched" in {each.phase for each in done}
        assert await audited(filled, views) == []
        assert (await queries_of(filled, views).totals()).events == await events_of(filled)

    @pytest.mark.guarantee("R4")
    async def test_what_cannot_be_folded_stops_the_switch(
        self, filled: EventStore, views: ViewStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If the new views cannot take a session that the old ones could, the old ones go on; unless one accepts it."""
        sound = session.fold

        def fragile(state: SessionState, events: Sequence[RecordedEvent]) -> SessionState:
            if "5" in [event.data.content for event in events if isinstance(event.data, MessageAdded)]:
                raise ZeroDivisionError("the fold broke")
            return sound(state, events)

        group = views.group
        monkeypatch.setattr(session, "fold", fragile)
        done = await rebuilt(filled, views)
        assert (done.phase, [parked.session_id for parked in done.unfoldable]) == ("refused", ["s5"])
        assert (views.group, await views.parked()) == (group, [])
        assert (await rebuilt(filled, views, accept_parked=True)).phase == "switched"
        assert [parked.session_id for parked in await views.parked()] == ["s5"]
        monkeypatch.setattr(session, "fold", sound)
        assert (await rebuilt(filled, views)).phase == "switched"
        assert await views.parked() == []
        assert await audited(filled, views) == []


class TestOldViews:
    @pytest.mark.guarantee("R6")
    async def test_a_process_that_has_not_noticed(self, filled: EventStore, views: ViewStore) -> None:
        """Whoever still holds views of old answers rightly after the switch, after they are dropped, and for ever."""
        stale = other_views(filled, views)
        queries = queries_of(filled, stale)
        before = await queries.totals()
        held = await stale.pinned()
        assert (await rebuilt(filled, views)).phase == "switched"
        assert await drop_old(filled, views) == (SESSIONS if isinstance(filled, RedisStore) else 0)
        await filled.feed.trim()
        await Projector(filled, held).project(["s1", "s2"])  # a late commit to views that have been dropped
        assert await queries.totals() == before
        assert len((await queries.sessions(user_id="user-1")).sessions) == len(range(1, SESSIONS, 3))
        assert len(await queries.history("s7")) == 1
        assert await audited(filled, views) == []

    @pytest.mark.guarantee("R6")
    async def test_dropping_leaves_nothing_else(self, filled: EventStore, views: ViewStore) -> None:
        """What is dropped goes without a trace, its group included; the logs and the live views stay."""
        if not isinstance(filled, RedisStore):
            pytest.skip("it looks at keys")
        prefix = f"{{{filled.namespace}:*}}:*"
        names = {key.split(b":", 2)[2] for key in await filled.links.call("KEYS", prefix)}
        assert (await rebuilt(filled, views)).phase == "switched"
        await (await views.begin()).pinned()
        assert await drop_old(filled, views) == SESSIONS
        left = {key.split(b":", 2)[2] for key in await filled.links.call("KEYS", prefix)}
        assert {name.replace(b"@1.2", b"@1") for name in left} == names
        assert not [name for name in left if b"@1" in name and b"@1.2" not in name and not name.startswith(b"log:")]
        assert await filled.feed.progress(GROUP) == [
            each for each in await filled.feed.progress("nobody's") if each.done == (0, 0)
        ]
        assert await audited(filled, views) == []

    @pytest.mark.guarantee("R6")
    async def test_who_still_works_on_them(
        self, filled: EventStore, views: ViewStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Views of old are not dropped while a worker follows them."""
        monkeypatch.setattr(rebuilding, "MOVED_WITHIN", 0.01)
        stuck = await filled.feed.join(views.group, "stuck")
        await stuck.beat()
        assert (await rebuilt(filled, views)).phase == "switched"
        with pytest.raises(StillServed, match="stuck"):
            await drop_old(filled, views)
        await stuck.leave()
        await drop_old(filled, views)
        stuck.abandon()

    async def test_old_groups_hold_up_no_trimming(
        self, filled: EventStore, views: ViewStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker disbands the groups of views that do not live any more, so that feeds can be trimmed."""
        assert (await rebuilt(filled, views)).phase == "switched"
        worker = ProjectionWorker(filled, views, name="w")
        await filled.append("s1", MessageAdded("user", "x"))
        await Following(filled, await views.pinned()).catch_up()
        await worker.tidy()
        assert any(place > (0, 0) for place in await filled.feed.trimmed())
        ends = [partition.end for partition in await filled.feed.progress(views.group)]
        assert max(ends) == max(await filled.feed.trimmed())


class TestChangedFolds:
    @pytest.mark.guarantee("R7")
    async def test_blue_and_green(self, filled: EventStore, views: ViewStore) -> None:
        """Changed folds get views of their own, while old code goes on with its own; both are right side by side."""
        if not isinstance(filled, RedisStore):
            pytest.skip("views in memory do not outlive their code")
        with pytest.raises(ViewsNotBuilt):
            await RedisViews(filled, folds=2).totals()
        new = RedisViews(filled, folds=2)
        assert (await rebuilt(filled, new)).phase == "switched"
        for number in range(10):
            await filled.append(f"s{number}", MessageAdded("user", "more"))
        for each in (views, new, RedisViews(filled, folds=2), open_views(filled)):
            assert (await queries_of(filled, each).totals()).messages == SESSIONS + 10
            assert await audited(filled, each) == []
        assert views.group != new.group
        assert await drop_old(filled, new) == SESSIONS
        assert await audited(filled, new) == []
        with pytest.raises(ViewsNotBuilt):
            await open_views(filled).totals()

    @pytest.mark.guarantee("R7")
    async def test_a_new_namespace_needs_no_rebuild(self, store: EventStore) -> None:
        """Where nothing was trimmed yet, the first views of any folds begin with the feeds."""
        if not isinstance(store, RedisStore):
            pytest.skip("views in memory do not outlive their code")
        await store.append("s", life(1))
        views = RedisViews(store, folds=3)
        assert (await queries_of(store, views).totals()).sessions == 1
        await store.feed.trim()
        assert await queries_of(store, RedisViews(store, folds=3)).totals() == Totals(1, 1, 1, 1, 1, 6)
        assert await audited(store, views) == []


class TestAudit:
    @pytest.mark.guarantee("R3")
    async def test_it_looks_at_every_part(self, filled: EventStore, views: ViewStore) -> None:
        """A value that was changed behind our back is found, whichever view it stands in, and named."""
        if not isinstance(filled, RedisStore):
            pytest.skip("it writes to keys")
        partition = f"{{{filled.namespace}:{filled.keys.partition(b's1')}}}:"

        def key(what: str) -> str:
            return f"{partition}{what}@1:s1"

        spoil: dict[str, list[tuple[Any, ...]]] = {
            "history[0].content": [("LSET", key("history"), 0, '{"role":"user","content":"x"}')],
            "context['k'][0]": [("HSET", key("context"), "k", "9")],
            "context keys": [("HSET", key("context"), "z", "9")],
            "checkpoints[0].data.n": [("HSET", key("checkpoints"), "c", '{"checkpoint_id":"c","version":4}')],
            "writes['c'][0].writes[0]": [
                ("HSET", key("writes") + "\0c", "t", '{"task_id":"t","version":5,"writes":[9]}')
            ],
            "writes['not stored yet']": [("DEL", key("writes") + "\0not stored yet")],
            "list: sessions": [("ZREM", f"{partition}sessions@1", "s1")],
            "list: sessions of 'user-1'": [("ZREM", f"{partition}sessions@1:user:user-1", "s1")],
        }
        for field, commands in spoil.items():
            dump = await filled.links.call("DUMP", commands[0][1])
            await filled.links.pipeline(commands)
            found = await audited(filled, views)
            assert {each.session_id for each in found if each.session_id} == {"s1"}, field
            assert [each for each in found if each.field.startswith(field.split(".data")[0])], (field, found)
            await filled.links.call("RESTORE", commands[0][1], 0, dump, "REPLACE")
            assert await audited(filled, views) == []

    @pytest.mark.guarantee("R3")
    async def test_it_is_no_drift_to_be_behind(self, filled: EventStore, views: ViewStore) -> None:
        """A view is held against the log at its own version, so what no worker has projected yet is no drift."""
        await filled.append("s1", MessageAdded("user", "news"))
        found = await audit(filled, views, "s1")
        assert (found.version + 1, found.drifts) == (found.head, [])


async def worker_is_in(store: EventStore, group: str) -> bool:
    """Whether the worker has moved over to a group."""
    return "worker" in await store.feed.heartbeats(group)


async def events_of(store: EventStore) -> int:
    """Return how many events all logs hold."""
    return sum([head.version async for head in store.heads()])
