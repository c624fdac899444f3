"""The nodes of one Redis and the links to them: a shared one to each for each event loop, own ones for what blocks."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError

from eventstore.errors import ContextEngineError
from eventstore.logs import get_logger
from eventstore.redis.addresses import Address
from eventstore.redis.commands import Argument, Command, Unserved, failure
from eventstore.redis.link import Link
from eventstore.redis.topology import Node

log = get_logger("nodes")

T = TypeVar("T")

ASK_WITHIN = 1.0
"""Seconds for which one node is asked who serves what before the next one is."""


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


class _Here:
    """What belongs to one event loop."""

    def __init__(self) -> None:
        # A node's link is kept even where the node has lost its slots: it knows which connection to end should the
        # node come back.
        self.links: dict[Node, Link] = {}
        self.own: weakref.WeakSet[OwnLink] = weakref.WeakSet()
        self.knows = 0
        """How many changes of the topology these links have followed."""
        self.refreshing: asyncio.Task[None] | None = None
        self.looking: asyncio.Task[None] | None = None


class Nodes:
    """All nodes of one Redis, be it a single server, a cluster, or a primary that sentinels watch.

    Args:
        address: Where Redis is, and how to connect to it.
        timeout: Seconds for which a call may wait for an answer, reconnecting included.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        """Connect later, when there is something to send."""
        self.topology = address.topology
        self.epoch = 0
        """The newest connection's number, or the newest topology's. What was learned in one may not hold in another."""
        self.closed = False
        self._to_servers = address.servers.ours(timeout)
        self._to_sentinels = (address.sentinels or address.servers).ours(timeout)
        # A node that is silent for half of a call's time leaves the other half to the one that replaces it.
        self._reply_timeout = timeout / 2 if self.topology.replaces else timeout
        self._changes = 0
        self._epochs = itertools.count(1)
        self._here = PerLoop(self._begin_here)
        self._connection(self.topology.nodes[0])  # what it does not take, it refuses here

    def shared(self, key: bytes = b"") -> Link:
        """Return the running loop's shared link to the node that serves a key."""
        return self.to(self.topology.node_of(key))

    def to(self, node: Node) -> Link:
        """Return the running loop's shared link to a node."""
        links = self._here.here().links
        link = links.get(node)
        if link is None:
            link = links[node] = self._link(node, self._reply_timeout)
            link.closed = self.closed
        return link

    def own(self, key: bytes, *, longest_block: float) -> OwnLink:
        """Return a link of one's own, for commands that block up to ``longest_block`` seconds. Close it after use."""
        own = OwnLink(self, key, lambda node: self._link(node, self._reply_timeout + longest_block))
        self._here.here().own.add(own)
        return own

    async def discover(self) -> None:
        """Find out which nodes there are.

        Raises:
            StoreUnavailable: None answers.
            ServerUnfit: They are not what was named: no cluster, no sentinels.
            StoreRefused: A node refuses the credentials.
        """
        if await self.topology.refresh(self._ask):
            self._changed()
        self._follow(self._here.here())

    async def refresh(self) -> None:
        """Find out anew which node serves what; leave it as it is known if no node answers."""
        here = self._here.here()
        self._follow(here)
        if here.refreshing is None:
            here.refreshing = asyncio.get_running_loop().create_task(self._refresh(here), name="contextengine-refresh")
        await asyncio.shield(here.refreshing)

    async def aclose(self) -> None:
        """Close the shared links."""
        self.closed = True
        running = asyncio.get_running_loop()
        for loop, here in self._here.drain():
            if here.looking is not None and loop.is_running():
                loop.call_soon_threadsafe(here.looking.cancel)
            for link in here.links.values():
                if loop is running:
                    await link.aclose()
                elif loop.is_running():
                    loop.call_soon_threadsafe(link.abort)

    async def _refresh(self, here: _Here) -> None:
        try:
            if await self.topology.refresh(self._ask_soon):
                log.info("Others serve now.", action="topology_changed", nodes=len(self.topology.nodes))
                self._changed()
            self._follow(here)
        except ContextEngineError as error:
            log.debug("No node tells who serves what.", action="topology_unknown", reason=str(error))
        finally:
            here.refreshing = None

    async def _ask(self, node: Node, command: Command) -> Any:
        return await self.to(node).call(*command)

    async def _ask_soon(self, node: Node, command: Command) -> Any:
        try:
            async with asyncio.timeout(ASK_WITHIN):
                return await self._ask(node, command)
        except TimeoutError as error:
            raise Unserved(f"{node.host}:{node.port} does not answer.") from error

    def _begin_here(self) -> _Here:
        here = _Here()
        every = self.topology.ask_every
        if every is not None and not self.closed:
            here.looking = asyncio.get_running_loop().create_task(self._look(every), name="contextengine-look")
        return here

    async def _look(self, every: float) -> None:
        """Find out again and again who serves: who was replaced while nothing was sent there may go on answering."""
        while True:
            await asyncio.sleep(every)
            await self.refresh()

    def _changed(self) -> None:
        self._begin_epoch()
        self._changes += 1

    def _follow(self, here: _Here) -> None:
        """Break this loop's links to nodes that serve nothing any more, who may never answer."""
        if here.knows == self._changes:
            return
        here.knows = self._changes
        serving = set(self.topology.nodes)
        for node, link in here.links.items():
            if node not in serving and not node.sentinel:
                link.drop()
        for own in here.own:
            own.follow(serving)

    def _begin_epoch(self) -> int:
        self.epoch = next(self._epochs)
        return self.epoch

    def _link(self, node: Node, reply_timeout: float) -> Link:
        return Link(
            lambda: self._connection(node),
            reply_timeout=reply_timeout,
            begin_epoch=self._begin_epoch,
            only_primary=self.topology.ask_every is not None and not node.sentinel,
        )

    def _connection(self, node: Node) -> AbstractConnection:
        there = {"host": node.host, "port": node.port} if node.host else {}
        to = self._to_sentinels if node.sentinel else self._to_servers
        return to.connection_class(**{**to.settings, **there})


class OwnLink:
    """A link of one's own for commands that block, to the node that serves a key. `Nodes.own` makes it."""

    def __init__(self, nodes: Nodes, key: bytes, link_to: Callable[[Node], Link]) -> None:
        """Connect later, when there is something to send."""
        self._nodes = nodes
        self._key = key
        self._link_to = link_to
        self._node = nodes.topology.node_of(key)
        self._link = link_to(self._node)

    async def call(self, *command: Argument) -> Any:
        """Send one command to the node that serves the key now, and return its reply. Raises as `Link.call` does."""
        (reply,) = await self._at(self._nodes.topology.node_of(self._key)).submit([command])
        if type(reply) is AskError:
            link = self._at(Node(reply.host or self._node.host, reply.port))
            _, reply = await link.submit([("ASKING",), command])
        if isinstance(reply, Exception):
            raise failure(reply)
        return reply

    def follow(self, serving: Collection[Node]) -> None:
        """Wait no longer for a node that serves nothing any more."""
        if self._node not in serving:
            self._link.drop()

    async def unblock(self) -> None:
        """End the wait of the command that blocks."""
        if (client_id := self._link.client_id) is not None:
            await self._nodes.to(self._node).call("CLIENT", "UNBLOCK", client_id)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._link.aclose()

    def abort(self) -> None:
        """Begin to close the connection without waiting for it."""
        self._link.abort()

    def _at(self, node: Node) -> Link:
        """Return the link, leading to a node."""
        if node != self._node:
            self._link.abort()
            self._node, self._link = node, self._link_to(node)
        return self._link
