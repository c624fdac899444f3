"""Room on the way to the server: who comes when it is full waits, so that a slow server does not fill the memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

MOST_ON_THE_WAY = 64 * 1024 * 1024
"""Bytes of appends that one event loop has under way at most, apart from one that is larger than what is left."""
PER_APPEND = 1024
"""Bytes that an append costs beside its events."""


class Room:
    """What is left of the room. Those who wait get it in the order in which they came."""

    def __init__(self, most: int) -> None:
        """Begin empty."""
        self.taken = 0
        """How many have taken room and not given it back."""
        self._left = most
        self._waiting: OrderedDict[asyncio.Future[None], int] = OrderedDict()

    def take_now(self, size: int) -> bool:
        """Take room if there is some and nobody waits for it; return whether there was."""
        if self._waiting or self._left <= 0:
            return False
        self.taken += 1
        self._left -= size
        return True

    async def take(self, size: int) -> None:
        """Wait until there is room, and take some: perhaps more than is left, for else nothing large would ever go."""
        if self.take_now(size):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = size
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.pop(turn, None)
            else:  # it was this one's turn already
                self.give_back(size)
            raise

    def give_back(self, size: int) -> None:
        """Let in who waits, as far as there is room; what they take is counted at once, not when they wake up."""
        self.taken -= 1
        self._left += size
        while self._waiting and self._left > 0:
            turn, wanted = self._waiting.popitem(last=False)
            if not turn.done():
                self.taken += 1
                self._left -= wanted
                turn.set_result(None)
