"""The views of a session taken together: what is stored of them, and what stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec

from eventstore.errors import CorruptLog
from eventstore.events import RecordedEvent
from eventstore.feed import Consumer, Delivery
from projections.changes import ViewsChange
from projections.checkpoints import Checkpoint, Writes
from projections.exchange import Taken
from projections.history import History
from projections.session import SessionState

T = TypeVar("T")

GENERATION = 1
"""The version of the folds. It is part of every view's key, so changed folds build new views beside the old.

Raise it when a fold gives another result for a log than before; then `projections.rebuilding` builds the new views.
"""
GROUP = "projection"
"""The consumer group that keeps the first generation of views up to date. Later ones have groups of their own."""
TAIL = 100
"""How many events past a view a reader gets in the same round trip ..."""
TAIL_BYTES = 64 * 1024
"""... unless they are large: none comes after the one with which they have so many bytes (as in `snapshot.lua`)."""


class Forked(msgspec.Struct, frozen=True):
    """Views that were folded from events that the log does not hold any more: it was cut back, or goes another way.

    Attributes:
        version: The version at which they stand.
        state: The session view at that version.
    """

    version: int
    state: SessionState


class Snapshot(msgspec.Struct, Generic[T], frozen=True):
    """A view as it is stored, and the events after it, seen at one moment.

    Attributes:
        session_id: The session.
        version: The version to which the views have been folded; 0 if there are none yet.
        state: The session view at that version.
        tail: The events after it, `TAIL` at most, and about `TAIL_BYTES`.
        value: What was asked for of the other views.
        damage: Why the tail ends early: what comes next in the log cannot be read.
        forked: What there was of views whose log has become another one; then all else is as if there had been none.
        short: The bytes of the events up to ``version``, if they are so few that only the session view is stored; None
            if all views are. Whoever asks for another view of such a session gets a snapshot as if there were none.
        let_go: Whether the session view is all that is kept: what the others would say is to be folded from the log.
            Their value is not what it seems then.
        complete: Whether the tail reaches to the end of the log.
    """

    session_id: str
    version: int
    state: SessionState
    tail: list[RecordedEvent]
    value: T
    damage: CorruptLog | None = None
    let_go: bool = False
    forked: Forked | None = None
    short: int | None = None
    complete: bool = True

    @property
    def current(self) -> bool:
        """Whether nothing has happened since: the view says what is so now."""
        return not self.tail and self.damage is None and self.forked is None


class Parked(msgspec.Struct, frozen=True):
    """A session whose views are not brought up to date any more until somebody retries it.

    Attributes:
        session_id: The session.
        version: The version of the event that could not be folded; 0 if that is not known.
        reason: What went wrong, in a sentence.
        traceback: Where it went wrong.
        parked_ms: When, in Unix milliseconds.
    """

    session_id: str
    version: int
    reason: str
    traceback: str
    parked_ms: int


class Totals(msgspec.Struct, frozen=True):
    """Counts over all sessions of a namespace, as far as they have been projected.

    ``configured`` counts the sessions that have settings of their own for their compaction.
    """

    sessions: int = 0
    active_sessions: int = 0
    messages: int = 0
    context_operations: int = 0
    checkpoints: int = 0
    events: int = 0
    configured: int = 0


class Listed(msgspec.Struct, frozen=True, order=True):
    """A session's place in a list: by last activity, then by id."""

    active_ms: int
    session_id: bytes


class ViewStore(Protocol):
    """Where views are kept. Every read of a session's views is one round trip and brings the tail along."""

    async def read_sessions(self, session_ids: Sequence[str]) -> list[Snapshot[bool]]:
        """Return the session views, and whether each is parked."""
        ...

    async def read_history(self, session_id: str, last: int | None) -> Snapshot[History]:
        """Return the newest ``last`` messages (1 or more) of the history view; all if None."""
        ...

    async def read_context(self, session_id: str, key: str) -> Snapshot[list[Any]]:
        """Return the value of a context key in a list; an empty list if it has none."""
        ...

    async def read_context_keys(self, session_id: str) -> Snapshot[list[str]]:
        """Return all context keys, in no order."""
        ...

    async def read_checkpoint(self, thread_id: str, checkpoint_id: str) -> Snapshot[list[Checkpoint]]:
        """Return a checkpoint in a list; an empty list if there is none of that id."""
        ...

    async def read_checkpoints(self, thread_id: str, limit: int | None) -> Snapshot[list[Checkpoint]]:
        """Return the newest checkpoints, newest first; all if the limit is None."""
        ...

    async def read_writes(self, thread_id: str, checkpoint_id: str) -> Snapshot[list[Writes]]:
        """Return the writes beside a checkpoint, in no order."""
        ...

    async def commit(self, changes: Sequence[ViewsChange]) -> list[bool]:
        """Write each change if the views still stand at its ``base``; say for each whether it was written."""
        ...

    async def let_go(self, session_id: str, version: int) -> bool:
        """Let all views of a session go but the session view, if they stand at this version. Return whether they did.

        From then on snapshots of the session say so. Lists and totals stay.
        """
        ...

    async def take_back(self, whole: ViewsChange) -> bool:
        """Write all views of a session that were let go, if they still stand at the version of this change.

        Args:
            whole: What all events up to there come to, folded from the first.

        Returns:
            Whether it was done. If not, the session has gone on, or somebody else has begun to do the same.
        """
        ...

    async def exchange(
        self, consumer: Consumer, changes: Sequence[ViewsChange], done: Sequence[Delivery], *, count: int
    ) -> tuple[list[bool], Taken]:
        """Write changes, acknowledge entries of the feeds, take new ones, and read what they tell of: in this order.

        In one round trip, where one server has all feeds.

        Args:
            consumer: Who has taken the entries and takes more.
            changes: Each of another session.
            done: What to acknowledge.
            count: The most new entries of a partition.

        Returns:
            What `commit` does, and what is new.
        """
        ...

    async def listed(
        self, *, status: str | None, user_id: str | None, after: Listed | None, limit: int
    ) -> list[Listed]:
        """Return sessions by last activity, newest first. With a user id, the status is not looked at."""
        ...

    async def totals(self) -> Totals:
        """Return the counts."""
        ...

    async def forked(self) -> int:
        """Return how often views had to be made anew because their log had become another one."""
        ...

    async def park(self, parked: Parked) -> None:
        """Stop bringing a session's views up to date."""
        ...

    async def unpark(self, session_id: str) -> None:
        """Let a session's views be brought up to date again, and forget its failed attempts."""
        ...

    async def parked(self) -> list[Parked]:
        """Return all parked sessions."""
        ...

    async def count_attempt(self, session_id: str) -> int:
        """Count, before the work begins, an attempt at a session that may have crashed its worker."""
        ...

    async def lease(self, session_id: str, holder: str, seconds: float) -> bool:
        """Let one holder at a time compact a session. Return whether it is this one, for so long from now."""
        ...

    async def release(self, session_id: str, holder: str) -> None:
        """End a lease, if this holder has it."""
        ...

    async def forget_attempts(self, session_id: str) -> None:
        """Begin counting from 0 again: the session did not crash its worker."""
        ...

    # Generations: complete sets of views, of which one is live. `projections.rebuilding` builds the next one.

    @property
    def group(self) -> str:
        """The consumer group that keeps these views up to date. What it has acknowledged is in them."""
        ...

    async def refresh(self) -> None:
        """Look which generation is live, and use that one from now on.

        Raises:
            ViewsNotBuilt: There is none that these folds have made.
        """
        ...

    async def pinned(self) -> Self:
        """Return the views of the present generation, and of no other whatever becomes live: to read, then commit."""
        ...

    async def begin(self, *, anew: bool = False) -> Self:
        """Return the views of the generation that is to be live next: one that somebody began, or a new one.

        Args:
            anew: Whether to begin a new one in any case.
        """
        ...

    async def switch(self, built: Self) -> bool:
        """Make a generation the live one, in one step. Return False if it is not the one that was to be next."""
        ...

    def retired(self) -> list[str]:
        """Return the consumer groups of generations that were live before: nobody is to wait for them any more."""
        ...

    async def old_groups(self) -> list[str]:
        """Return the consumer groups of all generations that `drop_old` would drop."""
        ...

    async def drop_old(self) -> int:
        """Drop every generation of these folds and of earlier ones but the live one. Return of how many sessions."""
        ...
