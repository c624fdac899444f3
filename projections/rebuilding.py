"""Rebuilding: all views made anew from the logs beside those that live, and then switched to in one step.

The new generation gets a consumer group before anything else, so from then on the feeds keep for it whatever is
appended. Then every session is folded from its log, then the group follows the feeds until it has caught up, and then
the namespace says that the new generation is live. Writers, readers and workers go on meanwhile, and notice the switch
within a second; one that does not, goes on with views that are right as well, as long as nobody drops them.

Nothing but the new views themselves says how far a rebuild has come: one that is killed is run again, and passes over
what is up to date. Any number may run at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncGenerator
from typing import Literal

import msgspec

from eventstore.errors import ContextEngineError, ViewsNotBuilt
from eventstore.logs import get_logger
from eventstore.store import EventStore
from projections.following import ALIVE, Following
from projections.projector import Projector
from projections.views import Parked, ViewStore

log = get_logger("rebuild")

AT_ONCE = 32
"""Sessions that are folded at once: few, so that nobody else waits long for the server."""
MOVED_WITHIN = 10.0
"""Seconds within which workers have moved over to views that have become live."""
POLL = 0.05


class Building(msgspec.Struct, frozen=True):
    """How far a rebuild has come.

    Attributes:
        phase: ``folding`` the logs, ``following`` the feeds, ``switched``, or ``refused``.
        sessions: Sessions whose views are up to date.
        of_sessions: Sessions that there were at the beginning.
        events: Events of these sessions' logs.
        of_events: Events of all.
        unfoldable: Sessions that the new views cannot take, and the old ones could: because of them nothing is
            switched. If there are none, and it is refused nevertheless, somebody has dropped what was built.
    """

    phase: Literal["folding", "following", "switched", "refused"]
    sessions: int = 0
    of_sessions: int = 0
    events: int = 0
    of_events: int = 0
    unfoldable: tuple[Parked, ...] = ()


class StillServed(ContextEngineError):
    """Views of old were not dropped, because workers follow them still."""


async def rebuild(
    store: EventStore, views: ViewStore, *, anew: bool = False, accept_parked: bool = False, rest: float = 0.0
) -> AsyncGenerator[Building, None]:
    """Build all views anew, switch to them, and tell of it step by step. The old ones stay; see `drop_old`.

    Args:
        store: The log.
        views: The views that live. After the last step they are the new ones.
        anew: Whether to begin at the beginning where an earlier rebuild was interrupted.
        accept_parked: Whether to switch although sessions cannot be folded that could be before. They are parked.
        rest: Seconds to pause for each second of work, for the sake of those who use the server meanwhile.

    Yields:
        How far it has come. The last one says whether it was switched to.

    Raises:
        StoreUnavailable: The server does not answer. Run it again: it goes on where it was.
    """
    built = await views.begin(anew=anew)
    consumer = await store.feed.join(
        built.group, f"rebuild-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    )
    try:
        for parked in await built.parked():
            await built.unpark(parked.session_id)
        heads = [(pointer.session_id, pointer.version) async for pointer in store.heads()]
        said = Building("folding", of_sessions=len(heads), of_events=sum(version for _, version in heads))
        yield said
        projector, loop = Projector(store, built), asyncio.get_running_loop()
        for start in range(0, len(heads), AT_ONCE):
            began, batch = loop.time(), heads[start : start + AT_ONCE]
            await projector.project_or_park(session_id for session_id, _ in batch)
            said = msgspec.structs.replace(
                said,
                sessions=said.sessions + len(batch),
                events=said.events + sum(version for _, version in batch),
            )
            yield said
            await asyncio.sleep(rest * (loop.time() - began))
        yield msgspec.structs.replace(said, phase="following")
        await Following(store, built).help()
        known = await _parked(views)
        unfoldable = tuple(parked for parked in await built.parked() if parked.session_id not in known)
        switched = (accept_parked or not unfoldable) and await views.switch(built)
        log.info("Views rebuilt.", action="views_rebuilt", group=built.group, switched=switched)
        yield msgspec.structs.replace(said, phase="switched" if switched else "refused", unfoldable=unfoldable)
        await consumer.leave()
    finally:
        consumer.abandon()


async def _parked(views: ViewStore) -> set[str]:
    """Return the sessions that are parked in the views that live; none if these folds have made none yet."""
    try:
        return {parked.session_id for parked in await views.parked()}
    except ViewsNotBuilt:
        return set()


async def drop_old(store: EventStore, views: ViewStore) -> int:
    """Drop all views but those that live, once no worker follows them any more. Return of how many sessions.

    Views that an interrupted rebuild has begun are dropped as well.

    Raises:
        StillServed: Workers have not moved over in time: they run code of other folds, or hang.
    """
    groups = await views.old_groups()
    deadline = asyncio.get_running_loop().time() + MOVED_WITHIN
    while at_work := await _at_work(store, groups):
        if asyncio.get_running_loop().time() > deadline:
            raise StillServed(f"Nothing was dropped: {', '.join(at_work)} still work on views of old. Stop them first.")
        await asyncio.sleep(POLL)
    return await views.drop_old()


async def _at_work(store: EventStore, groups: list[str]) -> list[str]:
    return [name for group in groups for name, age in (await store.feed.heartbeats(group)).items() if age < ALIVE]
