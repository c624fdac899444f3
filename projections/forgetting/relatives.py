"""Which sessions hold the same content as others: forks, and the conversations that agents have about a session."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from eventstore.errors import CorruptLog, SessionArchived, SessionForgotten
from eventstore.events import RecordedEvent, SessionStarted
from eventstore.forking import ORIGIN
from eventstore.store import EventStore
from projections.forgetting.files import ArchivedFiles

AT_ONCE = 256
"""Sessions whose first event is read at once."""
PARENT = "parent_session"
"""The key of a session's metadata under which an engine notes to which session a conversation of agents belongs."""


async def relatives(store: EventStore, session_ids: Iterable[str], files: ArchivedFiles) -> dict[str, list[str]]:
    """Return for each session those that descend from it, by any number of forks and conversations.

    What a session descends from is told by its first event, so the first event of every session is read.

    Args:
        store: The log.
        session_ids: The sessions.
        files: Where to look for the files of a session that cannot be read.

    Raises:
        FilesOutOfReach: What a session descends from is told by a file that the archive lacks, and may not.
    """
    children: dict[str, list[str]] = defaultdict(list)
    batch: list[str] = []
    async for head in store.heads():
        batch.append(head.session_id)
        if len(batch) == AT_ONCE:
            await _note(store, batch, files, children)
            batch = []
    await _note(store, batch, files, children)
    return {session_id: _descendants(session_id, children) for session_id in session_ids}


async def _note(
    store: EventStore, session_ids: list[str], files: ArchivedFiles, children: dict[str, list[str]]
) -> None:
    found = await asyncio.gather(*(_parents(store, session_id, files) for session_id in session_ids))
    for session_id, parents in zip(session_ids, found, strict=True):
        for parent in parents:
            children[parent].append(session_id)


async def _parents(store: EventStore, session_id: str, files: ArchivedFiles) -> set[str]:
    try:
        first = await store.read(session_id, limit=1)
    except SessionForgotten:
        return set()
    except (CorruptLog, SessionArchived):
        await files.of(session_id)
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
