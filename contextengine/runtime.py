"""What an open engine consists of: a store, its views, the queries over them, and a worker inside this process."""

from __future__ import annotations

import asyncio
from typing import Any

from contextengine.connecting import connect
from eventstore.errors import NotInitialized
from eventstore.logs import get_logger
from eventstore.store import EventStore
from projections import Projector, Queries, open_views
from workers.projection import ProjectionWorker, default_name

log = get_logger("engine")

DRAIN = 5.0


class Runtime:
    """The open parts of one engine."""

    def __init__(self, store: EventStore, *, workers: bool) -> None:
        """Build on an open store. The worker starts with the first use on an event loop."""
        self.store = store
        self.views = open_views(store)
        self.queries = Queries(store, self.views, Projector(store, self.views))
        self._workers = workers
        self._worker: ProjectionWorker | None = None
        self._worker_task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, target: Any, *, fallback: str | None, workers: bool, **options: Any) -> Runtime:
        """Connect, and start the worker. Raises as `connect` does."""
        runtime = cls(await connect(target, fallback=fallback, **options), workers=workers)
        runtime.keep_working()
        return runtime

    def keep_working(self) -> None:
        """Start the worker, or start it again if it was cancelled with others or its event loop has gone."""
        task = self._worker_task
        if not self._workers or (task is not None and not task.cancelled() and not task.get_loop().is_closed()):
            return
        name = f"{default_name()}-{id(self):x}"
        self._worker = ProjectionWorker(self.store, self.views, name=name)
        self._worker_task = asyncio.get_running_loop().create_task(self._worker.run(), name="contextengine-worker")
        self._worker_task.add_done_callback(_report)

    @property
    def worker_failure(self) -> str | None:
        """Why the worker inside this process has died, None if it has not."""
        task = self._worker_task
        if task is None or not task.done() or task.cancelled():
            return None
        error = task.exception()
        return f"{type(error).__name__}: {error}" if error else None

    async def close(self) -> None:
        """Let the worker finish what it has in hand, for `DRAIN` seconds at most, then close the store."""
        task, worker = self._worker_task, self._worker
        if task is not None and worker is not None and not task.done():
            if task.get_loop() is asyncio.get_running_loop():
                await worker.stop()
                _, unfinished = await asyncio.wait([task], timeout=DRAIN)
                if unfinished:
                    task.cancel()
                    await asyncio.wait([task])
            elif task.get_loop().is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(worker.stop(), task.get_loop()))
        await self.store.aclose()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("The worker in this process died.", action="worker_died", exc_info=error)


class Open:
    """The part of the engine that is open or not: what each of its other parts stands on."""

    _runtime: Runtime | None = None

    def _here(self) -> Runtime:
        """Return the open parts, for use on the running event loop.

        Raises:
            NotInitialized: `initialize` has not been awaited, or the engine is closed.
        """
        if self._runtime is None:
            raise NotInitialized("The engine is not open: await engine.initialize() first, or use 'async with'.")
        self._runtime.keep_working()
        return self._runtime
