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
from eventstore.redis.commands import Argument, pack
from eventstore.redis.keys import Keys
from eventstore.store import ANY

PROGRAMS = ("redis-benchmark", "valkey-benchmark")
CLIENTS, PIPELINE = 8, 4
SOCKETS, AT_ONCE = 2, 32
A_SECOND = re.compile(r'","([\d.]+)"(?:,"[\d.]+")*\s*\Z')
"""The first of the numbers at the end of a line in CSV: calls a second."""


class Limit:
    """What the server can take: the append script with 16 sessions a call.

    Attributes:
        how: What measures it.
    """

    SESSIONS = 16

    def __init__(self, server: Server, call: Sequence[Argument]) -> None:
        """Take the script's call."""
        self._server = server
        self._call = call
        self._program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        self.how = "redis-benchmark" if self._program else "packed calls over plain sockets"
        self.how += f", {self.SESSIONS} sessions a call"

    @classmethod
    async def of(cls, server: Server, redis: Redis, messages: Sequence[Message]) -> Limit:
        """Prepare: load the script, and make a call that appends these messages to 16 sessions of one partition."""
        await redis.script_load(APPEND.text)
        keys = Keys("limit", 1)
        sessions = [f"limit-{number}".encode() for number in range(cls.SESSIONS)]
        appends = [
            EncodedAppend(session.decode(), session, ANY, [], [message.entry], len(message.entry))
            for session, message in zip(sessions, messages, strict=True)
        ]
        return cls(server, append_command(keys, 0, appends, [None] * cls.SESSIONS))

    async def run(self, calls: int) -> Timed:
        """Make so many calls.

        Raises:
            BenchFailed: It cannot be measured.
        """
        if self._program is None:
            return await asyncio.to_thread(self._plainly, calls)
        where = ("-p", str(self._server.port)) if self._server.socket is None else ("-s", str(self._server.socket))
        options = ("-n", str(calls), "-c", str(CLIENTS), "-P", str(PIPELINE), "--csv")
        words = [word if isinstance(word, bytes) else str(word) for word in self._call]
        process = await asyncio.create_subprocess_exec(
            self._program, *where, *options, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        said, complaint = await process.communicate()
        if (found := A_SECOND.search(said.decode(errors="replace"))) is None:
            raise BenchFailed(
                f"{Path(self._program).name} failed: {complaint.decode(errors='replace') or said[-200:]!r}"
            )
        return Timed(calls * self.SESSIONS, calls / float(found[1]))

    def _plainly(self, calls: int) -> Timed:
        """Keep two connections busy, so that the server never waits for a reply to be read."""
        packed = b"".join(pack([self._call])) * AT_ONCE
        connections = [self._connect() for _ in range(SOCKETS)]
        turns = max(SOCKETS, calls // AT_ONCE)
        began = time.perf_counter()
        for turn in range(turns + SOCKETS):
            connection, reader = connections[turn % SOCKETS]
            if turn >= SOCKETS:
                _read(connection, reader)
            if turn < turns:
                connection.sendall(packed)
        seconds = time.perf_counter() - began
        for connection, _ in connections:
            connection.close()
        return Timed(turns * AT_ONCE * self.SESSIONS, seconds)

    def _connect(self) -> tuple[socket.socket, hiredis.Reader]:
        if self._server.socket is None:
            return socket.create_connection(("127.0.0.1", self._server.port)), hiredis.Reader()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._server.socket))
        return connection, hiredis.Reader()


def _read(connection: socket.socket, reader: hiredis.Reader) -> None:
    """Read the replies to what was sent at once."""
    for _ in range(AT_ONCE):
        while (reply := reader.gets()) is False:
            reader.feed(connection.recv(65536))
        if isinstance(reply, Exception):
            raise BenchFailed(f"The server refuses the script: {reply}.")
