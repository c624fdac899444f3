"""Who the primary is: what sentinels tell, some of whom know less than others, or do not answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventstore import ServerUnfit, StoreRefused, StoreUnavailable
from eventstore.redis.commands import Unserved
from eventstore.redis.sentinels import Sentinels
from eventstore.redis.topology import Node

WATCHING = [Node(f"sentinel-{number}", 26379, sentinel=True) for number in range(3)]
A, B, C = Node("a", 1), Node("b", 2), Node("c", 3)
AWAY = None
"""What one tells who takes connections and never answers."""


class World:
    """What sentinels know, which servers are primaries, and which do not answer."""

    def __init__(self, *told: Any, primaries: tuple[Node, ...] = (), away: tuple[Node, ...] = ()) -> None:
        self.told = dict(zip(WATCHING, told, strict=True))
        self.primaries = primaries
        self.away = away

    async def ask(self, node: Node, command: Any) -> Any:
        """Answer as that node does."""
        if node in self.away:
            raise Unserved("away")
        if not node.sentinel:
            return b"role:master\r\n" if node in self.primaries else b"role:slave\r\n"
        told = self.told[node]
        if told is AWAY:
            await asyncio.Event().wait()
        if isinstance(told, Exception):
            raise told
        epoch, primary = told
        if command[1] == "MASTER":
            return [b"name", b"mymaster", b"ip", b"of old", b"config-epoch", b"%d" % epoch]
        return [primary.host.encode(), b"%d" % primary.port]


@pytest.fixture
def sentinels() -> Sentinels:
    """Three of them, of which nobody has been asked."""
    return Sentinels([Node(node.host, node.port) for node in WATCHING], "mymaster")


class TestWhoIsBelieved:
    async def test_the_primary(self, sentinels: Sentinels) -> None:
        """It serves every key; who asks again is told that nothing changed."""
        assert await sentinels.refresh(World((0, A), (0, A), (0, A)).ask)
        assert (sentinels.node_of(b"key"), sentinels.nodes) == (A, [A])
        assert not await sentinels.refresh(World((0, A), (0, A), (0, A)).ask)
        assert sentinels.together([b"{a}x", b"{b}y"])

    @pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
    async def test_the_newest_configuration(self, sentinels: Sentinels, order: tuple[int, ...]) -> None:
        """One who knows of a failover is believed against two who do not yet."""
        told = [(2, B), (1, A), (1, A)]
        assert await sentinels.refresh(World(*(told[number] for number in order)).ask)
        assert sentinels.nodes == [B]

    async def test_who_was_cut_off(self, sentinels: Sentinels) -> None:
        """Once a failover is known, nobody goes back, though all who can be asked have not heard of it."""
        await sentinels.refresh(World((2, B), (2, B), (2, B)).ask)
        assert not await sentinels.refresh(World((1, A), Unserved("away"), Unserved("away"), primaries=(A,)).ask)
        assert not await sentinels.refresh(World((1, A), (1, A), (1, A), primaries=(A, B)).ask)
        assert sentinels.nodes == [B]

    async def test_back_again(self, sentinels: Sentinels) -> None:
        """A server that becomes the primary anew is one."""
        for epoch, primary in enumerate([A, B, A]):
            assert await sentinels.refresh(World(*[(epoch, primary)] * 3).ask)
            assert sentinels.nodes == [primary]

    async def test_sentinels_that_were_set_up_anew(self, sentinels: Sentinels) -> None:
        """Who begins to count again is believed when most do, and who was the primary does not serve."""
        await sentinels.refresh(World((5, B), (5, B), (5, B)).ask)
        assert await sentinels.refresh(World((0, C), (0, C), Unserved("away"), primaries=(C,)).ask)
        assert sentinels.nodes == [C]
        assert await sentinels.refresh(World((1, A), (1, A), (1, A)).ask)

    async def test_who_has_just_been_made_primary(self, sentinels: Sentinels) -> None:
        """Where it does not answer for a moment, and nor does the sentinel that made it one, nobody goes back.

        The others, most as they are, may not have heard of it yet. All of them begin to count again only together.
        """
        await sentinels.refresh(World((5, B), (4, A), (4, A)).ask)
        for first in (Unserved("away"), AWAY):
            assert not await sentinels.refresh(World(first, (4, A), (4, A), primaries=(A,), away=(B,)).ask)
        assert sentinels.nodes == [B]
        assert await sentinels.refresh(World((0, C), (0, C), (0, C), primaries=(C,), away=(B,)).ask)
        assert sentinels.nodes == [C]


class TestWhoAnswers:
    async def test_the_silent_are_not_waited_for(self, sentinels: Sentinels) -> None:
        """One that never answers holds nobody up while most do."""
        async with asyncio.timeout(20):
            assert await sentinels.refresh(World(AWAY, (0, A), (0, A)).ask)
        assert sentinels.nodes == [A]

    async def test_one_is_enough(self, sentinels: Sentinels) -> None:
        """One that answers will do."""
        assert await sentinels.refresh(World(Unserved("away"), Unserved("away"), (0, A)).ask)
        assert sentinels.nodes == [A]

    @pytest.mark.parametrize(
        ("answer", "expected", "words"),
        [
            (Unserved("away"), StoreUnavailable, "away"),
            (StoreRefused("Redis refused: No such master with that name."), ServerUnfit, "'mymaster'"),
            (StoreRefused("Redis refused: unknown command 'SENTINEL'."), ServerUnfit, "no sentinel"),
            (StoreRefused("Redis refused: NOPERM."), StoreRefused, "NOPERM"),
        ],
        ids=["away", "another name", "no sentinels", "no permission"],
    )
    async def test_nobody_tells(
        self, sentinels: Sentinels, answer: Exception, expected: type[Exception], words: str
    ) -> None:
        """What is known stays known, and the error says why nothing is."""
        await sentinels.refresh(World((0, A), (0, A), (0, A)).ask)
        with pytest.raises(expected, match=words):
            await sentinels.refresh(World(answer, answer, answer).ask)
        assert sentinels.nodes == [A]

    async def test_addresses_of_another_network(self) -> None:
        """What sentinels tell is turned into what can be reached."""
        sentinels = Sentinels(WATCHING, "mymaster", lambda address: ("gateway", address[1] + 100))
        await sentinels.refresh(World((0, B), (0, B), (0, B)).ask)
        assert sentinels.nodes == [Node("gateway", 102)]
