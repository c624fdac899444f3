"""Several jobs under way at once, and their results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def side_by_side(jobs: Iterable[Coroutine[Any, Any, T]], at_once: int) -> AsyncGenerator[T, None]:
    """Give the results of jobs in their order, so many under way at once. Raise what the first to fail does."""
    window: deque[asyncio.Task[T]] = deque()
    waiting = iter(jobs)
    try:
        while True:
            while len(window) < at_once and (job := next(waiting, None)) is not None:
                window.append(asyncio.create_task(job))
            if not window:
                return
            yield await window.popleft()
    finally:
        for task in window:
            task.cancel()  # of one that has failed already, asyncio says nothing then
