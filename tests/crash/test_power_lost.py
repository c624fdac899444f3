"""The power fails, and what the server had not synced is gone; or its log ends in mid-record."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from pathlib import Path

import anyio
import pytest
from redis import Redis
from support.audits import audited
from support.crowd import Crowd
from support.findings import record
from support.judgement import Judgement
from support.ledger import Ledger
from support.power import MainsServer, can_be_cut
from support.projected import check_views
from support.rounds import rounds
from support.servers import Server, binaries
from support.waiting import until

from eventstore import EventStore, MessageAdded, open_store
from projections import Projector, Queries, open_views

SERVERS = binaries()
WRITERS = 4
LAST = 20_000
"""Bytes at the end of a log in one of which it is cut."""


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of server in turn."""
    return str(request.param)


def whole(judgement: Judgement) -> bool:
    """Return whether what is there is as it should be, even if something is missing."""
    return not any((judgement.doubled, judgement.out_of_order, judgement.torn, judgement.untold))


@pytest.mark.skipif(not can_be_cut, reason="what a program syncs can be watched on Linux only, on x86-64 and arm64")
class TestPowerLost:
    @pytest.mark.guarantee("L1", "L2", "L3", "L6")
    async def test_always(self, kind: str, directory: Path) -> None:
        """With ``appendfsync always`` nothing that was acknowledged is missing after the power came back."""
        with MainsServer(SERVERS[kind], directory, appendfsync="always") as server:
            figures, _ = await self.cuts(server, rounds(20), writers=32)
        record("power loss, appendfsync always", server=kind, rounds=rounds(20), **figures)
        assert figures["lost"] == 0

    @pytest.mark.guarantee("L2", "L3")
    async def test_everysec(self, kind: str, directory: Path) -> None:
        """With ``appendfsync everysec`` the newest events are missing, wholly, and everything else is as it was."""
        with MainsServer(SERVERS[kind], directory, appendfsync="everysec") as server:
            figures, losses = await self.cuts(server, rounds(20), writers=2)
        most = {"most_lost_at_once": max(events for events, _ in losses), "most_lost_ms": max(ms for _, ms in losses)}
        record("power loss, appendfsync everysec", server=kind, rounds=rounds(20), **figures, **most)

    @staticmethod
    async def cuts(server: MainsServer, times: int, *, writers: int) -> tuple[Counter[str], list[tuple[int, int]]]:
        """Cut the power under writers. Return what became of the events, and how many were lost of which time in ms."""
        chance = random.Random()
        figures: Counter[str] = Counter()
        losses = []
        between_syncs = 0
        for number in range(times):
            ledger = Ledger()
            async with open_store(server.url, namespace=f"round-{number}", timeout=20) as store:
                async with Crowd(ledger, [store], writers=writers) as crowd:
                    await crowd.each_is_heard()
                    await synced(server)
                    if not between_syncs:
                        before = len(ledger.acknowledged)
                        await synced(server)
                        between_syncs = len(ledger.acknowledged) - before
                    await ledger.acknowledges(writers + chance.randint(0, between_syncs))
                    crowd.finish()
                    cut_at = time.monotonic()
                    await asyncio.to_thread(server.lose_power)
                    await asyncio.to_thread(server.start)
                judgement = await ledger.judge(store)
                assert whole(judgement), judgement.faults[:5]
                figures.update(judgement.figures)
                lost = [
                    at
                    for at, appended in zip(ledger.acknowledged_at, ledger.acknowledged, strict=True)
                    if not judgement.missing.isdisjoint(appended.event_ids)
                ]
                losses.append((judgement.lost, round(1000 * (cut_at - min(lost, default=cut_at)))))
                await goes_on(store)
        return figures, losses

    async def test_the_cut_bites(self, kind: str, directory: Path) -> None:
        """What a server never synced is gone, although a mere kill would have left it."""
        with (
            MainsServer(SERVERS[kind], directory, appendfsync="no") as server,
            Redis.from_url(server.url) as client,
        ):
            client.set("key", "value")
            server.kill()
            server.start()
            assert client.get("key") == b"value"
            assert server.lose_power()
            server.start()
            assert client.get("key") is None


class TestCutInMidRecord:
    @pytest.mark.guarantee("L2", "L3", "V2")
    async def test_what_is_left_is_whole(self, kind: str, directory: Path) -> None:
        """The newest appends are missing, wholly; views equal the folds of what is left, and everything goes on."""
        chance = random.Random()
        figures: Counter[str] = Counter()
        with Server(SERVERS[kind], directory, appendfsync="everysec", aof_load_truncated="yes") as server:
            for number in range(rounds(20)):
                ledger = Ledger()
                async with open_store(server.url, namespace=f"round-{number}", timeout=20) as store:
                    projector = Projector(store, open_views(store))
                    async with Crowd(ledger, [store], writers=WRITERS) as crowd:
                        for _ in range(3):
                            await ledger.acknowledges(50)
                            await projector.project(["common", *crowd.names[: WRITERS // 2]])
                    server.kill()
                    cut_in_mid_record(server.log, chance)
                    server.start()
                    judgement = await ledger.judge(store)
                    assert whole(judgement), judgement.faults[:5]
                    assert judgement.lost
                    figures.update(judgement.figures)
                    await goes_on(store)
        record("the log is cut in mid-record", server=kind, rounds=rounds(20), **figures)


def cut_in_mid_record(log: Path, chance: random.Random) -> None:
    """Cut a server's log in the middle of a message's text, somewhere near its end."""
    text = log.read_bytes()
    places = []
    at = len(text)
    while (at := text.rfind(b"writer-", len(text) - LAST, at)) >= 0:
        places.append(at)
    os.truncate(log, chance.choice(places))


async def synced(server: MainsServer) -> None:
    """Wait until a server syncs once more."""
    syncs = server.syncs
    await until(lambda: server.syncs > syncs)


async def goes_on(store: EventStore) -> None:
    """Check that all views are the folds of what is there, and that appends and views go on from there."""
    views = open_views(store)
    queries = Queries(store, views, Projector(store, views))
    with anyio.fail_after(30):
        assert await audited(store, views) == []
        for session_id in [pointer.session_id async for pointer in store.heads()]:
            version = await store.version(session_id)
            appended = await store.append(session_id, MessageAdded("user", "goes on"), expected_version=version)
            assert appended.version == version + 1
            assert len(await queries.history(session_id)) == version + 1
        assert (await queries.totals()).events == sum([pointer.version async for pointer in store.heads()])
        await check_views(store)
