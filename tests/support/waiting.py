"""Waiting for a state that only asking can tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

PAUSE = 0.005


async def until(reached: Callable[[], Awaitable[object] | bool], *, within: float = 30.0) -> None:
    """Ask again and again until the answer is true.

    Raises:
        TimeoutError: It was not within so many seconds.
    """
    with anyio.fail_after(within):
        while not (await answer if isinstance(answer := reached(), Awaitable) else answer):
            await anyio.sleep(PAUSE)  # no-sleep-ok: the state is another process's, which does not tell when it changes
