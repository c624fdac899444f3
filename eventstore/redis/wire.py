"""The wire: the bytes of one connection, read and written without a coroutine in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, InvalidResponse  # noqa: A004 - redis-py's own

from eventstore.redis.commands import error_of

READ_BYTES = 128 * 1024
"""So much is read at once, at most: a page of a long read. Several would wait in memory until the first is done."""


class Wire(asyncio.BufferedProtocol):
    """A connection that redis-py has opened, once the handshake is over.

    redis-py finds the server, speaks TLS, authenticates and selects the database. Then its transport is taken over, for
    its stream reader and its coroutine for each reply cost more than all the rest of an append. The transport is the
    one thing that is taken without being offered.

    Attributes:
        broken: Done when the connection is; its exception says why.
        paused: Whether the server does not keep up, so that nothing should be written now.
    """

    def __init__(
        self, connection: AbstractConnection, *, take: Callable[[Any], None], go_on: Callable[[], None]
    ) -> None:
        """Take a connection over on which no reply is missing.

        Args:
            connection: The connection.
            take: Called with each reply, an error reply as an exception.
            go_on: Called when something may be written again.
        """
        reader = hiredis.Reader(protocolError=InvalidResponse, replyError=error_of)
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.paused = False
        self._buffer = memoryview(bytearray(READ_BYTES))  # a view, because TLS reads into slices of it
        self._feed = reader.feed
        self._next = reader.gets
        self._take = take
        self._go_on = go_on
        self._transport: Any = connection._writer.transport  # type: ignore[union-attr]  # noqa: SLF001
        self._transport.set_protocol(self)

    def write(self, data: bytes) -> None:
        """Write at once, as far as the socket takes it; the transport keeps the rest. What breaks is not written to."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the transport's wish is not asked for
        """Tell where to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over the replies that are complete."""
        self._feed(self._buffer, 0, nbytes)  # type: ignore[arg-type] # it takes whatever has a buffer
        try:
            # RESP2 has no booleans: False means that more has to come. Who was given a reply may have closed this.
            while not self._transport.is_closing() and (reply := self._next()) is not False:
                if isinstance(reply, ConnectionError):  # LOADING and its like: the server is not there yet
                    raise reply
                self._take(reply)
        except (ConnectionError, InvalidResponse) as error:
            self._break(error)

    def pause_writing(self) -> None:
        """Note that the transport holds back much."""
        self.paused = True

    def resume_writing(self) -> None:
        """Go on with what had to wait."""
        self.paused = False
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is over."""
        self._break(exc or ConnectionResetError("the server closed it"))

    def _break(self, error: Exception) -> None:
        if not self.broken.done():
            self.broken.set_exception(error)
            self.broken.exception()  # nobody may be waiting any more
        self._transport.abort()
