"""Which node serves which key: a single server serves all, the nodes of a cluster serve some slots each.

`eventstore.redis.sentinels` has the third case: a primary that sentinels watch, and replace when it dies.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from eventstore.errors import ServerUnfit, StoreRefused, StoreUnavailable
from eventstore.redis.commands import Command, Unserved


class Node(NamedTuple):
    """A server's address.

    Attributes:
        host: Its name or number; the empty one where the settings of the connections tell.
        port: Its port.
        sentinel: Whether it is a sentinel, which serves no keys and is told who serves them.
    """

    host: str
    port: int
    sentinel: bool = False


Ask: TypeAlias = Callable[[Node, Command], Awaitable[Any]]
"""How to send a node a command and get its reply."""


class Topology(Protocol):
    """Which nodes there are, and which of them serves a key."""

    nodes: Sequence[Node]
    """The nodes that serve something."""

    replaces: bool
    """Whether another node may serve in a node's place, so that it is worth while to wait and to ask again."""

    ask_every: float | None
    """Seconds after which to ask anew though nothing has failed; None where who is replaced tells it."""

    def node_of(self, key: bytes) -> Node:
        """Return the node that serves a key; the empty key stands for commands that have none."""
        ...

    def together(self, keys: Iterable[bytes]) -> bool:
        """Whether one command may name all of these keys."""
        ...

    def moved(self, node: Node) -> None:
        """Take note that a node claims a slot for which another was asked: it knows more than the table."""
        ...

    def node_at(self, host: str, port: int, asked: Node) -> Node:
        """Return the node at an address that another one, which was asked, has told; no host means: its own."""
        ...

    async def refresh(self, ask: Ask) -> bool:
        """Find out anew which node serves what, and return whether that has changed.

        Raises:
            StoreUnavailable: No node answers.
        """
        ...


class OneServer:
    """A single server: the one node serves everything."""

    replaces: bool = False
    ask_every: float | None = None

    def __init__(self) -> None:
        """Need no address: where the server is stands in the settings of its connections."""
        self._node = Node("", 0)
        self.nodes: Sequence[Node] = [self._node]

    def node_of(self, _key: bytes) -> Node:
        """Return the server."""
        return self._node

    def together(self, _keys: Iterable[bytes]) -> bool:
        """Return True."""
        return True

    def moved(self, node: Node) -> None:
        """Do nothing: only nodes of a cluster say so, and `fitness` refuses to take one for a single server."""

    def node_at(self, _host: str, _port: int, asked: Node) -> Node:
        """Return the server: there is no other."""
        return asked

    async def refresh(self, _ask: Ask) -> bool:
        """Return False: it is where it is."""
        return False


class Cluster:
    """A Redis Cluster: a table tells for each slot which node serves it.

    Args:
        seeds: Nodes to ask for the table at first. Afterwards all nodes that are known are asked.
        remap: Turns an address that the cluster announces into one that can be reached from here.
    """

    replaces: bool = True
    ask_every: float | None = None

    def __init__(
        self, seeds: Iterable[Node], remap: Callable[[tuple[str, int]], tuple[str, int]] | None = None
    ) -> None:
        """Know nothing yet: `refresh` asks."""
        self._seeds = list(seeds)
        self._remap = remap
        self._knows_best: Node | None = None
        # A slot that nobody serves stands with some node, who then answers that it does not serve it.
        self._table: list[Node] = [self._seeds[0]] * REDIS_CLUSTER_HASH_SLOTS
        self.nodes: Sequence[Node] = self._seeds

    def node_of(self, key: bytes) -> Node:
        """Return the node that serves a key's slot."""
        return self._table[key_slot(key)]

    def together(self, keys: Iterable[bytes]) -> bool:
        """Whether the keys live in one slot; that one node serves two slots is not enough."""
        return len(set(map(key_slot, keys))) <= 1

    def moved(self, node: Node) -> None:
        """Ask this node first when the table is asked for again."""
        self._knows_best = node

    async def refresh(self, ask: Ask) -> bool:
        """Take the table of the first node that knows who serves all slots; else the fullest one."""
        found: list[dict[int, Node]] = []
        failure: Unserved | None = None
        for node in self._whom_to_ask():
            try:
                found.append(self._parsed(await ask(node, ("CLUSTER", "SLOTS")), node))
            except Unserved as error:
                failure = failure or error
                continue
            except StoreRefused as refused:
                if "cluster support disabled" in str(refused):
                    raise ServerUnfit("This server is no node of a cluster: open it with redis://.") from refused
                raise
            if len(found[-1]) == REDIS_CLUSTER_HASH_SLOTS:
                break
        served = max(found, key=len, default={})
        if not served:
            raise failure or StoreUnavailable("No node of the cluster serves any slot.")
        return self._take(served)

    def _whom_to_ask(self) -> Iterable[Node]:
        first = [] if self._knows_best is None else [self._knows_best]
        self._knows_best = None
        known = random.sample(self.nodes, len(self.nodes))  # so that not all clients ask the same one
        return list(dict.fromkeys([*first, *known, *self._seeds]))

    def _parsed(self, ranges: Any, asked: Node) -> dict[int, Node]:
        """Return who serves each slot. A node that does not know its own address is the one that was asked."""
        served: dict[int, Node] = {}
        for first, last, primary, *_replicas in ranges:
            node = self.node_at((primary[0] or b"").decode(), primary[1], asked)
            served.update(dict.fromkeys(range(first, last + 1), node))
        return served

    def node_at(self, host: str, port: int, asked: Node) -> Node:
        """Return the node at an address that another one has told."""
        host = asked.host if host in {"", "?"} else host
        return Node(*self._remap((host, port))) if self._remap else Node(host, port)

    def _take(self, served: dict[int, Node]) -> bool:
        """Replace the table, and return whether it differs."""
        anyone = next(iter(served.values()))
        table = [served.get(slot, anyone) for slot in range(REDIS_CLUSTER_HASH_SLOTS)]
        changed = table != self._table
        self._table, self.nodes = table, list(dict.fromkeys(table))
        return changed
