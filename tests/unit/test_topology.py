"""Which node serves what: the table of slots, as nodes tell it."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore import StoreUnavailable
from eventstore.redis.commands import Unserved, key_of
from eventstore.redis.topology import Cluster, Node

SEED, OTHER, THIRD = Node("seed", 1), Node("other", 2), Node("third", 3)
FIRST_HALF, SECOND_HALF = b"foo{bar}", b"foo"  # slots 5061 and 12182
HALVES = [[0, 8191, [b"other", 2, b"id"], [b"replica", 9, b"id"]], [8192, 16383, [None, 1, b"id"]]]


def telling(tables: dict[Node, Any]) -> Any:
    """Return how to ask nodes of which some are away."""

    async def ask(node: Node, _command: object) -> Any:
        if node not in tables:
            raise Unserved("away")
        return tables[node]

    return ask


class TestCluster:
    async def test_a_table(self) -> None:
        """Each key is served by the primary of its slot; a node that tells no host of its own is the one asked."""
        cluster = Cluster([SEED])
        assert await cluster.refresh(telling({SEED: HALVES}))
        assert (cluster.node_of(FIRST_HALF), cluster.node_of(SECOND_HALF)) == (OTHER, SEED)
        assert set(cluster.nodes) == {SEED, OTHER}
        assert not await cluster.refresh(telling({SEED: HALVES}))

    async def test_a_part_of_the_slots(self) -> None:
        """A node that knows of all slots is believed before one that does not; else the fullest table is taken."""
        cluster = Cluster([SEED, OTHER])
        part = [[0, 100, [b"third", 3, b"id"]]]
        assert await cluster.refresh(telling({SEED: part, OTHER: HALVES}))
        assert cluster.node_of(FIRST_HALF) == OTHER
        assert await cluster.refresh(telling({SEED: [], OTHER: part}))
        assert cluster.nodes == [THIRD]

    async def test_who_claims_a_slot_is_asked_first(self) -> None:
        """A node named by MOVED knows more than the table."""
        cluster = Cluster([SEED])
        whole = [[0, 16383, [b"third", 3, b"id"]]]
        cluster.moved(THIRD)
        await cluster.refresh(telling({SEED: HALVES, THIRD: whole}))
        assert cluster.nodes == [THIRD]

    async def test_nobody_answers(self) -> None:
        """The table stays as it is when nobody answers, or nobody serves anything."""
        cluster = Cluster([SEED])
        await cluster.refresh(telling({SEED: HALVES}))
        nothing: list[dict[Node, Any]] = [{}, {SEED: []}]
        for tables in nothing:
            with pytest.raises(StoreUnavailable):
                await cluster.refresh(telling(tables))
        assert cluster.node_of(FIRST_HALF) == OTHER

    async def test_addresses_of_another_network(self) -> None:
        """Announced addresses are turned into ones that can be reached, as a client's ``address_remap`` says."""
        cluster = Cluster([SEED], lambda address: ("gateway", address[1] + 100))
        await cluster.refresh(telling({SEED: HALVES}))
        assert cluster.node_of(FIRST_HALF) == Node("gateway", 102)

    def test_together(self) -> None:
        """One command may name keys of one slot."""
        cluster = Cluster([SEED])
        assert cluster.together([b"{a}x", b"{a}y"])
        assert not cluster.together([b"{a}x", b"{b}x"])


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", b"k"), b"k"),
        (("HGET", "k", "f"), b"k"),
        (("EVALSHA", "sha", 2, b"k", b"l", b"v"), b"k"),
        (("XGROUP", "CREATE", b"k", "g", "0"), b"k"),
        (("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", b"k", ">"), b"k"),
        (("XREAD", "BLOCK", 1, "STREAMS", b"k", "0"), b"k"),
        (("TIME",), b""),
        (("CLIENT", "UNBLOCK", 1), b""),
    ],
)
def test_key_of(command: Any, key: bytes) -> None:
    """The first key of a command says where it goes."""
    assert key_of(command) == key
