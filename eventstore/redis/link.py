"""One connection to one node that every task of an event loop shares.

Commands that tasks submit in the same turn of the loop leave in one write, and replies are matched in order; so no
task ever waits for a free connection, and 64 concurrent calls cost little more than one. It stands on redis-py's
`Connection` for the handshake (see `eventstore.redis.wire`), without redis-py's pool and retries: redis-py sends a
command again whose reply was lost, and an append must not be sent again without asking whether it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError

from eventstore.redis.commands import Argument, Command, Unserved, failure, is_primary, next_reply, pack
from eventstore.redis.promise import Promise
from eventstore.redis.wire import Wire

REFUSALS = (ResponseError, AuthenticationError, AuthorizationError)
WRONG_PASSWORD = "invalid username-password"  # noqa: S105 - how redis-py words it, as a mere ConnectionError
NOT_PROVED = "CERTIFICATE_VERIFY_FAILED"
"""How OpenSSL names a certificate that proves nothing."""
WRITE_BYTES = 1024 * 1024
"""So much is written at once before it is asked whether the server keeps up."""
_RUN_ID = re.compile(rb"run_id:(\w+)")


class LinkLost(Unserved):
    """The connection broke.

    Attributes:
        sent: Whether the commands may have reached the server.
        epoch: The epoch in which the connection was made.
        answered: Whether the server answered, and the connection was refused (a wrong password or certificate, say).
    """

    def __init__(self, reason: str, *, sent: bool, epoch: int, answered: bool = False) -> None:
        """Say why, whether the commands were written to the socket, and on which connection."""
        super().__init__(f"The connection to Redis was lost: {reason.rstrip('.')}.")
        self.sent = sent
        self.epoch = epoch
        self.answered = answered


Settle: TypeAlias = Callable[["list[Any] | LinkLost"], None]
"""Called with the replies to some commands, error replies among them, or with what went wrong before they came."""


class Replies(Promise[list[Any]]):
    """The replies to commands that leave together."""

    def settle(self, outcome: list[Any] | LinkLost) -> None:
        """Give them, or why there are none."""
        if isinstance(outcome, LinkLost):
            self.set_exception(outcome)
        else:
            self.set_result(outcome)


class _Request:
    """Commands that leave together, and what to do with their replies."""

    __slots__ = ("missing", "packed", "replies", "sent_at", "settle")

    def __init__(self, commands: Sequence[Command], settle: Settle) -> None:
        self.packed = b"".join(pack(commands))
        self.missing = len(commands)
        self.replies: list[Any] = []
        self.settle = settle
        self.sent_at = 0.0


class Link:
    """A pipelined connection, opened when first used and again after it broke.

    Args:
        make_connection: Makes an unconnected redis-py connection.
        reply_timeout: Seconds without the oldest reply after which the connection counts as broken.
        begin_epoch: Gives each new connection its number.
        only_primary: Whether to leave a server alone that is a replica by now: what it would answer may be old.
    """

    def __init__(
        self,
        make_connection: Callable[[], AbstractConnection],
        *,
        reply_timeout: float,
        begin_epoch: Callable[[], int],
        only_primary: bool = False,
    ) -> None:
        """Connect later, when there is something to send."""
        self._make_connection = make_connection
        self._reply_timeout = reply_timeout
        self._begin_epoch = begin_epoch
        self._only_primary = only_primary
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[_Request] = deque()
        self._unanswered: deque[_Request] = deque()
        self._wire: Wire | None = None
        self._flushes = False
        self._alone = False
        self._runner: asyncio.Task[None] | None = None
        self.closed = False
        """Whether it was closed for good."""
        self._run_id: bytes | None = None
        self.epoch = 0
        """The number of the present connection, or of the last one. What was learned on one may not hold on another."""
        self.client_id: int | None = None
        """The server's id of the present connection, or of the last one."""

    def submit(self, commands: Sequence[Command]) -> Replies:
        """Send commands at the end of this turn of the loop, nothing between them; return the promise of their replies.

        Who was alone the last time, and meets nobody on the way, does not wait for the end of the turn.

        An error reply stands in the list as an exception. It raises `LinkLost` if the connection breaks first.
        """
        replies = Replies(self._loop)
        self.send(commands, replies.settle)
        if self._alone and not self._unanswered:
            self.flush()
        elif self._wire is not None and not self._flushes:
            self._flushes = True
            self._loop.call_soon(self.flush)
        return replies

    def send(self, commands: Sequence[Command], settle: Settle) -> None:
        """Send commands with the next `flush`, nothing between them, and call ``settle`` with their replies."""
        if self.closed:
            settle(LinkLost("it was closed", sent=False, epoch=self.epoch))
            return
        self._unsent.append(_Request(commands, settle))
        if self._runner is None or self._runner.done():
            self._runner = self._loop.create_task(self._run(), name="contextengine-link")
            self._runner.add_done_callback(self._ended)

    def flush(self) -> None:
        """Write what waits to be sent, as far as the server keeps up."""
        self._flushes = False
        now = self._loop.time()
        while self._unsent and self._wire is not None and not self._wire.paused:
            batch, size = [], 0
            while self._unsent and size < WRITE_BYTES:
                request = self._unsent.popleft()
                request.sent_at = now
                self._unanswered.append(request)
                batch.append(request.packed)
                size += len(request.packed)
                request.packed = b""
            self._alone = len(batch) == 1
            self._wire.write(batch[0] if self._alone else b"".join(batch))

    async def call(self, *command: Argument) -> Any:
        """Send one command and return its reply.

        Raises:
            Unserved: The connection broke, or the node does not serve the command now.
            StoreRefused: The server answered with another error.
        """
        (reply,) = await self.submit([command])
        if isinstance(reply, Exception):
            raise failure(reply)
        return reply

    async def aclose(self) -> None:
        """Close the connection. What is still in flight fails with `LinkLost`."""
        runner = self._runner
        self.abort()
        if runner is not None:
            await asyncio.wait([runner])

    def abort(self) -> None:
        """Begin to close the connection without waiting for it. Call it on the link's own loop."""
        self.closed = True
        self.drop()

    def drop(self) -> None:
        """Break the connection. What is in flight fails with `LinkLost`; what is submitted later opens another one."""
        if self._runner is not None:
            self._runner.cancel()

    async def _run(self) -> None:
        """Connect, then send and receive until the connection breaks; then fail what is in flight and end."""
        reason, answered = "it was closed", False
        connection = self._make_connection()
        try:
            async with asyncio.timeout(self._reply_timeout):
                await connection.connect()  # type: ignore[no-untyped-call] # redis-py leaves it untyped
                await self._check_rank(connection)
                await self._end_previous(connection)
            self.epoch = self._begin_epoch()
            self._wire = Wire(connection, take=self._take, go_on=self.flush)
            self.flush()
            await self._watch(self._wire)
        except (RedisError, OSError) as error:
            reason = str(error) or type(error).__name__
            answered = isinstance(error, REFUSALS) or WRONG_PASSWORD in reason or NOT_PROVED in reason
        finally:
            self._runner = self._wire = None
            self._fail_all(reason, answered=answered)
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    def _ended(self, runner: asyncio.Task[None]) -> None:
        """Tell who waits, where the task was cancelled before its first step, and so did nothing at its end either."""
        if self._runner is runner:
            self._runner = None
            self._fail_all("it was closed", answered=False)

    async def _check_rank(self, connection: AbstractConnection) -> None:
        """Raise ConnectionError where the server is to be a primary and is none."""
        if self._only_primary and not is_primary((await self._ask(connection, ("INFO", "replication")))[0]):
            raise ConnectionError("it is a replica now")

    async def _end_previous(self, connection: AbstractConnection) -> None:
        """Make sure that nothing sent on the previous connection can still be carried out.

        Only then may the caller of a lost append look whether its events are there: the server could otherwise still
        read the first try from the old socket's buffer after the look.
        """
        client_id, info = await self._ask(connection, ("CLIENT", "ID"), ("INFO", "server"))
        if isinstance(client_id, Exception):
            raise client_id
        run = _RUN_ID.search(info) if isinstance(info, bytes) else None
        run_id = run[1] if run else None
        if self.client_id is not None and run_id == self._run_id:  # else that server, and its connections, have gone
            await self._ask(connection, ("CLIENT", "KILL", "ID", self.client_id))
        self.client_id, self._run_id = int(client_id), run_id

    async def _ask(self, connection: AbstractConnection, *commands: Command) -> list[Any]:
        """Send commands while nobody else uses the connection, and return their replies."""
        await connection.send_packed_command(pack(commands), check_health=False)
        return [await next_reply(connection) for _ in commands]

    def _take(self, reply: Any) -> None:
        """Take a reply to the oldest commands that have not been answered."""
        request = self._unanswered[0]
        request.replies.append(reply)
        request.missing -= 1
        if not request.missing:
            self._unanswered.popleft()
            request.settle(request.replies)

    async def _watch(self, wire: Wire) -> None:
        """Wait until the connection breaks, and break it when the oldest reply is overdue.

        Raises:
            OSError: Always: why it broke.
            RedisError: What came is no reply.
        """
        while not wire.broken.done():
            sent_at = self._unanswered[0].sent_at if self._unanswered else self._loop.time()
            overdue = self._loop.time() - sent_at
            if overdue > self._reply_timeout:
                raise TimeoutError(f"no reply for {overdue:.1f} s")
            await asyncio.wait([wire.broken], timeout=self._reply_timeout - overdue + 0.001)
        wire.broken.result()

    def _fail_all(self, reason: str, *, answered: bool) -> None:
        for requests, sent in ((self._unanswered, True), (self._unsent, False)):
            while requests:
                requests.popleft().settle(LinkLost(reason, sent=sent, epoch=self.epoch, answered=answered))
