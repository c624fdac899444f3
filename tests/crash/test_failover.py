"""A replica stalls, the primary dies, the replica takes over: what is lost at which level, and who goes on.

The figures are written down with `support.findings`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.findings import record
from support.projected import check_views
from support.replicas import Pair, ask
from support.servers import binaries
from support.waiting import until

from contextengine import ContextEngine
from eventstore import (
    Appended,
    AppendOutcomeUnknown,
    DurabilityNotReached,
    EventStore,
    LogForked,
    MessageAdded,
    StoreUnavailable,
    open_store,
)
from projections import Projector, open_views

SERVERS = binaries()
WAITING = "valkey-9.1"
WRITERS = 8
BEFORE = 400
"""Appends that have returned when the replica stalls."""
DURING = 400
"""Appends that have ended, well or not, when the primary is killed."""
TIMEOUT = 5.0


@pytest.fixture(params=SERVERS)
async def pair(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[Pair]:
    """A primary and a replica of each kind, which write to disk before they answer."""
    async with Pair(SERVERS[request.param], directory, appendfsync="always") as pair:
        yield pair


class Fates:
    """What became of the appends of some writers, each on a session of its own, as they were told."""

    def __init__(self, store: EventStore, level: str) -> None:
        self.acknowledged: list[Appended] = []
        self.not_reached: list[DurabilityNotReached] = []
        self.unknown: list[AppendOutcomeUnknown] = []
        self.nothing = 0
        self._store = store
        self._level = level
        self.stop = False

    @property
    def ended(self) -> int:
        """How many appends have ended."""
        return len(self.acknowledged) + len(self.not_reached) + len(self.unknown) + self.nothing

    async def write(self, writer: int) -> None:
        """Append one event after the other until told to stop."""
        while not self.stop:
            try:
                appended = await self._store.append(f"s{writer}", MessageAdded("user", "x"), durability=self._level)
                self.acknowledged.append(appended)
                assert appended.durability == self._level
            except DurabilityNotReached as error:
                self.not_reached.append(error)
            except AppendOutcomeUnknown as error:
                self.unknown.append(error)
            except StoreUnavailable:
                self.nothing += 1


@pytest.mark.parametrize("level", ["accepted", "fsynced", "replicated"])
@pytest.mark.guarantee("D5")
async def test_what_a_failover_loses(pair: Pair, level: str, request: pytest.FixtureRequest) -> None:
    """A replica that stalls loses what was only on the primary: of what was acknowledged as replicated, nothing."""
    async with open_store(pair.url, timeout=TIMEOUT) as store:
        fates = Fates(store, level)
        writers = [asyncio.create_task(fates.write(number)) for number in range(WRITERS)]
        await until(lambda: fates.ended >= BEFORE)
        if level == "replicated":
            assert not fates.not_reached
        pair.line.stall()
        ended = fates.ended
        # While the replica stalls, appends that are to be replicated end one by one, when their time is up.
        during = 2 * WRITERS if level == "replicated" else DURING
        await until(lambda: fates.ended >= ended + during)
        await pair.fail_over()
        ended = fates.ended
        goes_on = "accepted" if level == "replicated" else level  # the new primary has no replica
        fates._level = goes_on
        await until(lambda: fates.ended >= ended + BEFORE)
        fates.stop = True
        await asyncio.gather(*writers)
        found: Counter[str] = Counter()
        for number in range(WRITERS):
            log = await store.read(f"s{number}")
            assert [event.version for event in log] == list(range(1, len(log) + 1))
            found.update(event.event_id for event in log)
        assert max(found.values()) == 1, "nothing is stored twice"
        lost = [one for one in fates.acknowledged if not all(event_id in found for event_id in one.event_ids)]
        told = sum(error.event_ids[0] not in found for error in fates.not_reached)
        record(
            f"a stalled replica takes over, {level}",
            rounds=1,
            server=request.node.callspec.params["pair"],
            acknowledged=len(fates.acknowledged),
            found=len(fates.acknowledged) - len(lost),
            lost=len(lost),
            not_reached=len(fates.not_reached),
            not_reached_lost=told,
            unknown=len(fates.unknown),
        )
        if level == "replicated":
            assert [one for one in lost if one.durability == "replicated"] == []
            assert len(fates.not_reached) >= 2 * WRITERS - len(fates.unknown)
        else:
            assert len(lost) >= DURING - WRITERS, "else nothing was shown: the replica had it all"
            assert {one.durability for one in lost} == {level}


@pytest.mark.guarantee("D5", "V8")
async def test_everybody_goes_on_with_what_is_left(pair: Pair) -> None:
    """After a failover that lost events all go on with the log that is there; who has seen more of it is told."""
    async with (
        ContextEngine(pair.url, timeout=TIMEOUT) as engine,
        open_store(pair.url, timeout=TIMEOUT) as store,
    ):
        for number in range(20):
            await engine.add_conversation_message("s", "user", f"kept {number}")
        await pair.level()
        pair.line.stall()
        for number in range(10):
            await engine.add_conversation_message("s", "user", f"lost {number}")
        seen: list[int] = []

        async def follow() -> None:
            async for event in store.subscribe("s"):
                seen.append(event.version)  # noqa: PERF401 - it is looked at meanwhile

        following = asyncio.ensure_future(follow())
        await until(lambda: len(seen) == 30)
        # A worker that has read events on the old primary and commits them to the new one.
        views = open_views(store)
        late = Projector(store, views)
        (snapshot,) = await views.read_sessions(["s"])
        await pair.fail_over()
        change, _ = await late._change(snapshot)
        if change is not None:
            assert await views.commit([change]) == [False]
        kept = [message.content for message in await engine.get_conversation_history("s", 100)]
        assert kept == [f"kept {number}" for number in range(20)]
        for number in range(15):
            await engine.add_conversation_message("s", "user", f"new {number}")
        history = [message.content for message in await engine.get_conversation_history("s", 100)]
        assert history == kept + [f"new {number}" for number in range(15)]
        with pytest.raises(LogForked, match="up to version 30"):
            await asyncio.wait_for(following, 30)
        assert seen == list(range(1, 31))
        assert (await engine.list_sessions())[0].message_count == 35
        await check_views(store)


@pytest.mark.skipif(WAITING not in SERVERS, reason="no server here that has WAITAOF")
@pytest.mark.guarantee("D5")
async def test_an_append_that_waits_when_its_primary_dies(directory: Path) -> None:
    """An append that waits for a replica when the primary dies is written to the successor, once, and says how far."""
    async with Pair(SERVERS[WAITING], directory) as pair, open_store(pair.url, timeout=TIMEOUT) as store:
        await store.append("s", MessageAdded("user", "a"), durability="replicated")
        await pair.level()
        pair.line.stall()
        waiting = asyncio.ensure_future(store.append("s", MessageAdded("user", "b"), durability="replicated"))

        async def blocked() -> bool:
            return bool((await ask(pair.primary, "INFO", "clients"))["blocked_clients"])

        await until(blocked)
        await pair.fail_over()
        with pytest.raises(DurabilityNotReached) as caught:
            await waiting
        log = await store.read("s")
        assert [event.event_id for event in log][1:] == caught.value.event_ids
