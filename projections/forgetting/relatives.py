"""Which sessions hold the same content as others: forks, and the conversations that agents have about a session."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from eventstore.errors import CorruptLog, SessionForgotten
from eventstore.events import RecordedEvent, SessionStarted
from eventstore.forking import ORIGIN
from eventstore.store import EventStore

AT_ONCE = 256
"""Sessions whose first event is read at once."""
PARENT = "parent_session"
"""The key of a session's metadata under which an engine notes to which session a conversation of agents belongs."""


async def relatives(store: EventStore, session_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return for each session those that descend from it, by any number of forks and conversations.

    What a session descends from is told by its first event, so the first event of every session is read.
    """
    children: dict[str, list[str]] = defaultdict(list)
    batch: list[str] = []
    async for head in store.heads():
        batch.append(head.session_id)
        if len(batch) == AT_ONCE:
            await _note(store, batch, children)
            batch = []
    await _note(store, batch, children)
    return {session_id: _descendants(session_id, children) for session_id in session_ids}


async def _note(store: EventStore, session_ids: list[str], children: dict[str, list[str]]) -> None:
    found = await asyncio.gather(*(_parents(store, session_id) for session_id in session_ids))
    for session_id, parents in zip(session_ids, found, strict=True):
        for parent in parents:
            children[parent].append(session_id)


async def _parents(store: EventStore, session_id: str) -> set[str]:
    try:
        first = await store.read(session_id, limit=1)
    except (SessionForgotten, CorruptLog):
        return set()
    return {parent for event in first for parent in _named(event)}


def _named(event: RecordedEvent) -> Iterable[str]:
    origin = event.meta.get(ORIGIN)
    if isinstance(origin, dict) and isinstance(origin.get("session_id"), str):
        yield origin["session_id"]
    if isinstance(event.data, SessionStarted) and isinstance(event.data.metadata.get(PARENT), str):
        yield event.data.metadata[PARENT]


def _descendants(session_id: str, children: dict[str, list[str]]) -> list[str]:
    found: dict[str, None] = {}
    waiting = [session_id]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found and child != session_id:
                found[child] = None
                waiting.append(child)
    return list(found)
