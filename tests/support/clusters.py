"""Real clusters for tests: nodes on this machine, joined without any tool, whose slots move and whose primaries die."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from support.servers import STARTS_WITHIN, Server, binaries

T = TypeVar("T")

PAUSE = 0.01
SINGLE_STEPS = 10
"""How many keys of a slot move one by one; the others follow in hundreds."""
OLDEST = "redis-6.2"
"""It has neither ADDSLOTSRANGE nor a choice of the bus's port."""
_untried = random.Random().sample(range(10_000, 32_000), 22_000)


def cluster_binaries() -> dict[str, str]:
    """Return the binaries of which these clusters can be made."""
    return {kind: path for kind, path in binaries().items() if kind != OLDEST}


class Node(Server):
    """A node of a cluster, on a port and on a socket of its own."""

    def __init__(self, binary: str, directory: Path, **settings: str) -> None:
        self.port, bus = free_ports(2)
        super().__init__(
            binary,
            directory,
            port=str(self.port),
            bind="127.0.0.1",
            cluster_enabled="yes",
            cluster_port=str(bus),
            cluster_announce_ip="127.0.0.1",
            cluster_config_file="nodes.conf",
            **settings,
        )
        self._bus = bus

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER", "MYID"))

    def meet(self, other: Node) -> None:
        """Introduce another node."""
        self.ask("CLUSTER", "MEET", "127.0.0.1", other.port, other._bus)

    def knows(self, state: str) -> bool:
        """Whether CLUSTER INFO says so; not while it does not answer."""
        with contextlib.suppress(RedisError, OSError):
            return state in self.ask("CLUSTER", "INFO")
        return False


class Cluster:
    """A cluster of primaries with equal shares of the slots, and as many replicas of each as wanted.

    Args:
        binary: What to run.
        primaries: How many.
        replicas: Of each primary.
        settings: Overrides of the nodes' configuration.
    """

    def __init__(self, binary: str, *, primaries: int = 3, replicas: int = 0, **settings: str) -> None:
        self._path = Path(tempfile.mkdtemp(prefix="ce"))
        self._settings = {"cluster_node_timeout": "1500"} | settings
        nodes = []
        for number in range(primaries * (1 + replicas)):
            directory = self._path / str(number)
            directory.mkdir()
            nodes.append(Node(binary, directory, **self._settings))
        self.nodes = nodes
        self.primaries = nodes[:primaries]
        self.replicas = nodes[primaries:]
        """The replicas of the first primary, of the second ..., of the first again, and so on."""

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.address for node in self.primaries)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all nodes and join them; wait until every one of them serves."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all nodes."""
        for node in self.nodes:
            node.stop()
        shutil.rmtree(self._path, ignore_errors=True)

    def mend(self) -> None:
        """Start the nodes that have died, and wait until all is well."""
        for node in self.nodes:
            if not node.runs:
                node.start()
        self._wait_until_well()

    def owner(self, key: bytes, *, apart_from: Node | None = None) -> Node:
        """Return the primary that serves a key, as the first of the nodes knows it that answers."""
        slot = key_slot(key)
        for node in self.nodes:
            if node is apart_from:
                continue
            with contextlib.suppress(RedisError, OSError):
                for first, last, (_, port, *_), *_ in node.ask("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(other for other in self.nodes if other.port == port)
        raise AssertionError(f"nobody serves slot {slot}")

    def moving(self, key: bytes, there: Node) -> Iterator[int]:
        """Move a key's slot to another primary. Give a number after each step, to do something in between."""
        slot, here = key_slot(key), self.owner(key)
        there.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", here.id)
        here.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", there.id)
        for step in itertools.count():
            yield step
            keys = here.ask("CLUSTER", "GETKEYSINSLOT", slot, 1 if step < SINGLE_STEPS else 100)
            if not keys:
                break
            here.ask("MIGRATE", "127.0.0.1", there.port, "", 0, 5000, "KEYS", *keys)
        for node in (there, here):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", there.id)

    def replicas_are_level(self, primary: Node) -> None:
        """Wait until a primary's replica has all that the primary had when this was called."""
        offset = primary.ask("INFO", "replication")["master_repl_offset"]
        replicas = [node for node in self.nodes if node.says(f"master_port:{primary.port}")]
        assert replicas
        eventually(lambda: all(node.ask("INFO", "replication")["slave_repl_offset"] >= offset for node in replicas))

    def errors(self, name: str) -> int:
        """Return how often the nodes have answered with an error of this name."""
        stats = [node.ask("INFO", "errorstats") for node in self.nodes]
        return sum(int(found.get(f"errorstat_{name}", {"count": 0})["count"]) for found in stats)

    def _start(self) -> None:
        for node in self.nodes:
            node.start()
        share = REDIS_CLUSTER_HASH_SLOTS // len(self.primaries)
        starts = [number * share for number in range(len(self.primaries))]
        for epoch, (node, first, end) in enumerate(
            zip(self.primaries, starts, [*starts[1:], REDIS_CLUSTER_HASH_SLOTS], strict=True), start=1
        ):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for other in self.nodes[1:]:
            self.nodes[0].meet(other)
        everybody = f"cluster_known_nodes:{len(self.nodes)}\r\n"
        eventually(lambda: all(node.knows(everybody) for node in self.nodes))
        for replica, primary in zip(self.replicas, itertools.cycle(self.primaries), strict=False):
            eventually(partial(_replicates, replica, primary))
        self._wait_until_well()

    def _wait_until_well(self) -> None:
        eventually(lambda: all(node.knows("cluster_state:ok") for node in self.nodes))
        followed = len(self.replicas)
        eventually(lambda: sum(node.says("master_link_status:up") for node in self.nodes) == followed)


def eventually(reached: Callable[[], T]) -> T:
    """Ask again and again until the answer is true, and return it."""
    deadline = time.monotonic() + STARTS_WITHIN
    while not (answer := reached()):
        assert time.monotonic() < deadline, "the cluster does not come to be as wanted"
        time.sleep(PAUSE)  # no-sleep-ok: the state is other processes', who do not tell when it changes
    return answer


def _replicates(replica: Node, primary: Node) -> bool:
    """Make a node a replica, as soon as it knows the other."""
    with contextlib.suppress(RedisError):
        replica.ask("CLUSTER", "REPLICATE", primary.id)
        return True
    return False


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens, each for the first time in this process.

    They lie below those that systems give to whoever connects: such a port may be some connection's own at any moment.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = _untried.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports
