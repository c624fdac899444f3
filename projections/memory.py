"""The views in memory, beside a log in memory. They hold the same encoded values as on Redis."""

from __future__ import annotations

import copy
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self
from weakref import WeakKeyDictionary, WeakSet

import msgspec

from eventstore.events import RecordedEvent
from eventstore.feed import Consumer, Delivery
from eventstore.ids import check_session_id
from eventstore.memory.store import MemoryStore
from projections.changes import ViewsChange
from projections.checkpoints import Checkpoint, Writes
from projections.exchange import Taken, in_turn
from projections.history import Compaction, History, Versioned, message_of
from projections.session import ACTIVE, SessionState
from projections.views import GROUP, TAIL, TAIL_BYTES, Listed, Parked, Snapshot, Totals

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_state = msgspec.json.Decoder(SessionState).decode
_compaction = msgspec.json.Decoder(Compaction | None).decode
_version = msgspec.json.Decoder(Versioned).decode


class _SessionViews:
    """The views of one session."""

    def __init__(self) -> None:
        self.version = 0
        self.state = _encode(SessionState())
        self.history: list[bytes] = []
        self.compaction = b"null"
        self.context: dict[str, bytes] = {}
        self.checkpoints: dict[str, bytes] = {}
        self.writes: dict[tuple[str, str], bytes] = {}
        self.let_go = False


class MemoryViews:
    """A `projections.views.ViewStore` in memory."""

    def __init__(self, store: MemoryStore) -> None:
        """Begin empty."""
        _beside.setdefault(store, WeakSet()).add(self)
        self.group = GROUP
        self._store = store
        self._build = 1
        self._sessions: dict[str, _SessionViews] = {}
        self._parked: dict[str, Parked] = {}
        self._attempts: Counter[str] = Counter()
        self._leases: dict[str, tuple[str, float]] = {}

    async def read_sessions(self, session_ids: Sequence[str]) -> list[Snapshot[bool]]:
        """Return the session views, and whether each is parked."""
        return [self._snapshot(i, check_session_id(i).decode() in self._parked) for i in session_ids]

    async def read_history(self, session_id: str, last: int | None) -> Snapshot[History]:
        """Return the newest messages."""
        views = self._views(session_id)
        newest = views.history if last is None else views.history[-last:]
        return self._snapshot(session_id, History([_decode(m) for m in newest], _compaction(views.compaction)))

    async def read_context(self, session_id: str, key: str) -> Snapshot[list[Any]]:
        """Return the value of a context key."""
        context = self._views(session_id).context
        return self._snapshot(session_id, [_decode(context[key])] if key in context else [])

    async def read_context_keys(self, session_id: str) -> Snapshot[list[str]]:
        """Return all context keys."""
        return self._snapshot(session_id, list(self._views(session_id).context))

    async def read_checkpoint(self, thread_id: str, checkpoint_id: str) -> Snapshot[list[Checkpoint]]:
        """Return a checkpoint."""
        found = self._views(thread_id).checkpoints.get(checkpoint_id)
        return self._snapshot(thread_id, [_decode(found)] if found is not None else [])

    async def read_checkpoints(self, thread_id: str, limit: int | None) -> Snapshot[list[Checkpoint]]:
        """Return the newest checkpoints."""
        newest = list(reversed(self._views(thread_id).checkpoints.values()))[:limit]
        return self._snapshot(thread_id, [_decode(checkpoint) for checkpoint in newest])

    async def read_writes(self, thread_id: str, checkpoint_id: str) -> Snapshot[list[Writes]]:
        """Return the writes beside a checkpoint."""
        writes = self._views(thread_id).writes
        return self._snapshot(thread_id, [_decode(w) for (owner, _), w in writes.items() if owner == checkpoint_id])

    async def commit(self, changes: Sequence[ViewsChange]) -> list[bool]:
        """Write changes whose base is current."""
        return [self._commit(change) for change in changes]

    async def exchange(
        self, consumer: Consumer, changes: Sequence[ViewsChange], done: Sequence[Delivery], *, count: int
    ) -> tuple[list[bool], Taken]:
        """Write changes, acknowledge entries, take new ones, and read what they tell of."""
        return await in_turn(self, consumer, changes, done, count=count)

    async def let_go(self, session_id: str, version: int) -> bool:
        """Let all views of a session go but the session view."""
        views = self._views(session_id)
        if views.version != version:
            return False
        alone = _SessionViews()
        alone.version, alone.state, alone.let_go = views.version, views.state, True
        self._sessions[session_id] = alone
        return True

    async def take_back(self, whole: ViewsChange) -> bool:
        """Write all views of a session that were let go."""
        views = self._views(whole.session_id)
        if views.version != whole.version or not views.let_go:
            return False
        self._sessions[whole.session_id] = _SessionViews()
        return self._commit(whole)

    async def listed(
        self, *, status: str | None, user_id: str | None, after: Listed | None, limit: int
    ) -> list[Listed]:
        """Return sessions by last activity, newest first."""
        states = {session_id: _state(views.state) for session_id, views in self._sessions.items()}
        places = (
            Listed(state.active_ms, session_id.encode())
            for session_id, state in states.items()
            if state.created_ms
            and (state.user_id == user_id if user_id is not None else status in (None, state.status))
        )
        return heapq.nlargest(limit, (place for place in places if after is None or place < after))

    async def totals(self) -> Totals:
        """Return the counts."""
        states = [_state(views.state) for views in self._sessions.values()]
        return Totals(
            sessions=sum(state.created_ms > 0 for state in states),
            active_sessions=sum(state.created_ms > 0 and state.status == ACTIVE for state in states),
            messages=sum(state.message_count for state in states),
            context_operations=sum(state.context_operations for state in states),
            checkpoints=sum(state.checkpoint_count for state in states),
            events=sum(views.version for views in self._sessions.values()),
            configured=sum(state.configured for state in states),
        )

    async def forked(self) -> int:
        """Return 0: no log here ever becomes another one."""
        return 0

    async def park(self, parked: Parked) -> None:
        """Stop bringing a session's views up to date."""
        if not self._store.is_forgotten(parked.session_id):
            self._parked[parked.session_id] = parked

    async def unpark(self, session_id: str) -> None:
        """Let a session's views be brought up to date again."""
        self._parked.pop(session_id, None)
        self._attempts.pop(session_id, None)

    async def parked(self) -> list[Parked]:
        """Return all parked sessions."""
        return list(self._parked.values())

    async def count_attempt(self, session_id: str) -> int:
        """Count an attempt at a session, before the work begins."""
        if self._store.is_forgotten(session_id):
            return 0
        self._attempts[session_id] += 1
        return self._attempts[session_id]

    async def forget_attempts(self, session_id: str) -> None:
        """Begin counting from 0 again."""
        self._attempts.pop(session_id, None)

    async def lease(self, session_id: str, holder: str, seconds: float) -> bool:
        """Let one holder at a time compact a session."""
        check_session_id(session_id)
        now = time.monotonic()
        present, until = self._leases.get(session_id, (holder, now))
        if present != holder and until > now:
            return False
        if not self._store.is_forgotten(session_id):
            self._leases[session_id] = (holder, now + seconds)
        return True

    async def release(self, session_id: str, holder: str) -> None:
        """End a lease."""
        check_session_id(session_id)
        if self._leases.get(session_id, ("", 0.0))[0] == holder:
            del self._leases[session_id]

    async def refresh(self) -> None:
        """Do nothing: `switch` is all that changes the generation, and it does so here."""

    async def pinned(self) -> Self:
        """Return the views of the present generation, whatever becomes live."""
        return copy.copy(self)

    async def begin(self, *, anew: bool = False) -> Self:  # noqa: ARG002 - here it always is
        """Return the views of the next generation."""
        build = self._build + 1
        views = type(self)(self._store)
        views._build, views.group, views._leases = build, f"{GROUP}@1.{build}", self._leases  # noqa: SLF001
        return views

    async def switch(self, built: Self) -> bool:
        """Make a generation the live one, and let the old one go."""
        if built._build <= self._build:
            return False
        vars(self).update(vars(built))
        return True

    def retired(self) -> list[str]:
        """Return the groups of the generations before."""
        return [GROUP, *(f"{GROUP}@1.{build}" for build in range(2, self._build))][: self._build - 1]

    async def old_groups(self) -> list[str]:
        """Return the same."""
        return self.retired()

    async def drop_old(self) -> int:
        """Forget the old groups: the old views have gone."""
        for group in self.retired():
            await self._store.feed.disband(group)
        return 0

    def forget(self, session_id: str) -> None:
        """Drop a session."""
        for kept in (self._sessions, self._parked, self._attempts, self._leases):
            kept.pop(session_id, None)

    def _views(self, session_id: str) -> _SessionViews:
        check_session_id(session_id)
        return self._sessions.get(session_id) or _SessionViews()

    def _snapshot(self, session_id: str, value: Any) -> Snapshot[Any]:
        views = self._views(session_id)
        events: list[RecordedEvent] = self._store.events(session_id, views.version, TAIL)
        sizes = itertools.accumulate(len(event.entry) for event in events)
        tail = events[: 1 + sum(size < TAIL_BYTES for size in sizes)]
        complete = len(tail) == len(events) < TAIL
        state = _state(views.state)
        return Snapshot(session_id, views.version, state, tail, value, let_go=views.let_go, complete=complete)

    def _commit(self, change: ViewsChange) -> bool:
        views = self._views(change.session_id)
        if views.version != change.base or self._store.is_forgotten(change.session_id):
            return False
        views = _SessionViews() if change.anew else views
        views.version, views.state = change.version, _encode(change.after)
        if change.history.cleared:
            views.compaction = b"null"
        remaining = change.history.remaining(views.history, lambda message: _version(message).version)
        views.history = [*remaining, *[_encode(message_of(event)) for event in change.history.added]]
        if change.history.compaction is not None:
            views.compaction = _encode(change.history.compaction)
        for checkpoint_id, checkpoint in change.checkpoints.stored.items():
            views.checkpoints.pop(checkpoint_id, None)
            views.checkpoints[checkpoint_id] = _encode(checkpoint)
        views.writes.update({place: _encode(writes) for place, writes in change.checkpoints.writes.items()})
        views.context.update({key: _encode(value) for key, value in change.context.values.items()})
        for key in change.context.deleted:
            views.context.pop(key, None)
        self._sessions[change.session_id] = views
        return True


_beside: WeakKeyDictionary[MemoryStore, WeakSet[MemoryViews]] = WeakKeyDictionary()


def views_beside(store: MemoryStore) -> list[MemoryViews]:
    """Return all views that were made of a log, of whatever generation."""
    return list(_beside.get(store, ()))
