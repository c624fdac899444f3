"""What an open engine consists of: a store, its views, the queries over them, and what goes on in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from contextengine.background import Background, Working
from contextengine.connecting import connect
from contextengine.tally import Tally
from eventstore import (
    ANY,
    Append,
    Appended,
    ContextDeleted,
    ContextEngineError,
    ContextSet,
    Durability,
    DurabilityNotReached,
    Event,
    EventStore,
    InvalidSessionId,
    NotInitialized,
)
from eventstore.ids import check_session_id
from eventstore.store import ExpectedVersion
from projections import Projector, Queries, open_views
from projections.past import Past, past
from projections.session import GLOBAL, begins_a_session
from workers import CompactionWorker, Compactor, ProjectionWorker
from workers.compaction import CompactionDefaults
from workers.following import FeedWorker, default_name

DRAIN = 5.0
"""Seconds for which a closing engine lets its worker finish."""
MOST_KNOWN = 10_000
"""Sessions that an engine remembers to exist."""


class Runtime:
    """The open parts of one engine."""

    def __init__(self, store: EventStore, defaults: CompactionDefaults, *, workers: bool) -> None:
        """Build on an open store. The background begins with `keep_working`."""
        self.store = store
        self.views = open_views(store)
        self.projector = Projector(store, self.views)
        self.queries = Queries(store, self.views, self.projector)
        self.compactor = Compactor(store, self.views, defaults)
        self.tally = Tally(self.queries, configured=self.compact_in_background)
        self._known: set[str] = set()
        self._works = workers
        self._name = f"{default_name()}-{id(self):x}"
        self._home: asyncio.AbstractEventLoop | None = None
        self._counting = Background("tally", self.tally.keep_fresh, self._not_all_work)
        self._workers: dict[str, Working] = {}
        if workers:
            self._workers["worker"] = Working("worker", self._projection_worker, self._not_all_work)
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
            name = "compaction worker"
            self._workers[name] = Working(name, self._compaction_worker, self._not_all_work)
            self._not_all_work()

    async def append(
        self,
        session_id: str,
        *events: Event,
        expected_version: ExpectedVersion = ANY,
        begins: bool = False,
        durability: str | None = None,
    ) -> Appended:
        """Append to the log, and count it. Raises as `EventStore.append` does.

        Args:
            session_id: The session.
            events: The events.
            expected_version: What the session must be.
            begins: Whether the caller knows that the session begins with it, though its stream does not.
            durability: The level to wait for; None for the store's.

        Raises:
            InvalidSessionId: The id is that of the global context, and the event is no context's.
        """
        if type(session_id) is not str:
            check_session_id(session_id)  # before it is compared, for others compare as they like
        if session_id == GLOBAL and not all(isinstance(event, ContextSet | ContextDeleted) for event in events):
            raise InvalidSessionId(f"{GLOBAL!r} is where the global context is kept: choose another session id.")
        tally = self.tally
        tally.begun += 1
        try:
            appended = await self.store.append(
                session_id, events, expected_version=expected_version, durability=durability
            )
            self._note(appended, events, begins=begins)
        except DurabilityNotReached as stored:
            self._note(_of(stored), events, begins=begins)
            raise
        finally:
            tally.ended += 1
        return appended

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | ContextEngineError]:
        """Append to several logs, and count it. Raises as `EventStore.append_many` does."""
        self.tally.begun += 1
        try:
            results = await self.store.append_many(appends)
            for append, result in zip(appends, results, strict=True):
                appended = _of(result) if isinstance(result, DurabilityNotReached) else result
                if isinstance(appended, Appended):
                    self.tally.count(appended, append.events)
        finally:
            self.tally.ended += 1
        return results

    async def exists(self, session_id: str) -> bool:
        """Return whether there is a session. Once there is, there is until it is forgotten: so it is asked for once."""
        check_session_id(session_id)
        if session_id not in self._known and await self.queries.exists(session_id):
            self._remember(session_id)
        return session_id in self._known

    def _note(self, appended: Appended, events: Sequence[Event], *, begins: bool) -> None:
        """Take note of what is in the log."""
        session_id = appended.session_id
        self.tally.count(appended, events, begins=begins)
        if session_id not in self._known and any(begins_a_session(session_id, event) for event in events):
            self._remember(session_id)

    def unlearn(self, session_id: str) -> None:
        """Take a session that was forgotten for one that does not exist."""
        self._known.discard(session_id)

    def _remember(self, session_id: str) -> None:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known.add(session_id)

    def keep_working(self) -> None:
        """Start what goes on in the background, or start it again where its event loop has gone."""
        if self._home is not None and not self._home.is_closed():
            return
        self._counting.keep()
        for working in self._workers.values():
            working.keep()
        self._home = asyncio.get_running_loop()

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

    def _not_all_work(self) -> None:
        self._home = None

    def _projection_worker(self) -> FeedWorker:
        return ProjectionWorker(self.store, self.views, name=self._name)

    def _compaction_worker(self) -> FeedWorker:
        return CompactionWorker(self.store, self.compactor, name=self._name)


def _of(stored: DurabilityNotReached) -> Appended:
    return Appended(stored.session_id, stored.version, stored.event_ids, Durability(stored.reached))


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
