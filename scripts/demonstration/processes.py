"""The demo's server and worker: started in processes of their own, killed, and cleaned up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.to_thread

from demonstration import DemoFailed
from eventstore import open_store
from eventstore.embedded import EmbeddedServer
from projections import open_views

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0
"""Seconds for which a process may take to begin or to end, or the worker to make progress."""
POLL = 0.03
WORKER_LOG = "worker.log"


@contextlib.asynccontextmanager
async def running(directory: str, worker_name: str) -> AsyncIterator[Pair]:
    """Run a server and a worker on a directory, and stop those that have not been killed."""
    server = await EmbeddedServer.acquire(directory)
    try:
        pair = Pair(server, _start_worker(server.directory, worker_name))
    except OSError as error:
        with anyio.CancelScope(shield=True):
            await server.release()
        raise DemoFailed(f"The worker cannot be started: {error}.") from error
    try:
        await pair.working(worker_name)
        yield pair
    finally:
        with anyio.CancelScope(shield=True):
            await pair.stop()


def _start_worker(directory: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "workers", "--url", f"embedded://{quote(str(directory))}", "--name", name]
    with (directory / WORKER_LOG).open("ab") as log:
        # In a session of its own, because Ctrl-C is for the demo, which then stops the worker in good order.
        return subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


class Pair:
    """A server and a worker on one directory."""

    def __init__(self, server: EmbeddedServer, worker: subprocess.Popen[bytes]) -> None:
        """Take what runs."""
        self.server = server
        self.worker = worker
        self._killed = False

    async def working(self, worker_name: str) -> None:
        """Wait until the worker gives a sign of life.

        Raises:
            DemoFailed: It gives none.
        """
        async with open_store(self.server.url) as store:
            views = await open_views(store).pinned()
            with anyio.move_on_after(PATIENCE):
                while worker_name not in await store.feed.heartbeats(views.group):
                    self.check_worker()
                    await anyio.sleep(POLL)
                return
        raise DemoFailed(f"The worker gave no sign of life within {PATIENCE:g} s.{self._log_tail()}")

    def check_worker(self) -> None:
        """Do nothing while the worker lives.

        Raises:
            DemoFailed: It does not.
        """
        if (code := self.worker.poll()) is not None:
            raise DemoFailed(f"The worker has ended by itself, with exit code {code}.{self._log_tail()}")

    def _log_tail(self) -> str:
        log = (self.server.directory / WORKER_LOG).read_text(encoding="utf-8", errors="replace")
        return f" Its log ends so:\n{log[-2000:]}"

    async def kill(self) -> None:
        """Kill both as a power cut would."""
        self._killed = True
        os.kill(self.server.pid, signal.SIGKILL)
        self.worker.kill()
        self.worker.wait()
        await self.server.release()

    async def stop(self) -> None:
        """Stop what has not been killed: in good order, or else by force."""
        if self._killed:
            return
        self.worker.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await anyio.to_thread.run_sync(self.worker.wait, PATIENCE)
        self.worker.kill()
        self.worker.wait()
        with anyio.move_on_after(PATIENCE):
            await self.server.release()
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.server.pid, signal.SIGKILL)
