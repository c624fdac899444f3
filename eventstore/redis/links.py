"""Calls: each command goes to the node that serves its key, and where that has moved, it is sent again."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import AskError, MovedError, NoScriptError, RedisError

from eventstore.errors import StoreUnavailable, UnknownStoreUrl
from eventstore.redis.addresses import Address, address_of_client, address_of_url
from eventstore.redis.batches import Batch, Outcome, Parcel, call_of, exchange, not_executed
from eventstore.redis.commands import (
    ELSEWHERE_OR_LATER,
    Argument,
    Call,
    Command,
    Script,
    Unserved,
    checked,
    key_of,
    unserved,
)
from eventstore.redis.link import LinkLost
from eventstore.redis.nodes import Nodes
from eventstore.redis.topology import Node

T = TypeVar("T")

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.5


class Links(Nodes):
    """Everything that talks to one Redis goes through here."""

    def __init__(self, address: Address, timeout: float) -> None:
        """Connect later, when there is something to send.

        Args:
            address: Where Redis is, and how to connect to it.
            timeout: Seconds for which a call may wait for an answer, reconnecting included.
        """
        super().__init__(address, timeout)
        self.timeout = timeout
        self._address = address

    @classmethod
    def from_url(cls, url: str, timeout: float) -> Links:
        """Take a URL of one of redis-py's schemes, of a cluster, or of sentinels.

        Raises:
            UnknownStoreUrl: The URL has a part that redis-py does not understand.
        """
        try:
            return cls(address_of_url(url), timeout)
        except (ValueError, TypeError, RedisError) as error:
            raise UnknownStoreUrl(f"The URL {url!r} cannot be used: {error}.") from error

    @classmethod
    def of_client(cls, client: Redis | RedisCluster, timeout: float) -> Links:
        """Take the settings of a redis-py client; the client itself is left alone."""
        return cls(address_of_client(client), timeout)

    def apart(self) -> Links:
        """Return other links to the same Redis: what blocks there holds up nobody here."""
        return Links(self._address._replace(topology=copy.copy(self.topology)), self.timeout)

    async def send(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Send each batch to its node, and return for each what became of it.

        A batch is sent once more, at once, where it needs the script first (NOSCRIPT), or where its keys are just being
        moved to another node (ASK). In either case the first node has carried out nothing.
        """
        links = [self.shared(batch.key) for batch in batches]
        outcomes: list[Outcome]
        if len(batches) == 1:  # nearly always, and the way there is every reader's
            try:
                outcomes = [await links[0].submit(batches[0].commands)]
            except LinkLost as lost:
                outcomes = [lost]
        else:
            outcomes = await exchange(
                [Parcel(link, batch.commands) for link, batch in zip(links, batches, strict=True)]
            )
        if not any(map(not_executed, outcomes)):
            return outcomes
        again: dict[int, Parcel] = {}
        for i, batch in enumerate(batches):
            error = not_executed(outcomes[i])
            if isinstance(error, NoScriptError) and batch.script is not None:
                again[i] = Parcel(links[i], batch.commands, [load(batch.script)])
            elif type(error) is AskError:
                # ASKING holds for the next command, and for a whole transaction.
                before = [load(batch.script)] if batch.script is not None else []
                again[i] = Parcel(self.to(self._node_in(error, batch.key)), batch.commands, [*before, ("ASKING",)])
        if again:
            for i, outcome in zip(again, await exchange(list(again.values())), strict=True):
                outcomes[i] = outcome
        return [self._served(batch, outcome) for batch, outcome in zip(batches, outcomes, strict=True)]

    async def patiently(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Run something that may safely run twice, again if a node does not serve it, until the timeout.

        Raises:
            StoreUnavailable: It did not succeed in time.
        """
        pauses = Pauses(self.timeout)
        while True:
            try:
                return await operation()
            except Unserved as missed:
                if isinstance(missed, LinkLost) and missed.answered:
                    raise  # neither another node nor another time will take these credentials
                await self._recover(missed, pauses)

    # The following send what may safely run twice: reads, and writes that come to the same when repeated.

    async def call(self, *command: Argument) -> Any:
        """Send one command and return its reply."""
        (reply,) = await self.together(key_of(command), [command])
        return reply

    async def together(self, key: bytes, commands: Sequence[Command], script: Script | None = None) -> Sequence[Any]:
        """Send commands to the node that serves a key, nothing between them, and return their replies.

        Args:
            key: One of theirs; all live in its slot.
            commands: The commands.
            script: The script that they call, if they call one.
        """
        (replies,) = await self.answers([Batch(key, commands, script)])
        return checked(replies, () if script else commands)

    async def pipeline(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Send commands, those for one node in one write, and return their replies."""
        if self.topology.together(map(key_of, commands)):
            return await self.together(key_of(commands[0]), commands)
        return _single(await self.answers([Batch(key_of(command), [command]) for command in commands]))

    async def evaluate(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> Any:
        """Run a script."""
        (replies,) = await self.answers([call_of(script, keys, arguments)])
        return checked(replies)[0]

    async def evaluate_many(self, script: Script, calls: Sequence[Call]) -> Sequence[Any]:
        """Run a script once for each pair of keys and arguments, in one write for each node."""
        return _single(await self.answers([call_of(script, keys, arguments) for keys, arguments in calls]))

    async def answers(self, batches: Sequence[Batch]) -> list[list[Any]]:
        """Send batches until each is answered, and return their replies, error replies among them.

        Raises:
            StoreUnavailable: One was not answered in time.
        """
        pauses = Pauses(self.timeout)
        outcomes: list[Any] = await self.send(batches)
        while missed := [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Unserved)]:
            await self._recover(outcomes[missed[-1]], pauses)
            for i, outcome in zip(missed, await self.send([batches[i] for i in missed]), strict=True):
                outcomes[i] = outcome
        return outcomes

    async def _recover(self, missed: Unserved, pauses: Pauses) -> None:
        """Pause, and find out who serves what, before something is sent again."""
        if self.closed or not await pauses.next():
            raise StoreUnavailable(f"{missed} Tried for {self.timeout:g} s.") from missed
        await self.refresh()

    def _served(self, batch: Batch, outcome: Outcome) -> Outcome:
        """Return an outcome, as `Unserved` if the node said that it serves this elsewhere or later."""
        error = not_executed(outcome)
        if not isinstance(error, ELSEWHERE_OR_LATER):
            return outcome
        if isinstance(error, MovedError):
            self.topology.moved(self._node_in(error, batch.key))
        return unserved(error)

    def _node_in(self, error: AskError, key: bytes) -> Node:
        return self.topology.node_at(error.host, error.port, self.topology.node_of(key))


def load(script: Script) -> Command:
    """Return the command that makes a script known to a server."""
    return ("SCRIPT", "LOAD", script.text)


def _single(answers: list[list[Any]]) -> Sequence[Any]:
    return checked([replies[0] for replies in answers])


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
