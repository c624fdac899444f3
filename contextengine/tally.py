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
BEGUN = "begun"
"""What is counted beside events: sessions that began."""


class Tally:
    """Counts what this engine appends, on top of the totals that it read last.

    Attributes:
        begun: Calls that append and have begun. Who appends counts them ...
        ended: ... and those that have ended, however: whether a look at the totals meanwhile has them in is not known.
    """

    def __init__(self, queries: Queries, configured: Callable[[], None]) -> None:
        """Begin with nothing known.

        Args:
            queries: Who is asked for the totals.
            configured: Called when there are sessions with settings of their own for their compaction.
        """
        self._queries = queries
        self._configured = configured
        self._read = Totals()
        self._done: Counter[type[Event] | str] = Counter()
        self.begun = self.ended = 0
        self._read_at = 0.0

    @property
    def totals(self) -> Totals:
        """The totals, as far as they are known."""
        read, done = self._read, self._done
        more = {
            "sessions": done[BEGUN],
            "active_sessions": done[BEGUN] - done[SessionEnded],
            "messages": done[MessageAdded],
            "context_operations": done[ContextSet] + done[ContextDeleted],
            "checkpoints": done[CheckpointStored],
            "events": done.total() - done[BEGUN],
        }
        counts = {name: max(0, getattr(read, name) + count) for name, count in more.items()}
        return msgspec.structs.replace(read, **counts)

    def count(self, appended: Appended, events: Sequence[Event], *, begins: bool = False) -> None:
        """Count an append that succeeded; ``begins`` says that a session begins with it, though its stream does not."""
        done = self._done
        for event in events:
            done[type(event)] += 1
        if (begins or appended.version == len(events)) and any(
            begins_a_session(appended.session_id, event) for event in events
        ):
            done[BEGUN] += 1

    async def begin(self) -> None:
        """Read the totals as far as the workers have come."""
        self._take(await self._queries.stored_totals())
        self._read_at = asyncio.get_running_loop().time()

    async def refresh(self) -> None:
        """Read the totals, unless the workers are behind: then what was read before is worth more."""
        before, begun, quiet = self._done.copy(), self.begun, self.begun == self.ended
        if not await self._queries.projected():
            return
        totals, now = await self._queries.stored_totals(), asyncio.get_running_loop().time()
        if (quiet and begun == self.begun) or now - self._read_at > STALE_AFTER:
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
