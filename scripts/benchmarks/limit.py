"""The server's limit: how many events a second the append script takes in, from a client that costs next to nothing.

``redis-benchmark`` where it is installed. Elsewhere a stand-in: calls that were packed beforehand, sent over plain
sockets, whose replies are only counted.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import hiredis
from redis.asyncio import Redis

from benchmarks import BenchFailed
from benchmarks.measuring import Timed
from benchmarks.messages import Message
from benchmarks.serving import Server
from eventstore.appending import EncodedAppend
from eventstore.redis.appender import APPEND, append_command
from eventstore.redis.commands import pack
from eventstore.redis.keys import Keys
from eventstore.store import ANY

PROGRAMS = ("redis-benchmark", "valkey-benchmark")
CLIENTS, PIPELINE = 8, 4
SOCKETS, AT_ONCE = 2, 32
A_SECOND = re.compile(r'","([\d.]+)"(?:,"[\d.]+")*\s*\Z')
"""The first of the numbers at the end of a line in CSV: calls a second."""


class Limit:
    """What the server can take: the append script, called with the same words again and again.

    Attributes:
        how: What measures it.
    """

    SESSIONS = 16

    def __init__(self, server: Server, appends: list[list[bytes]], *, alone: bool) -> None:
        """Take what one call appends: the entries for each session, all of one partition.

        Args:
            server: The server, which knows the script.
            appends: The entries.
            alone: Whether there is one caller, who awaits each call.
        """
        self._server = server
        self._call = append_command(
            Keys("limit", 1),
            0,
            [_append(number, entries) for number, entries in enumerate(appends)],
            [None] * len(appends),
        )
        self._events = sum(map(len, appends))
        self._alone = alone
        self._program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        self.how = "redis-benchmark" if self._program else "packed calls over plain sockets"

    @classmethod
    async def of_sessions(cls, server: Server, redis: Redis, messages: Sequence[Message]) -> Limit:
        """Prepare calls that append one message to each of 16 sessions, several under way at once."""
        await redis.script_load(APPEND.text)
        return cls(server, [[message.entry] for message in messages], alone=False)

    @classmethod
    async def of_bulk(cls, server: Server, redis: Redis, messages: Sequence[Message]) -> Limit:
        """Prepare calls that append these messages to one session, one call after the other."""
        await redis.script_load(APPEND.text)
        return cls(server, [[message.entry for message in messages]], alone=True)

    async def run(self, calls: int) -> Timed:
        """Make so many calls.

        Raises:
            BenchFailed: It cannot be measured.
        """
        if self._program is None:
            return await asyncio.to_thread(self._plainly, calls)
        where = ("-p", str(self._server.port)) if self._server.socket is None else ("-s", str(self._server.socket))
        clients, pipeline = (1, 1) if self._alone else (CLIENTS, PIPELINE)
        options = ("-n", str(calls), "-c", str(clients), "-P", str(pipeline), "--csv")
        words = [word if isinstance(word, bytes) else str(word) for word in self._call]
        process = await asyncio.create_subprocess_exec(
            self._program, *where, *options, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        said, complaint = await process.communicate()
        if (found := A_SECOND.search(said.decode(errors="replace"))) is None:
            raise BenchFailed(
                f"{Path(self._program).name} failed: {complaint.decode(errors='replace') or said[-200:]!r}"
            )
        return Timed(calls * self._events, calls / float(found[1]))

    def _plainly(self, calls: int) -> Timed:
        """Keep connections busy: two, so that the server never waits for a reply to be read, if nobody is alone."""
        sockets, at_once = (1, 1) if self._alone else (SOCKETS, AT_ONCE)
        packed = b"".join(pack([self._call])) * at_once
        connections = [self._connect() for _ in range(sockets)]
        turns = max(sockets, calls // at_once)
        began = time.perf_counter()
        for turn in range(turns + sockets):
            connection, reader = connections[turn % sockets]
            if turn >= sockets:
                _read(connection, reader, at_once)
            if turn < turns:
                connection.sendall(packed)
        seconds = time.perf_counter() - began
        for connection, _ in connections:
            connection.close()
        return Timed(turns * at_once * self._events, seconds)

    def _connect(self) -> tuple[socket.socket, hiredis.Reader]:
        if self._server.socket is None:
            return socket.create_connection(("127.0.0.1", self._server.port)), hiredis.Reader()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._server.socket))
        return connection, hiredis.Reader()


def _append(number: int, entries: list[bytes]) -> EncodedAppend:
    session = f"limit-{number}"
    return EncodedAppend(session, session.encode(), ANY, [], entries, sum(map(len, entries)))


def _read(connection: socket.socket, reader: hiredis.Reader, replies: int) -> None:
    """Read the replies to what was sent at once."""
    for _ in range(replies):
        while (reply := reader.gets()) is False:
            reader.feed(connection.recv(65536))
        if isinstance(reply, Exception):
            raise BenchFailed(f"The server refuses the script: {reply}.")
