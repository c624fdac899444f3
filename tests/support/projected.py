"""What is to be said of views, once their workers are done."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore import EventStore
from eventstore.events import RecordedEvent
from projections import GROUP, SessionState, Totals, ViewStore, checkpoints, context, history, open_views, session
from projections.checkpoints import CheckpointChange
from projections.context import ContextChange
from projections.history import History, HistoryChange
from projections.session import ACTIVE
from projections.views import Listed
from support.waiting import until


async def waiting(store: EventStore) -> int:
    """Return how many entries of the feeds the workers have not acknowledged."""
    return sum(partition.waiting for partition in await store.feed.progress(GROUP))


async def projected(store: EventStore) -> None:
    """Wait until the workers have acknowledged everything."""

    async def nothing_waits() -> bool:
        return await waiting(store) == 0

    await until(nothing_waits)


async def check_views(store: EventStore, *, only: Sequence[str] = (), views: ViewStore | None = None) -> None:
    """Hold all views, as they are stored, against one fold of the whole log; or those of some sessions only."""
    views = views or open_views(store)
    logs: dict[str, list[RecordedEvent]] = {}
    if only:
        logs = {session_id: await store.read(session_id) for session_id in only}
    else:
        async for event in store.read_all():
            logs.setdefault(event.session_id, []).append(event)
    states: dict[str, SessionState] = {}
    for session_id, log in logs.items():
        (kept,) = await views.read_sessions([session_id])
        assert (kept.version, kept.tail) == (len(log), []), f"{session_id} is not fully projected"
        states[session_id] = session.fold(SessionState(), log)
        assert kept.state == states[session_id]
        if kept.short:  # then that is all that is stored
            continue
        stored = await views.read_history(session_id, None)
        assert (stored.version, stored.tail, stored.state) == (len(log), [], kept.state)
        assert stored.value == history.fold(HistoryChange(), log).apply(History())
        values = context.fold(ContextChange(), log).apply({})
        assert set((await views.read_context_keys(session_id)).value) == set(values)
        for key, value in values.items():
            assert (await views.read_context(session_id, key)).value == [value]
        workflow = checkpoints.fold(CheckpointChange(), log)
        assert (await views.read_checkpoints(session_id, None)).value == workflow.newest([], None)
        for checkpoint_id in {*workflow.stored, *(owner for owner, _ in workflow.writes)}:
            found = sorted((await views.read_writes(session_id, checkpoint_id)).value, key=lambda w: w["version"])
            assert found == workflow.writes_of(checkpoint_id, [])
    if only:
        return
    sessions = {session_id: state for session_id, state in states.items() if state.created_ms}
    assert await views.totals() == Totals(
        sessions=len(sessions),
        active_sessions=sum(state.status == ACTIVE for state in sessions.values()),
        messages=sum(state.message_count for state in states.values()),
        context_operations=sum(state.context_operations for state in states.values()),
        checkpoints=sum(state.checkpoint_count for state in states.values()),
        events=sum(map(len, logs.values())),
        configured=sum(state.compaction != {} for state in states.values()),
    )
    listed = await views.listed(status=None, user_id=None, after=None, limit=len(logs) + 1)
    assert listed == sorted((Listed(state.active_ms, name.encode()) for name, state in sessions.items()), reverse=True)
