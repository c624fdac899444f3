"""Jobs side by side: in order, so many at once, and the first failure is the only one."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from typing import Any

from projections.side_by_side import side_by_side


class Failed(Exception):
    """What a job may come to."""


async def test_results_come_in_order_and_so_many_jobs_are_under_way() -> None:
    """A job begins when an earlier one's result has been taken, and one that is done early waits for its turn."""
    begun, go_on = list[int](), [asyncio.Event() for _ in range(5)]

    async def job(number: int) -> int:
        begun.append(number)
        await go_on[number].wait()
        return number

    async with aclosing(side_by_side(map(job, range(5)), 2)) as results:
        go_on[1].set()
        asyncio.get_running_loop().call_soon(go_on[0].set)
        assert await anext(results) == 0
        assert begun == [0, 1]
        for event in go_on:
            event.set()
        assert [result async for result in results] == [1, 2, 3, 4]


async def test_the_first_failure_is_raised_and_no_other_is_heard_of() -> None:
    """What else is under way is cancelled; where it has failed as well, asyncio does not complain."""
    complaints, cancelled = list[dict[str, Any]](), asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))

    async def fail() -> None:
        raise Failed

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def fails() -> bool:
        """Let go of what was raised, whose frames know the jobs."""
        try:
            async with aclosing(side_by_side((job() for job in (fail, fail, wait)), 3)) as results:
                await anext(results)
        except Failed:
            return True
        return False

    assert await fails()
    async with asyncio.timeout(5):
        await cancelled.wait()
    gc.collect()
    assert complaints == []
