"""What every row is given: servers, engines and clients with equal settings, messages, and how much to measure."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
from redis.asyncio import Redis

from benchmarks.measuring import Result
from benchmarks.messages import Messages
from benchmarks.serving import Binary, Server, running
from contextengine import ContextEngine

EVERYSEC, ALWAYS = "everysec", "always"


class Bench:
    """One run of the benchmark.

    Attributes:
        messages: What is written.
        quick: Whether a rough answer soon is wanted.
        repeats: How often everything is measured.
        step: Told after each repeat.
    """

    def __init__(self, binary: Binary, messages: Messages, *, tcp: bool, quick: bool, within: Path | None) -> None:
        """Take the settings; nothing runs before a row asks."""
        self.binary = binary
        self.messages = messages
        self.quick = quick
        self.repeats = 3 if quick else 5
        self.step: Callable[[], None] = lambda: None
        self._tcp = tcp
        self._within = within

    @property
    def described(self) -> str:
        """How the servers are reached and how much is measured, in a few words."""
        return f"{'TCP on loopback' if self._tcp else 'a Unix socket'}, {'--quick' if self.quick else 'thorough'}"

    def size(self, thorough: int, quick: int) -> int:
        """Return how much to measure."""
        return quick if self.quick else thorough

    @contextlib.contextmanager
    def server(self, *, fsync: str = EVERYSEC, tcp: bool = False) -> Iterator[Server]:
        """Run a server that holds nothing yet."""
        with running(self.binary, tcp=tcp or self._tcp, fsync=fsync, within=self._within) as server:
            yield server

    @contextlib.asynccontextmanager
    async def open(
        self, *, fsync: str = EVERYSEC, connections: int = 64, **settings: Any
    ) -> AsyncIterator[tuple[Server, ContextEngine, Redis]]:
        """Run a server, and open an engine without workers and a redis-py client on it.

        Args:
            fsync: The server's ``appendfsync``.
            connections: The size of the client's pool.
            settings: Further arguments of the engine.
        """
        with self.server(fsync=fsync) as server:
            async with (
                ContextEngine(server.url, workers=False, **settings) as engine,
                raw(server, connections) as redis,
            ):
                yield server, engine, redis


class Row(msgspec.Struct, frozen=True):
    """A row of the table.

    Attributes:
        name: What ``--only`` calls it.
        title: What is measured.
        target: The target in words; empty where the figures are for information.
        measure: Measures it.
    """

    name: str
    title: str
    target: str
    measure: Callable[[Bench], Awaitable[Result]]


@contextlib.asynccontextmanager
async def engine_on(server: Server, **settings: Any) -> AsyncIterator[ContextEngine]:
    """Give an engine without workers. It is closed in good order, before its server goes, after Ctrl-C too."""
    engine = ContextEngine(server.url, workers=False, **settings)
    await engine.initialize()
    try:
        yield engine
    finally:
        with anyio.CancelScope(shield=True):
            await engine.close()


@contextlib.asynccontextmanager
async def raw(server: Server, connections: int = 64) -> AsyncIterator[Redis]:
    """Give a redis-py client as everybody makes one: a pool, hiredis, RESP2 like the engine, nothing decoded."""
    async with Redis.from_url(server.url, max_connections=connections, protocol=2) as client:
        yield client


async def answer(reply: Any) -> Any:
    """Await what redis-py declares as many things."""
    return await reply
