"""A rebuild that is killed, again and again, beside writers and workers: nobody is harmed; in the end all is right."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.audits import audited
from support.processes import Processes
from support.proxy import Proxy
from support.servers import Server

from eventstore import ContextSet, MessageAdded, SessionStarted, open_store
from projections import Projector, Queries, open_views

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.guarantee("R5")
async def test_at_any_moment(server: Server, directory: Path) -> None:
    """However often a rebuild is killed, with kill -9, the views are right all along, and so are the rebuilt ones."""
    chance = random.Random()
    kills, written = 0, 0
    async with Processes() as processes, open_store(server.url) as store, Proxy(server.path, directory / "p") as proxy:
        for number in range(400):
            events = [MessageAdded("user", n) for n in range(chance.randrange(8))]
            await store.append(f"s{number}", [SessionStarted("ann"), *events])
            written += 1 + len(events)
        worker = await processes.worker(server.url, "worker")
        await worker.says("worker_started")
        queries = Queries(store, views := open_views(store), Projector(store, views))
        stopping = asyncio.Event()

        async def write() -> None:
            nonlocal written
            while not stopping.is_set():
                name = f"s{chance.randrange(450)}"
                await store.append(name, [MessageAdded("user", "x"), ContextSet("k", written)])
                written += 2
                await asyncio.sleep(0.002)  # no-sleep-ok: others have their turn on two cores

        writing = asyncio.create_task(write())
        for _ in range(12):
            left = chance.randrange(3, 40) if kills else chance.randrange(3, 12)
            left = left if kills < 4 else sys.maxsize
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(SCRIPTS / "rebuild.py"),
                *("--url", proxy.url, *(["--drop-old"] if chance.random() < 0.3 else [])),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )

            def kill(_reply: bytes, process: asyncio.subprocess.Process = process) -> bool:
                nonlocal left
                left -= 1
                if left == 0:
                    process.send_signal(signal.SIGKILL)
                return left <= 0

            proxy.lose_reply_if(kill)
            code = await process.wait()
            least = written
            assert (await queries.totals()).events >= least
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
        assert kills > 0
        await worker.says("worker_started", times=2)  # it has moved over to the new views
        stopping.set()
        await writing
        assert (await queries.totals()).events == written
        assert await audited(store, views) == []
        worker.terminate()
        assert await worker.ended() == 0
    command = [sys.executable, str(SCRIPTS / "replay.py"), "--verify", "--json", "--url", server.url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    assert (done.returncode, told["clean"], told["events"], told["totals"]) == (0, True, written, True)
