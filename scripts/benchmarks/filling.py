"""What stands in the server before something is measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from contextengine import ContextEngine
from eventstore import Append, ContextEngineError, EventStore, SessionStarted
from projections import GROUP, Projector, open_views

AT_A_TIME = 1000


async def fill(engine: ContextEngine, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
    """Write messages to a session, many at a time."""
    for start in range(0, len(messages), AT_A_TIME):
        await engine.add_conversation_messages(session_id, messages[start : start + AT_A_TIME])


async def start(store: EventStore, session_ids: Iterable[str]) -> None:
    """Begin sessions, many at a time."""
    waiting = [Append(session_id, [SessionStarted("somebody", {"source": "web"})]) for session_id in session_ids]
    for first in range(0, len(waiting), AT_A_TIME):
        for done in await store.append_many(waiting[first : first + AT_A_TIME]):
            if isinstance(done, ContextEngineError):
                raise done


async def project_all(store: EventStore) -> None:
    """Bring all views up to date, as a worker does."""
    projector = Projector(store, open_views(store))
    consumer = await store.feed.join(GROUP, "benchmark")
    try:
        while await projector.step(consumer, wait=0):
            pass
        await store.feed.trim()
        await consumer.leave()
    finally:
        consumer.abandon()
