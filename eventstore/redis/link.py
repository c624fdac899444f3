"""One connection to Redis that every task of an event loop shares.

Commands that tasks submit in the same turn of the loop leave in one write, and replies are matched in order; so no
task ever waits for a free connection, and 64 concurrent calls cost little more than one. It stands on redis-py's
`Connection` (handshake, authentication, TLS, hiredis), without redis-py's pool and retries: redis-py sends a command
again whose reply was lost, and an append must not be sent again without asking whether it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from eventstore.errors import StoreUnavailable
from eventstore.logs import get_logger
from eventstore.redis.commands import Argument, Call, Command, Script, next_reply, pack, refusal

log = get_logger("link")

REFUSALS = (ResponseError, AuthenticationError, AuthorizationError)
WRONG_PASSWORD = "invalid username-password"  # noqa: S105 - how redis-py words it, as a mere ConnectionError
NOT_PROVED = "CERTIFICATE_VERIFY_FAILED"
"""How OpenSSL names a certificate that proves nothing."""
_RUN_ID = re.compile(rb"run_id:(\w+)")


class LinkLost(StoreUnavailable):
    """The connection broke.

    Attributes:
        sent: Whether the commands may have reached the server.
        epoch: Which of the link's connections it was.
        answered: Whether the server answered, and the connection was refused (a wrong password or certificate, say).
    """

    def __init__(self, reason: str, *, sent: bool, epoch: int, answered: bool = False) -> None:
        """Say why, whether the commands were written to the socket, and on which connection of the link."""
        super().__init__(f"The connection to Redis was lost: {reason.rstrip('.')}.")
        self.sent = sent
        self.epoch = epoch
        self.answered = answered


class _Request:
    """Commands that leave together, and the future of their replies."""

    __slots__ = ("future", "missing", "packed", "replies", "sent_at")

    def __init__(self, packed: list[bytes], count: int, future: asyncio.Future[list[Any]]) -> None:
        self.packed = packed
        self.missing = count
        self.replies: list[Any] = []
        self.future = future
        self.sent_at = 0.0


class Link:
    """A pipelined connection, opened when first used and again after it broke.

    Args:
        make_connection: Makes an unconnected redis-py connection.
        reply_timeout: Seconds without the oldest reply after which the connection counts as broken.
    """

    def __init__(self, make_connection: Callable[[], AbstractConnection], *, reply_timeout: float) -> None:
        """Connect later, when there is something to send."""
        self._make_connection = make_connection
        self._reply_timeout = reply_timeout
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[_Request] = deque()
        self._unanswered: deque[_Request] = deque()
        self._work = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self.closed = False
        """Whether it was closed for good."""
        self._run_id: bytes | None = None
        self.epoch = 0
        """How many connections there have been. What was learned on one may not hold on the next."""
        self.client_id: int | None = None
        """The server's id of the present connection, or of the last one."""

    def submit(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        """Send commands, nothing between them, and return the future of their replies.

        An error reply stands in the list as an exception. The future raises `LinkLost` if the connection breaks first.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self.closed:
            future.set_exception(LinkLost("it was closed", sent=False, epoch=self.epoch))
            return future
        self._unsent.append(_Request(pack(commands), len(commands), future))
        self._work.set()
        if self._runner is None or self._runner.done():
            self._runner = self._loop.create_task(self._run(), name="contextengine-link")
        return future

    async def call(self, *command: Argument) -> Any:
        """Send one command and return its reply.

        Raises:
            StoreUnavailable: The connection broke.
            StoreRefused: The server answered with an error.
        """
        (reply,) = await self.submit([command])
        if isinstance(reply, Exception):
            raise refusal(reply)
        return reply

    async def evaluate(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> Any:
        """Run a script, loading it first where the server does not know it. Raises as `call` does."""
        (reply,) = await self.evaluate_many(script, [(keys, arguments)])
        if isinstance(reply, Exception):
            raise refusal(reply)
        return reply

    async def evaluate_many(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        """Run a script once for each pair of keys and arguments, in one write. Error replies stand in the list."""
        commands = [("EVALSHA", script.sha, len(keys), *keys, *arguments) for keys, arguments in calls]
        replies = await self.submit(commands)
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            loaded, *again = await self.submit([("SCRIPT", "LOAD", script.text), *(commands[i] for i in unknown)])
            if isinstance(loaded, Exception):
                raise refusal(loaded)
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        return replies

    async def aclose(self) -> None:
        """Close the connection. What is still in flight fails with `LinkLost`."""
        runner = self._runner
        self.abort()
        if runner is not None:
            await asyncio.wait([runner])

    def abort(self) -> None:
        """Begin to close the connection without waiting for it. Call it on the link's own loop."""
        self.closed = True
        if self._runner is not None:
            self._runner.cancel()

    async def _run(self) -> None:
        """Connect, then send and receive until the connection breaks; then fail what is in flight and end."""
        reason, answered = "it was closed", False
        connection = self._make_connection()
        try:
            async with asyncio.timeout(self._reply_timeout):
                await connection.connect()  # type: ignore[no-untyped-call] # redis-py leaves it untyped
                await self._end_previous(connection)
            self.epoch += 1
            await self._converse(connection)
        except (RedisError, OSError) as error:
            reason = str(error) or type(error).__name__
            answered = isinstance(error, REFUSALS) or WRONG_PASSWORD in reason or NOT_PROVED in reason
        finally:
            self._runner = None
            self._fail_all(reason, answered=answered)
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    async def _converse(self, connection: AbstractConnection) -> None:
        """Send and receive until one of the two fails."""
        tasks = [
            self._loop.create_task(part) for part in (self._send(connection), self._receive(connection), self._watch())
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

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

    async def _send(self, connection: AbstractConnection) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            batch: list[bytes] = []
            now = self._loop.time()
            while self._unsent:
                request = self._unsent.popleft()
                request.sent_at = now
                self._unanswered.append(request)
                batch += request.packed
            if batch:
                await connection.send_packed_command(batch, check_health=False)

    async def _receive(self, connection: AbstractConnection) -> None:
        unanswered = self._unanswered
        while True:
            reply = await next_reply(connection)
            request = unanswered[0]
            request.replies.append(reply)
            request.missing -= 1
            if not request.missing:
                unanswered.popleft()
                if not request.future.done():
                    request.future.set_result(request.replies)

    async def _watch(self) -> None:
        """Break the connection when the oldest reply is overdue."""
        while True:
            sent_at = self._unanswered[0].sent_at if self._unanswered else self._loop.time()
            overdue = self._loop.time() - sent_at
            if overdue > self._reply_timeout:
                raise TimeoutError(f"no reply for {overdue:.1f} s")
            await asyncio.sleep(self._reply_timeout - overdue + 0.001)

    def _fail_all(self, reason: str, *, answered: bool) -> None:
        for requests, sent in ((self._unanswered, True), (self._unsent, False)):
            while requests:
                future = requests.popleft().future
                if not future.done():
                    future.set_exception(LinkLost(reason, sent=sent, epoch=self.epoch, answered=answered))
