"""Waiting for a state: one that only asking can tell, and that of having begun."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")

PAUSE = 0.005


async def under_way(*works: Awaitable[T]) -> list[asyncio.Task[T]]:
    """Return a task for each work, once all have begun: each has come to where it first waits, or to its end."""
    last_began = asyncio.Event()

    async def run(number: int, work: Awaitable[T]) -> T:
        if number == len(works):
            last_began.set()
        return await work

    tasks = [asyncio.create_task(run(number, work)) for number, work in enumerate(works, 1)]
    await last_began.wait()
    return tasks


async def until(reached: Callable[[], Awaitable[object] | bool], *, within: float = 30.0) -> None:
    """Ask again and again until the answer is true.

    Raises:
        TimeoutError: It was not within so many seconds.
    """
    with anyio.fail_after(within):
        while not (await answer if isinstance(answer := reached(), Awaitable) else answer):
            await anyio.sleep(PAUSE)  # no-sleep-ok: the state is another process's, which does not tell when it changes
