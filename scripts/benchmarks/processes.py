"""Workers in processes of their own, as they run in production."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from benchmarks import BenchFailed
from benchmarks.serving import Server
from eventstore import EventStore

ROOT = Path(__file__).resolve().parents[2]
STARTS_WITHIN = 20.0
POLL = 0.02
NAME = "benchmark-worker"


class Worker:
    """A worker that runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Take its process."""
        self._process = process

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it stand still, wherever it is, for the length of a context."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def working(server: Server, store: EventStore, group: str, *arguments: str) -> AsyncIterator[Worker]:
    """Run ``python -m workers`` for as long as the context lasts.

    Args:
        server: Where it works.
        store: Where it gives signs of life.
        group: The consumer group that it joins.
        arguments: Further ones of its command line.

    Raises:
        BenchFailed: It gives no sign of life.
    """
    command = [sys.executable, "-m", "workers", "--url", server.url, "--name", NAME, "--log-level", "error", *arguments]
    # In a session of its own, because Ctrl-C is for the benchmark, which then ends it.
    with subprocess.Popen(  # noqa: ASYNC220, S603 - our own command; it starts at once
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            deadline = time.monotonic() + STARTS_WITHIN
            while NAME not in await store.feed.heartbeats(group):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchFailed(f"The worker gives no sign of life (exit code {process.poll()}).")
                await asyncio.sleep(POLL)
            yield Worker(process)
        finally:
            process.kill()
