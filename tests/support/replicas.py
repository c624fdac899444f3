"""A primary, a replica, and the line between them: it stalls on demand; and the replica takes over."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis

from support.proxy import Proxy
from support.servers import Server
from support.waiting import until


class Line:
    """What a replica reaches its primary by: a port of this machine, from which bytes go on while it does not stall."""

    def __init__(self, primary: Path) -> None:
        self.port = 0
        self._primary = primary
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._listener is not None
        self._listener.close()
        await self.cut()

    def stall(self) -> None:
        """Pass nothing on to the replica any more, and leave its connection open."""
        self._flows.clear()

    def flow(self) -> None:
        """Pass on what has been waiting."""
        self._flows.set()

    async def cut(self) -> None:
        """Break the connections. What has been waiting is lost."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_primary: asyncio.StreamWriter | None = None
        try:
            from_primary, to_primary = await asyncio.open_unix_connection(self._primary)
            up = asyncio.create_task(_pass(reader, to_primary))
            try:
                await _pass(from_primary, writer, self._flows)
            finally:
                up.cancel()
                await asyncio.wait([up])
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, to_primary):
                if end is not None:
                    end.transport.abort()


class Pair:
    """A primary and its replica, which clients reach by one URL, whoever of them leads.

    Args:
        binary: What to run.
        directory: For both.
        settings: Overrides of their configuration.
    """

    def __init__(self, binary: str, directory: Path, **settings: str) -> None:
        settings = {"repl_diskless_sync_delay": "0"} | settings
        self.primary = Server(binary, _made(directory / "1"), **settings)
        self.replica = Server(binary, _made(directory / "2"), **settings)
        self.line = Line(self.primary.path)
        self.front = Proxy(self.primary.path, directory / "p")
        self.url = self.front.url
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        for server in (self.primary, self.replica):
            self._stack.enter_context(server)
        await self._stack.enter_async_context(self.line)
        await self._stack.enter_async_context(self.front)
        await ask(self.replica, "REPLICAOF", "127.0.0.1", self.line.port)
        await until(self._follows)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for server in (self.primary, self.replica):
            if server.runs:
                server.kill()  # one that is to stop would wait for its replica first
        await self._stack.aclose()

    async def level(self) -> None:
        """Wait until the replica has all that the primary has."""
        await until(self._level)

    async def fail_over(self) -> None:
        """Kill the primary, and let the replica take over with what it has; clients are led to it."""
        self.primary.kill()
        await self.line.cut()
        await ask(self.replica, "REPLICAOF", "NO", "ONE")
        self.front.lead_to(self.replica.path)

    async def _follows(self) -> bool:
        up = (await ask(self.replica, "INFO", "replication"))["master_link_status"] == "up"
        # Right after a copy, a primary may pass on nothing until the replica has said that it is there.
        return up and await self._level() and await ask(self.primary, "WAIT", 1, 1) == 1

    async def _level(self) -> bool:
        told = await ask(self.primary, "INFO", "replication")
        replica = told.get("slave0", {})
        return bool(replica.get("state") == "online" and replica["offset"] >= told["master_repl_offset"])


async def ask(server: Server, *command: str | int) -> Any:
    """Send one command to a server, and return its reply."""
    async with Redis(unix_socket_path=str(server.path), decode_responses=True) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event | None = None) -> None:
    while chunk := await reader.read(65536):
        if flows is not None:
            await flows.wait()
        writer.write(chunk)
        await writer.drain()


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
