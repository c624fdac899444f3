"""Several jobs under way at once, and their results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")


async def side_by_side(jobs: Iterable[Coroutine[Any, Any, T]], at_once: int) -> AsyncGenerator[T, None]:
    """Give the results of jobs in their order, so many under way at once. Raise what the first to fail does."""
    window: deque[asyncio.Task[T]] = deque()
    waiting = iter(jobs)
    try:
        while True:
            beginning = list(islice(waiting, at_once - len(window)))
            if len(beginning) == 1 and not window:
                yield await beginning[0]  # who is alone needs no task
                continue
            window.extend(map(asyncio.create_task, beginning))
            if not window:
                return
            yield await window.popleft()
    finally:
        for task in window:
            task.cancel()  # of one that has failed already, asyncio says nothing then
