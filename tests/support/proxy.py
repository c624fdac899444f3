"""A proxy between an engine and its server that loses, on demand, what goes between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Self


class Proxy:
    """Passes bytes both ways, until told to lose a reply and to cut the connection, or to do worse.

    Args:
        server: The server's Unix socket.
        path: Where the proxy listens.
    """

    def __init__(self, server: Path, path: Path) -> None:
        self.url = f"unix://{path}"
        self.connections = 0
        self.lost = 0
        self.refuses = False
        """Whether new connections are cut at once."""
        self._server = server
        self._path = path
        self._loses: Callable[[bytes], bool] = lambda _reply: False
        self._stalls = False
        self._holds = False
        self._released = asyncio.Event()
        self._settled = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def lead_to(self, server: Path) -> None:
        """Connect whoever connects from now on to another server."""
        self._server = server

    def lose_reply_if(self, loses: Callable[[bytes], bool]) -> None:
        """From now on ask, for each chunk that the server answers, whether to cut the connection instead."""
        self._loses = loses

    def lose_next_reply(self) -> None:
        """Cut the connection instead of passing on the next reply, once."""
        self.lose_next_reply_with(b"")

    def lose_next_reply_with(self, content: bytes, times: int = 1) -> None:
        """Cut the connection instead of passing on the next reply that holds ``content``, so many times."""
        left = times

        def loses(reply: bytes) -> bool:
            nonlocal left
            if not left or content not in reply:
                return False
            left -= 1
            return True

        self._loses = loses

    def stall_next_reply(self) -> None:
        """Pass nothing down any more on the connection of the next reply, and leave it open."""
        self._stalls = True

    def hold_next_request(self) -> None:
        """Cut the client off instead of passing on its next request, and keep the request for `deliver_late`."""
        self._holds = True

    async def deliver_late(self) -> None:
        """Pass the held request on, where the server still listens to its connection. Wait until that is settled."""
        self._released.set()
        await self._settled.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_server: asyncio.StreamWriter | None = None
        try:
            if self.refuses:
                return
            from_server, to_server = await asyncio.open_unix_connection(self._server)
            up = asyncio.create_task(self._pass_up(reader, writer, to_server))
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

    async def _pass_up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_server: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(65536):
            if self._holds:
                self._holds = False
                await self._hold(chunk, writer, to_server)
            to_server.write(chunk)
            await to_server.drain()
        to_server.close()

    async def _hold(self, request: bytes, writer: asyncio.StreamWriter, to_server: asyncio.StreamWriter) -> None:
        try:
            writer.close()
            await self._released.wait()
            to_server.write(request)
            await asyncio.Event().wait()  # until the server has answered or hung up, which cancels this
        finally:
            self._settled.set()

    async def _pass_down(self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stalled = False
        while chunk := await from_server.read(65536):
            if self._loses(chunk):
                self.lost += 1
                return
            if self._stalls:
                self._stalls, stalled = False, True
                self.lost += 1
            if writer.is_closing():
                return
            if not stalled:
                writer.write(chunk)
                await writer.drain()
