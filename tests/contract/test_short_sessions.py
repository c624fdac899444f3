"""Short sessions, of which Redis stores but the session view: they answer as all others do, and grow into such."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from support.audits import audited
from support.conversation import compaction

from eventstore import (
    CheckpointStored,
    CheckpointWritesStored,
    ContextSet,
    Event,
    EventStore,
    HistoryCleared,
    MessageAdded,
    SessionEnded,
    SessionStarted,
    open_store,
)
from eventstore.archive.places import MemoryArchive
from eventstore.redis.store import RedisStore
from projections import MISSING, Projector, Queries, ViewStore, open_views
from projections.archiving import Archivist, Outcome
from projections.changes import SHORT_BYTES, SHORT_EVENTS
from projections.past import past
from projections.rebuilding import rebuild

ORDERS = [
    [SessionStarted("ann"), MessageAdded("user", "a"), ContextSet("k", [1]), CheckpointStored("c", {"n": 1}), *more]
    for more in itertools.permutations(
        [
            MessageAdded("assistant", "b"),
            HistoryCleared(),
            compaction(replaced=1),
            CheckpointWritesStored("c", "t", [1]),
        ],
        3,
    )
]
"""Lives of a session that become longer than short, in various orders."""


@pytest.fixture
async def store(url: str, namespace: str) -> AsyncIterator[EventStore]:
    """An empty store of each kind in turn, with an archive."""
    async with open_store(url, namespace=namespace, archive=MemoryArchive()) as store:
        yield store


async def check(store: EventStore, views: ViewStore, session_id: str = "s") -> None:
    """Hold every answer about a session against its log."""
    queries = Queries(store, views, Projector(store, views))
    was = await past(store, session_id)
    session = await queries.session(session_id)
    assert session is not None
    assert (session.version, session.state) == (was.version, was.state)
    assert await queries.history(session_id) == was.history.newest(None)
    assert await queries.history(session_id, 1) == was.history.newest(1)
    assert await queries.context_keys(session_id) == sorted(was.context)
    assert (await queries.context(session_id, "k"))[0] == was.context.get("k", MISSING)
    assert await queries.checkpoints(session_id) == list(reversed(was.checkpoints.values()))
    assert await queries.writes(session_id, "c") == [w for each in was.writes.values() for w in each["writes"]]


async def refuse(_session_id: str, _version: int) -> bool:
    """Let no views go."""
    return False


async def kept_of(store: RedisStore, session_id: str) -> list[str]:
    """Return what the server keeps under keys of a session."""
    keys = await store.links.call("KEYS", store.keys.of_session(b"*", session_id.encode()))
    return sorted(key.split(b":")[2].decode() for key in keys)


@pytest.mark.guarantee("V1")
@pytest.mark.parametrize("events", ORDERS)
@pytest.mark.parametrize("step", [1, 3])
async def test_answers_are_right_at_every_length(
    store: EventStore, views: ViewStore, projector: Projector, events: list[Event], step: int
) -> None:
    """Whether it is short or no longer, and however far the workers have come."""
    for at in range(0, len(events), step):
        await store.append("s", events[at : at + step])
        await check(store, views)
        assert await projector.project(["s"]) == []
        await check(store, views)
    assert await audited(store, views) == []


async def test_what_is_stored(store: EventStore, projector: Projector) -> None:
    """Of a short session the server keeps its log and the session view, of a longer one all views."""
    if not isinstance(store, RedisStore):
        pytest.skip("in memory all views are kept")
    for number in range(SHORT_EVENTS + 1):
        await store.append("s", MessageAdded("user", f"{number}"))
        await projector.project(["s"])
        grown = number >= SHORT_EVENTS
        assert await kept_of(store, "s") == ["history@1"] * grown + ["log", "session@1"]
    await store.append("large", MessageAdded("user", "x" * SHORT_BYTES))
    await projector.project(["large"])
    assert await kept_of(store, "large") == ["history@1", "log", "session@1"]
    await store.append("full", [MessageAdded("user", "x" * (SHORT_BYTES // 2))])
    await projector.project(["full"])
    assert await kept_of(store, "full") == ["log", "session@1"]
    await store.append("full", [MessageAdded("user", "x" * (SHORT_BYTES // 2))])
    await projector.project(["full"])
    assert await kept_of(store, "full") == ["history@1", "log", "session@1"]


async def test_several_who_see_it_grow(store: EventStore, views: ViewStore, projector: Projector) -> None:
    """The views of a session that becomes longer are written once, however many projectors and writers race."""
    names = [f"s{number}" for number in range(30)]
    for name in names:
        await store.append(name, [MessageAdded("user", f"{n}") for n in range(SHORT_EVENTS - 1)])
    await projector.project(names)

    async def write(name: str) -> None:
        for number in range(3):
            await store.append(name, [MessageAdded("user", f"more {number}"), ContextSet("k", number)])

    others = [Projector(store, open_views(store)) for _ in range(3)] if isinstance(store, RedisStore) else [projector]
    await asyncio.gather(*map(write, names), *(other.project(names) for other in others for _ in range(4)))
    assert await audited(store, views) == []
    await check(store, views, "s7")


async def test_what_cannot_be_folded(store: EventStore, views: ViewStore, projector: Projector) -> None:
    """A session that is parked while it is short stands in lists as it was before, and goes on when it is mended."""
    await store.append("s", [MessageAdded("user", "a"), HistoryCleared()])
    await projector.project(["s"])
    (before,) = await views.read_sessions(["s"])
    await projector.park("s", 3, "the reason")
    await store.append("s", [MessageAdded("user", f"{n}") for n in range(SHORT_EVENTS)])
    await projector.project_or_park(["s"])
    (parked,) = await views.read_sessions(["s"])
    assert (parked.value, parked.version, parked.state) == (True, 2, before.state)
    await check(store, views)
    assert await projector.retry("s") is None
    assert await audited(store, views) == []


@pytest.mark.guarantee("K1")
@pytest.mark.parametrize("more", [0, 1, SHORT_EVENTS])
async def test_archived(store: EventStore, views: ViewStore, more: int) -> None:
    """A short session that is archived answers as before, goes on, and comes back."""
    archivist = Archivist(store, views)
    await store.append("s", [MessageAdded("user", "a"), ContextSet("k", 1), SessionEnded("completed")])
    assert (await archivist.archive("s", timedelta(0))).outcome is Outcome.ARCHIVED
    await check(store, views)
    if more:
        await store.append("s", [MessageAdded("user", f"{n}") for n in range(more)])
    await check(store, views)
    await Projector(store, views).project(["s"])
    await check(store, views)
    await archivist.restore("s")
    await check(store, views)
    assert await audited(store, views) == []


@pytest.mark.guarantee("K1")
async def test_archived_where_a_worker_has_no_archive(
    store: EventStore, views: ViewStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short session that goes on while its beginning is out of the worker's reach is not parked for it."""
    if not isinstance(store, RedisStore):
        pytest.skip("in memory there is one process")
    await store.append("s", [MessageAdded("user", "a"), ContextSet("k", 1), SessionEnded("completed")])
    await Projector(store, views).project(["s"])
    with monkeypatch.context() as killed:  # before it let the views go
        killed.setattr(views, "let_go", refuse)
        assert (await Archivist(store, views).archive("s", timedelta(0))).outcome is Outcome.ARCHIVED
    await store.append("s", [MessageAdded("user", f"{n}") for n in range(SHORT_EVENTS)])
    async with open_store(url, namespace=store.namespace) as without:
        await Projector(without, open_views(without)).project_or_park(["s"])
    assert await views.parked() == []
    await check(store, views)
    assert await Projector(store, views).project(["s"]) == []
    await store.append("s", MessageAdded("user", "b"))
    assert await Projector(store, views).project(["s"]) == []
    await check(store, views)
    assert await audited(store, views) == []


@pytest.mark.guarantee("K1")
async def test_rebuilt_from_an_archive(store: EventStore, views: ViewStore, url: str) -> None:
    """A session whose log lies in an archive is not short, so it is read and goes on where there is no archive."""
    if not isinstance(store, RedisStore):
        pytest.skip("in memory there is one process")
    await store.append("s", [MessageAdded("user", "a"), ContextSet("k", 1), SessionEnded("completed")])
    assert (await Archivist(store, views).archive("s", timedelta(0))).outcome is Outcome.ARCHIVED
    steps = [step async for step in rebuild(store, views)]
    assert steps[-1].phase == "switched"
    await store.append("s", [MessageAdded("user", f"{n}") for n in range(SHORT_EVENTS)])
    async with open_store(url, namespace=store.namespace) as without:
        projector = Projector(without, open_views(without))
        await projector.project_or_park(["s"])
        assert await projector.views.parked() == []
        said = await Queries(without, projector.views, projector).history("s")
    assert [message["content"] for message in said] == ["a", *(f"{n}" for n in range(SHORT_EVENTS))]
    assert await audited(store, views) == []


@pytest.mark.guarantee("R4")
async def test_rebuilt(store: EventStore, views: ViewStore, projector: Projector) -> None:
    """New views of short sessions and of long ones say what the old ones said."""
    for number in range(2 * SHORT_EVENTS):
        await store.append(f"s{number}", [MessageAdded("user", f"{n}") for n in range(number + 1)])
    await projector.project([f"s{number}" for number in range(2 * SHORT_EVENTS)])
    steps = [step async for step in rebuild(store, views)]
    assert steps[-1].phase == "switched"
    assert await audited(store, views) == []
    await check(store, views, "s2")
    await check(store, views, "s8")
