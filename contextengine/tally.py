"""The totals as this engine knows them without asking: what it last read, and what it did since."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from eventstore import (
    Appended,
    CheckpointStored,
    ContextDeleted,
    ContextEngineError,
    ContextSet,
    Event,
    MessageAdded,
    SessionEnded,
)
from eventstore.logs import get_logger
from projections import Queries, Totals
from projections.session import begins_a_session

log = get_logger("engine")

REFRESH_EVERY = 0.5
"""Seconds between two looks at the totals."""
STALE_AFTER = 0.8
"""Seconds after which totals are taken that were read while this engine appended: until the next look, they may have
some of these appends twice. What others did is worth that."""
COUNTED: dict[type[Event], str] = {
    MessageAdded: "messages",
    ContextSet: "context_operations",
    ContextDeleted: "context_operations",
    CheckpointStored: "checkpoints",
}


class UnderWay:
    """Surrounds each append that may be counted: whether a look at the totals meanwhile has it in is not known."""

    def __init__(self) -> None:
        """Begin with none."""
        self.begun = self.ended = 0

    def __enter__(self) -> None:
        """Begin one."""
        self.begun += 1

    def __exit__(self, *exc: object) -> None:
        """End one, whatever became of it."""
        self.ended += 1


class Tally:
    """Counts what this engine appends, on top of the totals that it read last."""

    def __init__(self, queries: Queries, configured: Callable[[], None]) -> None:
        """Begin with nothing known.

        Args:
            queries: Who is asked for the totals.
            configured: Called when there are sessions with settings of their own for their compaction.
        """
        self._queries = queries
        self._configured = configured
        self._read = Totals()
        self._done: Counter[str] = Counter()
        self.under_way = UnderWay()
        self._read_at = 0.0

    @property
    def totals(self) -> Totals:
        """The totals, as far as they are known."""
        known = msgspec.structs.asdict(self._read)
        return Totals(**{name: max(0, count + self._done[name]) for name, count in known.items()})

    def count(self, appended: Appended, events: Sequence[Event], *, begins: bool = False) -> None:
        """Count an append that succeeded; ``begins`` says that a session begins with it, though its stream does not."""
        done = self._done
        done["events"] += len(events)
        for event in events:
            if name := COUNTED.get(type(event)):
                done[name] += 1
            elif isinstance(event, SessionEnded):
                done["active_sessions"] -= 1
        if (begins or appended.version == len(events)) and any(
            begins_a_session(appended.session_id, event) for event in events
        ):
            done["sessions"] += 1
            done["active_sessions"] += 1

    async def begin(self) -> None:
        """Read the totals as far as the workers have come."""
        self._take(await self._queries.stored_totals())
        self._read_at = asyncio.get_running_loop().time()

    async def refresh(self) -> None:
        """Read the totals, unless the workers are behind: then what was read before is worth more."""
        way = self.under_way
        before, begun, quiet = self._done.copy(), way.begun, way.begun == way.ended
        if not await self._queries.projected():
            return
        totals, now = await self._queries.stored_totals(), asyncio.get_running_loop().time()
        if (quiet and begun == way.begun) or now - self._read_at > STALE_AFTER:
            self._take(totals)
            self._read_at = now
            # What was done before the read is in it; what was done since is counted on.
            self._done.subtract(before)

    async def keep_fresh(self) -> None:
        """Refresh from time to time, until cancelled."""
        while True:
            try:
                await self.refresh()
            except ContextEngineError as error:
                log.debug("The totals could not be read.", action="totals_unread", error=str(error))
            await asyncio.sleep(REFRESH_EVERY)

    def _take(self, totals: Totals) -> None:
        self._read = totals
        if totals.configured:
            self._configured()
