"""Lists and totals for who may not write views: what the views lack is folded in memory, and put in its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from eventstore.errors import InvalidInput, LogForked
from eventstore.store import EventStore
from projections.session import ACTIVE, SessionState
from projections.views import Listed, Totals

TRIES = 3
"""How often to look at feeds that are trimmed at the same moment, before all sessions are looked at."""


async def changed_since(store: EventStore, group: str) -> list[str]:
    """Return the sessions that changed after the place to which the workers have come: more, if that is not known."""
    for _ in range(TRIES):
        done = tuple(partition.done for partition in await store.feed.progress(group))
        try:
            return list({event.session_id async for event in store.read_all(after=done)})
        except (InvalidInput, LogForked):  # the feed was trimmed meanwhile, or another server serves it
            continue
    return list({event.session_id async for event in store.read_all()})


def place_of(session_id: str, state: SessionState) -> Listed | None:
    """Return where a session stands in lists, None if in none."""
    return Listed(state.active_ms, session_id.encode()) if state.created_ms else None


def page(
    stored: Sequence[Listed], lacking: Mapping[str, Listed], *, after: Listed | None, limit: int
) -> tuple[list[Listed], Listed | None]:
    """Return a page of a list, and the place after which the next begins, None if there is none.

    Args:
        stored: The page as the views have it.
        lacking: The places of sessions of which the views do not know enough.
        after: Where the page begins.
        limit: The most places of a page.
    """
    last = stored[-1] if len(stored) == limit else None
    kept = [place for place in stored if place.session_id.decode() not in lacking]
    more = [place for place in lacking.values() if (after is None or place < after) and (last is None or place > last)]
    places = sorted([*kept, *more], reverse=True)
    return (places[:limit], places[limit - 1]) if len(places) > limit else (places, last)


def totals(
    stored: Totals, before: Iterable[tuple[int, SessionState]], after: Iterable[tuple[int, SessionState]]
) -> Totals:
    """Return the counts, given the versions and states of some sessions as they are counted, and as they are now."""
    counts = msgspec.structs.asdict(stored)
    for sign, sessions in ((-1, before), (1, after)):
        for version, state in sessions:
            counts["sessions"] += sign * bool(state.created_ms)
            counts["active_sessions"] += sign * (bool(state.created_ms) and state.status == ACTIVE)
            counts["messages"] += sign * state.message_count
            counts["context_operations"] += sign * state.context_operations
            counts["checkpoints"] += sign * state.checkpoint_count
            counts["events"] += sign * version
            counts["configured"] += sign * state.configured
    return Totals(**counts)
