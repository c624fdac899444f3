"""A proxy between an engine and its server that loses, on demand, what the server answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path


class Proxy:
    """Passes bytes both ways, until told to lose a reply and to cut the connection.

    Args:
        server: The server's Unix socket.
        path: Where the proxy listens.
    """

    def __init__(self, server: Path, path: Path) -> None:
        self.url = f"unix://{path}"
        self.connections = 0
        self.lost = 0
        self._server = server
        self._path = path
        self._loses: Callable[[bytes], bool] = lambda _reply: False
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def lose_reply_if(self, loses: Callable[[bytes], bool]) -> None:
        """From now on ask, for each chunk that the server answers, whether to cut the connection instead."""
        self._loses = loses

    def lose_next_reply(self) -> None:
        """Cut the connection instead of passing on the next reply, once."""

        def once(_reply: bytes) -> bool:
            self._loses = lambda _reply: False
            return True

        self._loses = once

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_server: asyncio.StreamWriter | None = None
        try:
            from_server, to_server = await asyncio.open_unix_connection(self._server)
            up = asyncio.create_task(self._pass_up(reader, to_server))
            try:
                await self._pass_down(from_server, writer)
            finally:
                up.cancel()
                await asyncio.wait([up])
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, to_server):
                if end is not None:
                    end.close()
                    with contextlib.suppress(OSError):
                        await end.wait_closed()

    async def _pass_up(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            to_server.write(chunk)
            await to_server.drain()
        to_server.close()

    async def _pass_down(self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await from_server.read(65536):
            if self._loses(chunk):
                self.lost += 1
                return
            writer.write(chunk)
            await writer.drain()
