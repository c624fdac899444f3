"""Reading a whole log fast: several small pages are under way at once, because versions have no gaps.

Measured: a window of small pages reads about twice as fast as one page after the other, and faster than large pages.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from eventstore.events import RecordedEvent
from eventstore.store import PAGE, EventStore, Reading

WINDOW = 8
"""Pages that are under way at once."""


async def pages_ahead(
    store: EventStore, session_id: str, *, after: int = 0, until: int | None = None
) -> AsyncGenerator[list[RecordedEvent], None]:
    """Give a session's events page by page, oldest first, as `EventStore.read` does, with the next pages under way.

    Args:
        store: The log.
        session_id: The session.
        after: Only events with a greater version.
        until: Only events up to and including this version; None for the version of the moment.

    Raises:
        StoreUnavailable: The server cannot be reached.
        CorruptLog: An entry cannot be read.
    """
    first = await store.read(session_id, after=after, until=until, limit=PAGE)
    if first:
        yield first
    if len(first) < PAGE:
        return
    head = await store.version(session_id)
    last = head if until is None else min(head, until)
    starts = iter(range(after + PAGE, last, PAGE))
    window: deque[asyncio.Task[list[RecordedEvent]]] = deque()
    try:
        while True:
            while len(window) < WINDOW and (start := next(starts, None)) is not None:
                page = store.read(session_id, after=start, until=min(start + PAGE, last))
                window.append(asyncio.create_task(_whole(page)))
            if not window:
                return
            yield await window.popleft()
    finally:
        for page_task in window:
            page_task.cancel()


async def _whole(page: Reading) -> list[RecordedEvent]:
    return await page
