"""What goes on in the background of an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from eventstore.logs import get_logger
from workers.following import FeedWorker

log = get_logger("engine")


class Background:
    """A task that is started again when it was cancelled with others, or its event loop has gone."""

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[], None]) -> None:
        """Take what to do, and whom to tell when it has ended."""
        self._name = name
        self._ended = ended
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def keep(self) -> None:
        """Start the task if it does not run, unless it has failed."""
        task = self._task
        if task is None or task.cancelled() or task.get_loop().is_closed():
            self._task = asyncio.get_running_loop().create_task(self._work(), name=f"contextengine-{self._name}")
            self._task.add_done_callback(self._report)

    @property
    def failure(self) -> BaseException | None:
        """Why the task has failed; None if it has not."""
        task = self._task
        return None if task is None or not task.done() or task.cancelled() else task.exception()

    async def on_its_loop(self, do: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run something where the task lives, unless it lives no more."""
        task = self._task
        if task is None or task.done() or not task.get_loop().is_running():
            return
        if task.get_loop() is asyncio.get_running_loop():
            await do()
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(do(), task.get_loop()))

    async def end(self, within: float) -> None:
        """Wait for the task, and cancel it if it has not ended in time."""
        task = self._task
        if task is None or task.done() or not task.get_loop().is_running():
            return
        if task.get_loop() is not asyncio.get_running_loop():
            task.get_loop().call_soon_threadsafe(task.cancel)
            return
        _, unfinished = await asyncio.wait([task], timeout=within)
        if unfinished:
            task.cancel()
            await asyncio.wait([task])

    def _report(self, task: asyncio.Task[None]) -> None:
        self._ended()
        if not task.cancelled() and (error := task.exception()):
            log.error("A background task died.", action="background_died", task=self._name, exc_info=error)


class Working(Background):
    """A worker in the background."""

    def __init__(self, name: str, make: Callable[[], FeedWorker], ended: Callable[[], None]) -> None:
        """Take how to make the worker, and whom to tell when it has ended."""
        super().__init__(name, self._run, ended)
        self._make = make
        self._worker: FeedWorker | None = None

    async def stop(self) -> None:
        """Ask the worker to finish what it has in hand."""
        if self._worker is not None:
            await self.on_its_loop(self._worker.stop)

    async def _run(self) -> None:
        self._worker = self._make()
        await self._worker.run()
