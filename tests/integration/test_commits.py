"""Commits of many sessions in one call, where the server takes some of them or none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.audits import audited
from support.projected import projected
from support.proofs import SIGNER
from support.servers import Server, binaries
from support.waiting import until

from eventstore import ContextSet, CorruptLog, MessageAdded, SessionStarted, StoreRefused, open_store
from eventstore.errors import OutOfMemory
from eventstore.redis.store import RedisStore
from projections import Projector, Queries, SessionState, Totals, fold
from projections.auditing import audit
from projections.changes import ViewsChange
from projections.forgetting.forgetter import Forgetter
from projections.redis.names import Names
from projections.redis.views import RedisViews
from projections.redis.writes import index_key
from projections.views import GENERATION
from workers import ProjectionWorker

SERVERS = binaries()
SESSIONS = [f"s{number}" for number in range(80)]
"""More than one call takes."""


class Served:
    """A store on a server of its own, with a message and a context value in each session."""

    def __init__(self, server: Server, store: RedisStore) -> None:
        self.server = server
        self.store = store
        self.views = RedisViews(store)

    async def fill(self) -> None:
        """Append."""
        for session_id in SESSIONS:
            await self.store.append(session_id, [MessageAdded("user", session_id), ContextSet("k", 1)])

    async def changes(self) -> list[ViewsChange]:
        """Return what the sessions' events do to their views."""
        snapshots = await self.views.read_sessions(SESSIONS)
        return [fold(each.session_id, 0, SessionState(), each.tail) for each in snapshots]

    async def written(self) -> list[str]:
        """Return the sessions whose views have been written."""
        return [each.session_id for each in await self.views.read_sessions(SESSIONS) if each.version == 2]


@pytest.fixture(params=SERVERS)
async def served(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[Served]:
    """Each kind of server in turn."""
    with Server(SERVERS[request.param], directory) as server:
        async with open_store(server.url, partitions=1) as store:
            assert isinstance(store, RedisStore)
            served = Served(server, store)
            await served.fill()
            yield served


@pytest.mark.guarantee("V2")
@pytest.mark.parametrize("part", ["history", "context"])
async def test_one_that_cannot_be_written_keeps_no_other_from_it(served: Served, part: str) -> None:
    """Where somebody has overwritten a view, the error says so; others are written, and that session's made anew."""
    overwritten = served.store.keys.of_session(getattr(Names(GENERATION, 1), part), b"s5")
    served.server.ask("SET", overwritten.decode(), "harm")
    with pytest.raises(StoreRefused, match=r"WRONGTYPE.* The views of 's5' are not up to date; its log is as it was"):
        await served.views.commit(await served.changes())
    assert await served.written() == [session_id for session_id in SESSIONS if session_id != "s5"]
    projector = Projector(served.store, served.views)
    assert await projector.project(SESSIONS) == []
    queries = Queries(served.store, served.views, projector)
    assert [message["content"] for message in await queries.history("s5")] == ["s5"]
    assert await queries.context("s5", "k") == (1, 2)
    assert await served.written() == SESSIONS
    assert await served.views.totals() == Totals(80, 80, 80, 80, events=160)
    assert await audited(served.store, served.views) == []


@pytest.mark.guarantee("V2")
async def test_a_list_that_cannot_be_written(served: Served) -> None:
    """Where somebody has overwritten a list, the error says so; the sessions stand in all others."""
    for number in range(20):
        await served.store.append(f"of a user {number}", SessionStarted("bad" if number == 5 else "ok"))
    names, keys = Names(GENERATION, 1), served.store.keys
    served.server.ask("SET", index_key(keys, names, 0, user_id="bad").decode(), "harm")
    snapshots = await served.views.read_sessions([f"of a user {number}" for number in range(20)])
    changes = [fold(each.session_id, 0, SessionState(), each.tail) for each in snapshots]
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await served.views.commit(changes)
    for which, count in (({}, 20), ({"status": "active"}, 20), ({"user_id": "ok"}, 19)):
        asked = {"status": None, "user_id": None} | which
        assert len(await served.views.listed(**asked, after=None, limit=100)) == count
    assert (await served.views.totals()).sessions == 20


@pytest.mark.guarantee("V2")
async def test_a_server_that_wants_replicas_first(served: Served) -> None:
    """A commit waits for a server that takes no writes now, and is written when it does."""
    changes = await served.changes()
    served.server.ask("CONFIG", "SET", "min-replicas-to-write", 1)
    commit = asyncio.create_task(served.views.commit(changes))
    before = _calls(served.server)
    await until(lambda: _calls(served.server) > before + 2 * 3)  # each of its three calls has been refused
    assert not commit.done()
    served.server.ask("CONFIG", "SET", "min-replicas-to-write", 0)
    assert await commit == [True] * len(SESSIONS)
    assert await served.written() == SESSIONS
    assert await served.views.totals() == Totals(80, 80, 80, 80, events=160)


async def test_a_server_without_memory(served: Served) -> None:
    """Where there is no memory, nothing is written, and the error says that."""
    changes = await served.changes()
    served.server.ask("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(OutOfMemory):
        await served.views.commit(changes)
    served.server.ask("CONFIG", "SET", "maxmemory", 0)
    assert await served.written() == []
    assert await served.views.totals() == Totals()
    assert await served.views.commit(changes) == [True] * len(SESSIONS)


NO_VIEWS = [
    "",
    "harm",
    '{"created_ms":1}',
    '2 PLACE  {"created_ms":1,"act',
    "2 PLACE ",
    ' PLACE  {"created_ms":1}',
    '2 x  {"created_ms":1}',
    "02 PLACE  {}",
    "2 -  {}",
    "99999999999999999999   {}",
    "2 PLACE \udcff\udcfe {}",
]
NEARLY = ['2 PLACE short/x {"created_ms":1}', '2 PLACE  {"created_ms":"x"}', '2 2-1  {"created_ms":"x"}']
"""What still holds the words that it takes to forget a session, or to fold its history from the log."""


@pytest.mark.guarantee("V2")
@pytest.mark.parametrize("harm", [*NO_VIEWS, *NEARLY], ids=map(str, range(14)))
async def test_a_session_view_that_cannot_be_read(served: Served, harm: str) -> None:
    """Where somebody has overwritten a session view, whoever asks gets an error, and workers go on with the others."""
    projector = Projector(served.store, served.views)
    changes = await served.changes()
    await projector.project_or_park(SESSIONS)
    place = str(served.server.ask("HGET", served.store.keys.heads(0).decode(), "s5"))
    view = served.store.keys.of_session(Names(GENERATION, 1).session, b"s5").decode()
    served.server.ask("SET", view, harm.replace("PLACE", place).encode(errors="surrogateescape"))
    queries = Queries(served.store, served.views, projector)
    for ask in (queries.session, queries.history, queries.context_keys) if harm in NO_VIEWS else (queries.session,):
        with pytest.raises(CorruptLog, match="the session view cannot be read"):
            await ask("s5")
    assert [drift.field for drift in (await audit(served.store, served.views, "s5")).drifts] == ["log"]
    for session_id in SESSIONS:
        await served.store.append(session_id, MessageAdded("user", "more"))
    await projector.project_or_park(SESSIONS)
    found = await served.views.read_sessions(SESSIONS)
    assert [each.session_id for each in found if each.value] == ["s5"]
    assert [each.session_id for each in found if each.version != 3] == ["s5"]
    assert await served.views.commit(changes) == [False] * len(SESSIONS)
    if harm in NO_VIEWS:
        with pytest.raises(CorruptLog, match="a view of it cannot be read"):
            await Forgetter(served.store, SIGNER).forget("s5")


@pytest.mark.guarantee("V2")
async def test_a_session_view_of_another_type(served: Served) -> None:
    """Where a session view is no string, that session alone is parked, and made anew once the key is gone."""
    changes = await served.changes()
    view = served.store.keys.of_session(Names(GENERATION, 1).session, b"s5").decode()
    served.server.ask("HSET", view, "a", "b")
    written = await served.views.commit(changes)
    assert [change.session_id for change, done in zip(changes, written, strict=True) if not done] == ["s5"]
    worker = ProjectionWorker(served.store, served.views)
    working = asyncio.create_task(worker.run())
    for session_id in SESSIONS:
        await served.store.append(session_id, MessageAdded("user", "more"))
    await projected(served.store)
    await worker.stop()
    await working
    assert [parked.session_id for parked in await served.views.parked()] == ["s5"]
    served.server.ask("DEL", view)
    assert await Projector(served.store, served.views).retry("s5") is None
    assert await audited(served.store, served.views) == []


@pytest.mark.guarantee("V2")
async def test_what_needs_stored_views_is_not_added_to_a_short_session(served: Served) -> None:
    """A change that was folded where all views are stored is refused where they are not: it would be half a history."""
    projector = Projector(served.store, served.views)
    assert await projector.project(["s5"]) == []
    await served.store.append("s5", MessageAdded("user", "more"))
    (snapshot,) = await served.views.read_sessions(["s5"])
    assert await served.views.commit([fold("s5", 2, snapshot.state, snapshot.tail)]) == [False]
    assert await projector.project(["s5"]) == []
    assert await audited(served.store, served.views) == []


def _calls(server: Server) -> int:
    """Return how often a script was called, or would have been."""
    stats = server.ask("INFO", "commandstats").get("cmdstat_evalsha", {})
    return int(stats.get("calls", 0)) + int(stats.get("rejected_calls", 0))
