"""The server is there and does not serve: its clients are paused, or it knows the engine's password no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from redis import Redis
from support.crowd import Crowd
from support.findings import record
from support.ledger import Ledger
from support.projected import check_views, projected
from support.rounds import rounds
from support.servers import Server, binaries

from eventstore import StoreRefused, StoreUnavailable, open_store
from projections import Projector, Queries, open_views
from workers import ProjectionWorker

SERVERS = binaries()
WRITERS = 16
SHORT = 0.4
PAUSED_MS = 1200
"""Longer than a short timeout for the reply, and another for the tries after it."""

GIVEN = ("reset", "on", ">secret", "~*", "&*", "+@all")
TAKEN: dict[str, list[tuple[str, ...]]] = {
    "disabled": [("ACL", "SETUSER", "app", "off"), ("CLIENT", "KILL", "USER", "app")],
    "another password": [("ACL", "SETUSER", "app", "resetpass", ">other"), ("CLIENT", "KILL", "USER", "app")],
    "deleted": [("ACL", "DELUSER", "app")],
    "no permissions": [("ACL", "SETUSER", "app", "-@all")],
}
"""How somebody loses access, and what is to be said to the server."""


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of server in turn."""
    return str(request.param)


@pytest.fixture
def server(kind: str, directory: Path) -> Iterator[Server]:
    """A server of each kind in turn."""
    with Server(SERVERS[kind], directory) as server:
        yield server


class TestPaused:
    @pytest.mark.parametrize("paused", ["ALL", "WRITE"])
    @pytest.mark.guarantee("L1", "L2", "L8")
    async def test_for_longer_than_the_timeout(self, kind: str, server: Server, paused: str) -> None:
        """Callers are told in time that it is not known; `outcome` tells what became of it, and nothing is doubled."""
        ledger = Ledger()
        times = rounds(20)
        async with AsyncExitStack() as stack:
            stores = [
                await stack.enter_async_context(open_store(server.url, timeout=timeout))
                for timeout in (SHORT, SHORT, SHORT, 20)
            ]
            with anyio.fail_after(30 + 5 * times), Redis.from_url(server.url) as client:
                async with Crowd(ledger, stores, writers=WRITERS) as crowd:
                    for _ in range(times):
                        await crowd.each_is_heard()
                        client.execute_command("CLIENT", "PAUSE", PAUSED_MS, paused)
                        await ledger.fails(WRITERS // 2)
                        await crowd.each_is_heard()
                await ledger.ask()
            judgement = await ledger.check(stores[-1])
        assert ledger.unknown
        record(f"CLIENT PAUSE {paused} for longer than the timeout", server=kind, rounds=times, **judgement.figures)


class TestAuthenticationTakenAway:
    @pytest.mark.parametrize("taken", TAKEN)
    @pytest.mark.guarantee("L1", "L2", "L8", "S1", "W1")
    async def test_and_given_back(self, kind: str, server: Server, taken: str) -> None:
        """Meanwhile calls raise, and say why, and nothing is written; afterwards stores and workers go on."""
        ledger = Ledger()
        times = rounds(5)
        url = f"unix://app@{server.path}?password=secret"
        with anyio.fail_after(60 + 5 * times), Redis.from_url(server.url) as admin:
            admin.execute_command("ACL", "SETUSER", "app", *GIVEN)
            async with (
                open_store(url, timeout=20) as patient,
                open_store(url, timeout=SHORT) as store,
                open_store(server.url) as direct,
            ):
                queries = Queries(store, views := open_views(store), Projector(store, views))
                worker = ProjectionWorker(patient, open_views(patient), name="w", claim_after=0.1)
                working = asyncio.create_task(worker.run())
                await ledger.append(patient, "first", "first")
                await projected(direct)  # a worker that was never permitted to work ends
                async with Crowd(ledger, [patient, store], writers=WRITERS) as crowd:
                    for _ in range(times):
                        await crowd.each_is_heard()
                        for command in TAKEN[taken]:
                            admin.execute_command(*command)
                        await ledger.fails(WRITERS // 2)
                        calls = (queries.history("common"), store.version("common"), queries.totals())
                        for error in await asyncio.gather(*calls, return_exceptions=True):
                            assert isinstance(error, StoreUnavailable | StoreRefused)
                            assert "password" in str(error) or "permission" in str(error)
                        admin.execute_command("ACL", "SETUSER", "app", *GIVEN)
                        await crowd.each_is_heard()
                await ledger.ask()
                judgement = await ledger.check(direct)
                await projected(direct)
                await worker.stop()
                await working
                await check_views(direct)
        record("authentication is taken away, and given back", server=kind, rounds=times, **judgement.figures)
