"""The past: what a session was at any version of its log, or at any time, folded from the log."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from eventstore.errors import InvalidInput
from eventstore.events import HistoryCleared, HistoryRewound, MessageAdded, RecordedEvent
from eventstore.store import EventStore, check_number
from projections.changes import ViewsChange, fold
from projections.checkpoints import Checkpoint, CheckpointChange, Writes
from projections.context import ContextChange
from projections.history import Compaction, History, HistoryChange, Message, message_of
from projections.session import EPOCH, SessionState


class Past:
    """A session as it was, which more events bring nearer to the present.

    Attributes:
        session_id: The session.
        version: The version of its log.
        recorded_ms: When that version was recorded, in Unix milliseconds; 0 at version 0.
        state: The session view.
        history: The history view, made anew each time.
        compaction: What stands in it for the messages that went; None if nothing does.
        originals: The messages since the last clear, as if nothing had been compacted; None unless asked for.
        context: The context view.
        checkpoints: The checkpoints by id, the last stored last.
        writes: The writes by checkpoint and task.
    """

    def __init__(self, session_id: str, *, originals: bool = False) -> None:
        """Begin before the first event."""
        self.session_id = session_id
        self.version = 0
        self.recorded_ms = 0
        self.state = SessionState()
        self._said: list[RecordedEvent] = []
        self.compaction: Compaction | None = None
        self.originals: list[Message] | None = [] if originals else None
        self.context: dict[str, Any] = {}
        self.checkpoints: dict[str, Checkpoint] = {}
        self.writes: dict[tuple[str, str], Writes] = {}

    @property
    def history(self) -> History:
        """The history view."""
        return History([*map(message_of, self._said)], self.compaction)

    def take(self, events: Sequence[RecordedEvent]) -> None:
        """Fold the next events.

        Raises:
            CorruptLog: A version is missing.
            FoldFailed: One of them cannot be folded. The state is that before all of them.
        """
        if not events:
            return
        change = fold(self.session_id, self.version, self.state, events)
        self.version, self.state = change.version, change.after
        self.recorded_ms = events[-1].recorded_ms
        self._change_history(change)
        if self.originals is not None:
            self._note(self.originals, events)
        self.context = change.context.apply(self.context)
        for checkpoint_id, checkpoint in change.checkpoints.stored.items():
            self.checkpoints.pop(checkpoint_id, None)
            self.checkpoints[checkpoint_id] = checkpoint
        self.writes.update(change.checkpoints.writes)

    def as_change(self) -> ViewsChange:
        """Return the same as what all events come to, from the first on."""
        return ViewsChange(
            session_id=self.session_id,
            base=0,
            version=self.version,
            before=SessionState(),
            after=self.state,
            history=HistoryChange(
                rewritten=self.state.rewritten,
                messages=len(self._said),
                compaction=self.compaction,
                added=tuple(self._said),
            ),
            context=ContextChange(self.context),
            checkpoints=CheckpointChange(self.checkpoints, self.writes),
        )

    def _change_history(self, change: ViewsChange) -> None:
        changed = change.history
        if changed.cleared or changed.compaction is not None:
            self.compaction = changed.compaction
        self._said = changed.remaining(self._said, lambda event: event.version)
        self._said += changed.added

    @staticmethod
    def _note(originals: list[Message], events: Sequence[RecordedEvent]) -> None:
        for event in events:
            match event.data:
                case MessageAdded():
                    originals.append(message_of(event))
                case HistoryCleared():
                    originals.clear()
                case HistoryRewound(removed=removed) if 0 < removed <= len(originals):
                    del originals[-removed:]


async def past(
    store: EventStore,
    session_id: str,
    *,
    at_version: int | None = None,
    at: datetime | None = None,
    originals: bool = False,
) -> Past:
    """Return a session as it was at a version of its log, or at a time.

    Args:
        store: The log.
        session_id: The session. Before its first event, and if it does not exist, there is nothing to it.
        at_version: The version; 0 is before the first event.
        at: The time, by the clock that recorded the events; naive means UTC. A time to come means now. What an event
            says of itself (``occurred_at``) plays no part: before it was recorded, nobody could have seen it.
        originals: Whether to keep the messages that were compacted as well.
        If neither version nor time is given: as it is now.

    Raises:
        InvalidInput: Both were given, one is of a wrong type, or the session has not come to that version yet.
        CorruptLog: An entry on the way cannot be read.
        FoldFailed: An event on the way cannot be folded.
        StoreUnavailable: The server does not answer.
    """
    if at_version is not None and at is not None:
        raise InvalidInput("Give at_version or at, not both.")
    until_ms = None if at is None else milliseconds(at)
    if at_version is not None:
        check_number("at_version", at_version)
    found = Past(session_id, originals=originals)
    async for page in pages_until(store, session_id, at_version, until_ms):
        found.take(page)
    if at_version is not None and found.version < at_version:
        raise InvalidInput(
            f"Session {session_id!r} is at version {found.version}: it has not come to version {at_version} yet."
        )
    return found


async def pages_until(
    store: EventStore, session_id: str, version: int | None, until_ms: int | None
) -> AsyncGenerator[list[RecordedEvent], None]:
    """Give a session's events up to a version, and recorded up to a time, page by page."""
    async with contextlib.aclosing(store.read(session_id, until=version).pages()) as pages:
        async for page in pages:
            if until_ms is not None and page[-1].recorded_ms > until_ms:
                yield [event for event in page if event.recorded_ms <= until_ms]
                return
            yield page


def milliseconds(at: object) -> int:
    """Return a time in Unix milliseconds; naive means UTC.

    Raises:
        InvalidInput: It is no datetime.
    """
    if not isinstance(at, datetime):
        raise InvalidInput(f"at must be a datetime, not {type(at).__name__}.")
    aware = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return (aware - EPOCH) // timedelta(milliseconds=1)
