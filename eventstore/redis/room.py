"""Room on the way to the server: who comes when it is full waits, so that a slow server does not fill the memory."""

from __future__ import annotations

import asyncio
from collections import deque

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
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_now(self, size: int) -> bool:
        """Take room if there is some and nobody waits for it; return whether there was."""
        if self._waiting or self._left <= 0:
            return False
        self.taken += 1
        self._left -= size
        return True

    async def take(self, size: int) -> None:
        """Wait until there is room, and take some: perhaps more than is left, for else nothing large would ever go."""
        if self._waiting or self._left <= 0:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._let_in()  # if it was this one's turn already, it is the next one's now
                raise
        self.taken += 1
        self._left -= size
        self._let_in()

    def give_back(self, size: int) -> None:
        """Let the next one in."""
        self.taken -= 1
        self._left += size
        if self._waiting:
            self._let_in()

    def _let_in(self) -> None:
        """Tell the first who waits that there is room, if there is; it tells the next."""
        while self._waiting and self._waiting[0].cancelled():
            self._waiting.popleft()
        if self._waiting and self._left > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
