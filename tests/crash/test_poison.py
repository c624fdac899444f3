"""Poison: an event that cannot be folded, or that kills its worker, parks its session, and the rest goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.findings import record
from support.processes import Processes
from support.projected import check_views, projected, waiting
from support.sabotaged_worker import DEATH, DIE
from support.servers import Server
from support.waiting import until

from eventstore import (
    ContextSet,
    CorruptLog,
    Event,
    FoldFailed,
    MessageAdded,
    SessionUpdated,
    open_store,
)
from eventstore.codec import encode
from eventstore.ids import new_event_id
from eventstore.redis.store import RedisStore
from projections import Projector, Queries, open_views
from projections.views import Parked


@pytest.fixture
async def store(server: Server) -> AsyncIterator[RedisStore]:
    """A store on the test's own server."""
    async with open_store(server.url, timeout=20) as store:
        assert isinstance(store, RedisStore)
        yield store


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


def entry(event: Event) -> bytes:
    """Return an event as it stands in the log."""
    return encode(new_event_id(), event, None)


POISON = {
    "unfoldable": (1, entry(SessionUpdated(changes={"metadata": "no dict"}))),
    "gap": (2, entry(said("there is a version missing before this"))),
    "damaged": (1, b"no JSON"),
    "no UTF-8": (1, entry(said("\N{SNOWMAN}")).replace(b"\xe2", b"\xff")),
    "bottomless": (1, b"[" * 60_000 + b"]" * 60_000),
    "no event": (1, b'["id",{"no":"type"},{}]'),
    "counter": (1, entry(SessionUpdated(changes={"request_count": "many"}))),
    "status": (1, entry(SessionUpdated(changes={"status": 5}))),
}
"""By kind: how many versions after the last one an entry stands that cannot be folded, and the entry."""


class TestPoison:
    @pytest.mark.parametrize("kind", POISON)
    @pytest.mark.guarantee("W2")
    async def test_a_session_that_cannot_be_folded_is_parked_and_the_rest_goes_on(
        self, server: Server, store: RedisStore, processes: Processes, kind: str
    ) -> None:
        """A poisoned session is parked, over restarts too, until it is repaired and retried; others are not touched."""
        views = open_views(store)
        projector = Projector(store, views)
        queries = Queries(store, views, projector)
        worker = await processes.worker(server.url, "a", claim_after=0.2)
        await worker.says("worker_started")
        await store.append("poisoned", [said("a"), said("b")])
        await projected(store)
        await poison(store, kind)

        async def noticed() -> bool:
            return bool(await views.parked()) or not worker.runs

        async def done() -> bool:
            return await noticed() or await waiting(store) == 0

        await until(done)
        await store.append("poisoned", ContextSet("key", "after the poison"))
        await store.append("healthy", said("a"))
        await until(noticed)
        assert worker.runs, "the worker died of it"
        (parked,) = await views.parked()
        assert (parked.session_id, parked.version) == ("poisoned", 3)
        assert parked.reason
        assert parked.traceback
        await projected(store)
        await check_views(store, only=["healthy"])

        worker.terminate()
        assert await worker.ended() == 0
        worker = await processes.worker(server.url, "b", claim_after=0.2)
        await store.append("poisoned", said("while it is parked"))
        await store.append("healthy", said("b"))
        await projected(store)
        assert worker.runs
        assert await views.parked() == [parked]
        await check_views(store, only=["healthy"])
        assert (await queries.totals()).sessions == 2
        for read in (queries.session("poisoned"), queries.history("poisoned"), queries.context("poisoned", "key")):
            with pytest.raises((CorruptLog, FoldFailed)):
                await read

        still = await projector.retry("poisoned")
        assert isinstance(still, Parked)
        assert (still.version, still.reason) == (parked.version, parked.reason)
        await repair(store)
        assert await projector.retry("poisoned") is None
        assert await views.parked() == []
        await check_views(store)
        await store.append("poisoned", said("as if nothing had been"))
        await projected(store)
        await check_views(store)
        record("a poison event, and a restart", rounds=1, parked=1)

    async def test_lists_go_on_beside_a_parked_session(self, server: Server, store: RedisStore) -> None:
        """A list of all sessions does not fail because one of them is parked."""
        views = open_views(store)
        projector = Projector(store, views)
        await store.append("poisoned", [said("a"), said("b")])
        await store.append("healthy", said("a"))
        await projector.project_or_park(["poisoned", "healthy"])
        await poison(store, "unfoldable")
        await projector.project_or_park(["poisoned"])
        assert [parked.session_id for parked in await views.parked()] == ["poisoned"]
        page = await Queries(store, views, projector).sessions()
        assert "healthy" in {session.session_id for session in page.sessions}

    @pytest.mark.guarantee("W2")
    async def test_a_session_that_kills_its_workers_is_parked(
        self, server: Server, store: RedisStore, processes: Processes
    ) -> None:
        """A session that kills whoever folds it is parked after a few deaths, and the others are projected."""
        views = open_views(store)
        innocents = [f"before-{number}" for number in range(20)] + [f"after-{number}" for number in range(20)]
        for session_id in [*innocents[:20], "killer", *innocents[20:]]:
            await store.append(session_id, said(DIE if session_id == "killer" else "a"))
        deaths = 0

        async def parked_or_dead() -> bool:
            return bool(await views.parked()) or not worker.runs

        while not await views.parked():
            worker = await processes.sabotaged_worker(server.url, f"worker-{deaths % 2}", claim_after=0.2)
            await until(parked_or_dead)
            if not worker.runs:
                assert await worker.ended() == DEATH
                deaths += 1
                assert deaths <= 6, "it is never parked"
        assert deaths >= 2, "once is no pattern: the worker may have died of something else"
        (parked,) = await views.parked()
        assert parked.session_id == "killer"
        assert "died" in parked.reason
        await store.append("killer", said("still"))
        await store.append("after-0", said("b"))
        await projected(store)
        assert worker.runs
        assert [parked.session_id for parked in await views.parked()] == ["killer"]
        await check_views(store, only=innocents)


async def poison(store: RedisStore, kind: str) -> None:
    """Add an entry that cannot be folded to the session ``poisoned``, behind the store's back, as the append would."""
    distance, value = POISON[kind]
    partition = store.keys.partition(b"poisoned")
    last = (await store.read("poisoned"))[-1]
    version = last.version + distance
    place = f"{version}-{last.recorded_ms}"
    await store.links.call("XADD", store.keys.log(partition, b"poisoned"), place, "e", value)
    await store.links.call("HSET", store.keys.heads(partition), "poisoned", place)
    await store.links.call("XADD", store.keys.feed(partition), "*", "poisoned", f"{version}/1")


async def repair(store: RedisStore) -> None:
    """Write the log of the session ``poisoned`` anew, with a message in the place of what was damaged or missing."""
    log = store.keys.log(store.keys.partition(b"poisoned"), b"poisoned")
    entries = {
        int(place.split(b"-")[0]): (place, value)
        for place, (_, value) in await store.links.call("XRANGE", log, "-", "+")
    }
    entries[3] = (entries[2][0].replace(b"2-", b"3-", 1), entry(said("repaired")))
    added = [("XADD", log, place, "e", value) for _, (place, value) in sorted(entries.items())]
    await store.links.pipeline([("MULTI",), ("DEL", log), *added, ("EXEC",)])
