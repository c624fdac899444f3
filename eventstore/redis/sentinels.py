"""A server that sentinels watch: they tell who the primary is, and make a replica one when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from eventstore.errors import ContextEngineError, ServerUnfit, StoreRefused
from eventstore.redis.commands import Unserved, is_primary
from eventstore.redis.link import LinkLost
from eventstore.redis.topology import Ask, Node

GRACE = 0.1
"""Seconds for which the last sentinels are waited for when most have answered."""


class _Told(NamedTuple):
    """What a sentinel tells: the number of the configuration that it knows, and the primary in it."""

    epoch: int
    primary: Node


class Sentinels:
    """The primary of the servers that sentinels watch under a name: the one node, which serves everything.

    Sentinels number the configurations on which they agree. All are asked at once, and the newest configuration counts.
    One that is older than what was told before does not: neither a sentinel that was cut off is believed, nor does
    anybody go back to a primary that was replaced, and has come back and not learned of it yet.

    Args:
        sentinels: Where they are. Name all of them.
        service: The name under which they watch the servers.
        remap: Turns an address that they tell into one that can be reached from here.
    """

    replaces: bool = True
    ask_every: float | None = 1.0  # a primary that is cut off, or was paused, does not tell that it was replaced

    def __init__(
        self,
        sentinels: Iterable[Node],
        service: str,
        remap: Callable[[tuple[str, int]], tuple[str, int]] | None = None,
    ) -> None:
        """Know nothing yet: `refresh` asks."""
        self._sentinels = [node._replace(sentinel=True) for node in dict.fromkeys(sentinels)]
        self._service = service
        self._remap = remap
        self._known = _Told(-1, Node("", 0))
        self.nodes: Sequence[Node] = [self._known.primary]

    def node_of(self, _key: bytes) -> Node:
        """Return the primary."""
        return self._known.primary

    def together(self, _keys: Iterable[bytes]) -> bool:
        """Return True."""
        return True

    def moved(self, node: Node) -> None:
        """Do nothing: only nodes of a cluster say so."""

    def node_at(self, _host: str, _port: int, asked: Node) -> Node:
        """Return the primary: no other serves."""
        return asked

    async def refresh(self, ask: Ask) -> bool:
        """Ask the sentinels, and take the newest configuration that one of them tells.

        Raises:
            StoreUnavailable: None answers.
            ServerUnfit: They do not watch such servers, or are no sentinels.
            StoreRefused: They refuse the credentials.
        """
        told, failures = await self._ask_all(ask)
        if not told:
            raise self._failure(failures)
        before, newest = self._known, max(told, key=lambda one: one.epoch)
        if newest.epoch >= before.epoch or await self._set_up_anew(ask, told):
            self._known = newest
            self.nodes = [newest.primary]
        return self._known.primary != before.primary

    async def _ask_all(self, ask: Ask) -> tuple[list[_Told], list[ContextEngineError]]:
        """Ask all sentinels at once; leave those out who are late when most have answered."""
        told: list[_Told] = []
        failures: list[ContextEngineError] = []
        late = {asyncio.ensure_future(self._ask_one(ask, sentinel)) for sentinel in self._sentinels}
        try:
            while late:
                most = self._most(told)
                done, late = await asyncio.wait(
                    late, timeout=GRACE if most else None, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                for answer in (asking.result() for asking in done):
                    told.append(answer) if isinstance(answer, _Told) else failures.append(answer)
        finally:
            for asking in late:
                asking.cancel()
        return told, failures

    async def _ask_one(self, ask: Ask, sentinel: Node) -> _Told | ContextEngineError:
        """Ask one for the number first: who is replacing a primary tells the new number before the new address."""
        try:
            described = await ask(sentinel, ("SENTINEL", "MASTER", self._service))
            address = await ask(sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))
        except (Unserved, StoreRefused) as error:
            return error
        if address is None:
            return self._unknown()
        epoch = int(described[described.index(b"config-epoch") + 1])
        there = address[0].decode(), int(address[1])
        return _Told(epoch, Node(*self._remap(there)) if self._remap else Node(*there))

    def _most(self, told: Sequence[_Told]) -> bool:
        return 2 * len(told) > len(self._sentinels)

    async def _set_up_anew(self, ask: Ask, told: Sequence[_Told]) -> bool:
        """Whether the sentinels count from the beginning again: most tell less, and who was the primary is none.

        Where that does not answer, all have to tell less: most might not have heard yet who has just been made primary.
        """
        if not self._most(told):
            return False
        try:
            return not is_primary(await ask(self._known.primary, ("INFO", "replication")))
        except (Unserved, StoreRefused):
            return len(told) == len(self._sentinels)

    def _failure(self, failures: Sequence[ContextEngineError]) -> ContextEngineError:
        for error in failures:
            if "No such master" in str(error):
                return self._unknown()
            if "unknown command" in str(error):
                return ServerUnfit("This server is no sentinel: open it with redis://.")
        answered = (error for error in failures if not isinstance(error, Unserved) or _answered(error))
        return next(answered, failures[0])

    def _unknown(self) -> ServerUnfit:
        return ServerUnfit(f"The sentinels watch no servers under the name {self._service!r}.")


def _answered(error: Unserved) -> bool:
    return isinstance(error, LinkLost) and error.answered
