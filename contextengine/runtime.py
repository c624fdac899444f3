"""What an open engine consists of: a store, its views, the queries over them, and what goes on in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from contextengine.connecting import connect
from contextengine.tally import Tally
from eventstore import (
    ANY,
    Appended,
    ContextDeleted,
    ContextSet,
    Event,
    EventStore,
    InvalidSessionId,
    NotInitialized,
)
from eventstore.logs import get_logger
from eventstore.store import ExpectedVersion
from projections import Projector, Queries, open_views
from projections.past import Past, past
from projections.session import GLOBAL
from workers import CompactionWorker, Compactor, ProjectionWorker
from workers.compaction import CompactionDefaults
from workers.following import FeedWorker, default_name

log = get_logger("engine")

DRAIN = 5.0
"""Seconds for which a closing engine lets its worker finish."""


class Runtime:
    """The open parts of one engine."""

    def __init__(self, store: EventStore, defaults: CompactionDefaults, *, workers: bool) -> None:
        """Build on an open store. The background begins with `keep_working`."""
        self.store = store
        self.views = open_views(store)
        self.projector = Projector(store, self.views)
        self.queries = Queries(store, self.views, self.projector)
        self.compactor = Compactor(store, self.views, defaults)
        self.tally = Tally(self.queries)
        self._works = workers
        self._name = f"{default_name()}-{id(self):x}"
        self._counting = _Background("tally", self.tally.keep_fresh)
        self._workers: dict[str, _Working] = {}
        if workers:
            self._workers["worker"] = _Working("worker", self._projection_worker)
        if defaults.config.auto_compress_enabled:
            self.compact_in_background()

    @classmethod
    async def open(
        cls, target: Any, defaults: CompactionDefaults, *, fallback: str | None, workers: bool, **options: Any
    ) -> Runtime:
        """Connect, and start the background. Raises as `connect` does."""
        runtime = cls(await connect(target, fallback=fallback, **options), defaults, workers=workers)
        await runtime.tally.begin()
        runtime.keep_working()
        return runtime

    def compact_in_background(self) -> None:
        """See to it that a compaction worker runs in this process, unless workers run elsewhere."""
        if self._works and "compaction worker" not in self._workers:
            self._workers["compaction worker"] = _Working("compaction worker", self._compaction_worker)

    async def append(self, session_id: str, *events: Event, expected_version: ExpectedVersion = ANY) -> Appended:
        """Append to the log, and count it. Raises as `EventStore.append` does.

        Raises:
            InvalidSessionId: The id is that of the global context, and the event is no context's.
        """
        if session_id == GLOBAL and not all(isinstance(event, ContextSet | ContextDeleted) for event in events):
            raise InvalidSessionId(f"{GLOBAL!r} is where the global context is kept: choose another session id.")
        appended = await self.store.append(session_id, events, expected_version=expected_version)
        self.tally.count(appended, events)
        return appended

    def keep_working(self) -> None:
        """Start what goes on in the background, or start it again where its event loop has gone."""
        self._counting.keep()
        for working in self._workers.values():
            working.keep()

    @property
    def worker_failures(self) -> dict[str, str]:
        """Why workers inside this process have died, for those that have."""
        failures = {name: working.failure for name, working in self._workers.items()}
        return {name: f"{type(error).__name__}: {error}" for name, error in failures.items() if error is not None}

    async def close(self) -> None:
        """Let the workers finish what they have in hand, for `DRAIN` seconds at most, then close the store."""
        await self._counting.end(0)
        await asyncio.gather(*(working.stop() for working in self._workers.values()))
        await asyncio.gather(*(working.end(DRAIN) for working in self._workers.values()))
        await self.store.aclose()

    def _projection_worker(self) -> FeedWorker:
        return ProjectionWorker(self.store, self.views, name=self._name)

    def _compaction_worker(self) -> FeedWorker:
        return CompactionWorker(self.store, self.compactor, name=self._name)


class _Background:
    """A task that is started again when it was cancelled with others, or its event loop has gone."""

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._name = name
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def keep(self) -> None:
        task = self._task
        if task is None or task.cancelled() or task.get_loop().is_closed():
            self._task = asyncio.get_running_loop().create_task(self._work(), name=f"contextengine-{self._name}")
            self._task.add_done_callback(self._report)

    @property
    def failure(self) -> BaseException | None:
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
        if not task.cancelled() and (error := task.exception()):
            log.error("A background task died.", action="background_died", task=self._name, exc_info=error)


class _Working(_Background):
    """A worker in the background."""

    def __init__(self, name: str, make: Callable[[], FeedWorker]) -> None:
        super().__init__(name, self._run)
        self._make = make
        self._worker: FeedWorker | None = None

    async def stop(self) -> None:
        """Ask the worker to finish what it has in hand."""
        if self._worker is not None:
            await self.on_its_loop(self._worker.stop)

    async def _run(self) -> None:
        self._worker = self._make()
        await self._worker.run()


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

    async def _past(
        self, session_id: str, at_version: int | None, at: datetime | None, *, originals: bool = False
    ) -> Past:
        """Return a session as it was at a version or at a time. Raises as `projections.past.past` does."""
        return await past(self._here().store, session_id, at_version=at_version, at=at, originals=originals)
