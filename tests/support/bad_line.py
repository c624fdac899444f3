"""A proxy that does to a connection what networks do, at random: it loses, cuts, delays and resets."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from pathlib import Path
from typing import Self

from support.proxy import Proxy

DAMAGES = {"the reply is dropped": 2, "cut in mid-reply": 2, "delayed": 3, "reset": 2, "falls silent": 1}
REQUEST_DAMAGES = {"cut in mid-request": 1, "the request is delayed": 1, "the request is dropped": 1}
"""What may happen to what comes down, and to what goes up, and how often in comparison."""
LONGEST_DELAY = 0.4
RESET = struct.pack("ii", 1, 0)
"""Linger for no time: the close of the socket is a reset."""


class BadLine(Proxy):
    """Passes bytes both ways over TCP, and, once it is told to, damages some chunk now and then.

    Args:
        server: The server's Unix socket.
        seed: Of what happens.
        chance: With which something happens to a chunk.
    """

    def __init__(self, server: Path, seed: int, *, chance: float = 0.2) -> None:
        super().__init__(server, Path())
        self.happened: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._chance = chance
        self._damages = False

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = "redis://127.0.0.1:{1}".format(*self._listener.sockets[0].getsockname())
        return self

    @property
    def everything_happened(self) -> bool:
        """Whether everything has happened that can."""
        return set(self.happened) == {*DAMAGES, *REQUEST_DAMAGES}

    def damage(self) -> None:
        """Begin to damage."""
        self._damages = True

    def heal(self) -> None:
        """Damage nothing any more."""
        self._damages = False

    async def _pass_up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_server: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(65536):
            match self._drawn(REQUEST_DAMAGES):
                case "cut in mid-request":
                    to_server.write(chunk[: self._random.randrange(len(chunk))])
                    await to_server.drain()
                    break
                case "the request is dropped":
                    break
                case "the request is delayed":
                    await self._delay()
            to_server.write(chunk)
            await to_server.drain()
        to_server.close()

    async def _pass_down(self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent = False
        while chunk := await from_server.read(65536):
            match self._drawn(DAMAGES):
                case "the reply is dropped":
                    return
                case "cut in mid-reply":
                    writer.write(chunk[: self._random.randrange(len(chunk))])
                    await writer.drain()
                    return
                case "reset":
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    writer.transport.abort()
                    return
                case "falls silent":
                    silent = True
                case "delayed":
                    await self._delay()
            if writer.is_closing():
                return
            if not silent:
                writer.write(chunk)
                await writer.drain()

    def _drawn(self, damages: dict[str, int]) -> str | None:
        """Draw what happens to a chunk, nearly always nothing."""
        if not self._damages or self._random.random() >= self._chance:
            return None
        (damage,) = self._random.choices(list(damages), list(damages.values()))
        self.happened[damage] += 1
        return damage

    async def _delay(self) -> None:
        await asyncio.sleep(self._random.random() * LONGEST_DELAY)  # no-sleep-ok: the delay is the damage
