"""Reading what is long, page by page: a stream, a hash."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, TypeAlias

from eventstore.events import RecordedEvent
from eventstore.redis.links import Links
from eventstore.redis.pending import recorded
from eventstore.store import PAGE

AHEAD = 3
"""Pages of a long read that are on their way while one is worked on."""

Pages: TypeAlias = AsyncGenerator[list[RecordedEvent], None]


async def pages_forwards(
    links: Links, log: bytes, session_id: str, low: int, high: int | None, limit: int | None
) -> Pages:
    """Give the events of a session from one version to another, oldest first, ``limit`` at most.

    Once a page was full, the next ones are asked for ahead: versions have no gaps, so it is known where they begin.
    Where one comes back short, the log ends or is damaged, and it goes on from there page by page.
    """
    ahead: deque[asyncio.Future[list[Any]]] = deque()
    try:
        while limit != 0 and (high is None or low <= high):
            count = PAGE if limit is None else min(PAGE, limit)
            asked_ahead = bool(ahead)
            reply = await (ahead.popleft() if ahead else links.call("XRANGE", log, low, _end(high), "COUNT", count))
            page = [recorded(session_id, found) for found in reply]
            if page:
                yield page
                low = page[-1].version + 1
            limit = None if limit is None else limit - len(page)
            if len(page) < count:
                if not asked_ahead:
                    return
                _cancel(ahead)
            elif limit is None:
                begins = range(low + len(ahead) * PAGE, low + AHEAD * PAGE, PAGE)
                ahead.extend(
                    asyncio.ensure_future(links.call("XRANGE", log, begin, _end(begin + PAGE - 1, high)))
                    for begin in begins
                    if high is None or begin <= high
                )
    finally:
        _cancel(ahead)


async def pages_backwards(
    links: Links, log: bytes, session_id: str, low: int, high: int | None, limit: int | None
) -> Pages:
    """Give the events of a session from one version to another, newest first, ``limit`` at most."""
    while limit != 0 and (high is None or low <= high):
        count = PAGE if limit is None else min(PAGE, limit)
        reply = await links.call("XREVRANGE", log, _end(high), low, "COUNT", count)
        page = [recorded(session_id, found) for found in reply]
        if page:
            yield page
            high = page[-1].version - 1
        limit = None if limit is None else limit - len(page)
        if len(page) < count:
            return


async def fields_of(links: Links, key: bytes) -> AsyncGenerator[tuple[bytes, bytes], None]:
    """Give each field of a hash once, and its value."""
    seen: set[bytes] = set()  # HSCAN may give a field twice while the hash is being resized
    cursor, server = b"0", None
    while True:
        cursor, found = await links.call("HSCAN", key, cursor, "COUNT", PAGE)
        link = links.shared(key)
        again, server = server not in {None, (link, link.epoch)}, (link, link.epoch)
        for field, value in zip(found[::2], found[1::2], strict=True):
            if field not in seen:
                seen.add(field)
                yield field, value
        if again:
            cursor = b"0"  # another server's cursor, or one from before a restart, passes over some
        elif cursor == b"0":
            return


def _end(*versions: int | None) -> str:
    """Return the last id of a range: that of the smallest version; the stream's end if there is none."""
    bounds = [version for version in versions if version is not None]
    return str(min(bounds)) if bounds else "+"


def _cancel(ahead: deque[asyncio.Future[list[Any]]]) -> None:
    while ahead:
        future = ahead.popleft()
        if not future.cancel() and not future.cancelled():
            future.exception()  # nobody wants to know any more
