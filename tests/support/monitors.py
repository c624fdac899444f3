"""What servers are told: every command that reaches them, those of scripts too, as MONITOR shows it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

from support.servers import Server

_LINE = re.compile(rb"\+[\d.]+ \[\d+ (\S+)\] (.*)\r\n", re.DOTALL)
_WORD = re.compile(rb'"(?:[^"\\]|\\.)*"')
LUA = "lua"
"""The client of the commands of scripts."""


class Heard(NamedTuple):
    """A command that reached a server, from a client's address or from a script."""

    server: Server
    client: str
    words: tuple[bytes, ...]


class Monitors:
    """Listens at servers until the end of the block."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.heard: list[Heard] = []
        self._servers = servers
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        for server in self._servers:
            reader, writer = await asyncio.open_unix_connection(server.path, limit=2**26)
            writer.write(b"MONITOR\r\n")
            assert await reader.readline() == b"+OK\r\n"
            self._tasks.append(asyncio.create_task(self._listen(server, reader)))
            self._writers.append(writer)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def across_slots(self) -> Iterator[Heard]:
        """Give the commands that name keys of several slots, as the server itself reads them."""
        for server in self._servers:
            with Redis(unix_socket_path=str(server.path)) as client:
                for heard in self.heard:
                    if heard.server is server and len(set(map(key_slot, _keys(client, heard.words)))) > 1:
                        yield heard

    async def _listen(self, server: Server, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            found = _LINE.fullmatch(line)
            assert found is not None, line
            words = tuple(ast.literal_eval("b" + word.decode("latin-1")) for word in _WORD.findall(found[2]))
            self.heard.append(Heard(server, found[1].decode(), words))


def _keys(client: Redis, words: tuple[bytes, ...]) -> list[bytes]:
    if len(words) == 1:
        return []
    try:
        keys = client.execute_command("COMMAND GETKEYS", *words)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        if "no key arguments" in str(error):
            return []
        raise
    return [key.encode() for key in keys]
