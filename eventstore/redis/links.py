"""The links to one Redis: a shared one for each event loop, and own ones for commands that block."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from eventstore.errors import StoreUnavailable, UnknownStoreUrl
from eventstore.redis.commands import Argument, Call, Command, Script, checked
from eventstore.redis.link import Link, LinkLost

T = TypeVar("T")

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.5


class PerLoop(Generic[T]):
    """One T for each event loop, made when first asked for there: what belongs to a loop cannot serve another."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Take how one is made."""
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, T] = {}

    def here(self) -> T:
        """Return the running loop's."""
        loop = asyncio.get_running_loop()
        try:
            return self._made[loop]
        except KeyError:
            for old in [old for old in list(self._made) if old.is_closed()]:
                del self._made[old]
            return self._made.setdefault(loop, self._make())

    def drain(self) -> list[tuple[asyncio.AbstractEventLoop, T]]:
        """Hand over all of them and forget them."""
        made, self._made = self._made, {}
        return list(made.items())


class Links:
    """Everything that talks to one Redis goes through here.

    Args:
        connection_class: What redis-py connects with.
        settings: Where to connect and how, as redis-py's connection takes it.
        timeout: Seconds for which a call may wait for an answer, reconnecting included.
    """

    def __init__(
        self, connection_class: Callable[..., AbstractConnection], settings: Mapping[str, Any], timeout: float
    ) -> None:
        """Connect later, when there is something to send."""
        self._connection_class = connection_class
        # RESP2 and bytes, whatever the user's own client prefers; timeouts and retries are ours; and what redis-py's
        # pool has added for its own notifications of maintenance stays with that pool.
        self._settings = {name: value for name, value in settings.items() if "maint" not in name} | {
            "decode_responses": False,
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "retry_on_timeout": False,
            "health_check_interval": 0,
        }
        self.timeout = timeout
        self._connection()  # what it does not take, it refuses here
        self._shared = PerLoop(lambda: Link(self._connection, reply_timeout=timeout))

    @classmethod
    def from_url(cls, url: str, timeout: float) -> Links:
        """Take a ``redis://``, ``rediss://`` or ``unix://`` URL.

        Raises:
            UnknownStoreUrl: The URL has a part that redis-py does not understand.
        """
        try:
            settings = dict(parse_url(url))
            for of_a_pool in ("max_connections", "timeout"):  # there is no pool: all calls share one connection
                settings.pop(of_a_pool, None)
            connection_class: Any = settings.pop("connection_class", Connection)
            return cls(connection_class, settings, timeout)
        except (ValueError, TypeError, RedisError) as error:
            raise UnknownStoreUrl(f"The URL {url!r} cannot be used: {error}.") from error

    @classmethod
    def of_client(cls, client: Redis, timeout: float) -> Links:
        """Take the settings of a redis-py client; the client itself is left alone."""
        pool = client.connection_pool
        return cls(pool.connection_class, pool.connection_kwargs, timeout)

    def shared(self) -> Link:
        """Return the running loop's shared link."""
        return self._shared.here()

    def own(self, *, longest_block: float) -> Link:
        """Return a new link for commands that block up to ``longest_block`` seconds. Close it after use."""
        return Link(self._connection, reply_timeout=self.timeout + longest_block)

    async def patiently(self, operation: Callable[[Link], Awaitable[T]], link: Link | None = None) -> T:
        """Run something that may safely run twice, again if the connection breaks, until the timeout.

        Raises:
            StoreUnavailable: It did not succeed in time.
        """
        pauses = Pauses(self.timeout)
        while True:
            used = link or self.shared()
            try:
                return await operation(used)
            except LinkLost as lost:
                if used.closed or not await pauses.next():
                    raise StoreUnavailable(f"{lost} Tried for {self.timeout:g} s.") from lost

    # The following send what may safely run twice: reads, and writes that come to the same when repeated.

    async def call(self, *command: Argument, link: Link | None = None) -> Any:
        """Send one command and return its reply."""
        return await self.patiently(lambda used: used.call(*command), link)

    async def pipeline(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Send commands in one write and return their replies."""
        return checked(await self.patiently(lambda used: used.submit(commands)))

    async def evaluate(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> Any:
        """Run a script."""
        return await self.patiently(lambda used: used.evaluate(script, keys, arguments))

    async def evaluate_many(self, script: Script, calls: Sequence[Call]) -> Sequence[Any]:
        """Run a script once for each pair of keys and arguments, in one write."""
        return checked(await self.patiently(lambda used: used.evaluate_many(script, calls)))

    async def aclose(self) -> None:
        """Close the shared links."""
        here = asyncio.get_running_loop()
        for loop, link in self._shared.drain():
            if loop is here:
                await link.aclose()
            elif loop.is_running():
                loop.call_soon_threadsafe(link.abort)

    def _connection(self) -> AbstractConnection:
        return self._connection_class(**self._settings)


class Pauses:
    """Growing pauses between tries, within a total of ``timeout`` seconds."""

    def __init__(self, timeout: float) -> None:
        """Start the clock."""
        self._deadline = asyncio.get_running_loop().time() + timeout
        self._pause = FIRST_PAUSE

    async def next(self) -> bool:
        """Pause and return True; return False at once if the time is up."""
        if asyncio.get_running_loop().time() + self._pause > self._deadline:
            return False
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return True
