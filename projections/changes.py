"""How events change the views of a session, all together.

All views of a session stand at one version and are committed together, so they never contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventstore.errors import CorruptLog, FoldFailed
from eventstore.events import RecordedEvent
from projections import checkpoints, context, history, session
from projections.checkpoints import CheckpointChange
from projections.context import ContextChange
from projections.history import HistoryChange
from projections.session import SessionState

SHORT_EVENTS, SHORT_BYTES = 5, 8192
"""Up to which a session is short: a reader folds its log as fast as it reads a view, which is not stored therefore."""

_NO_CONTEXT, _NO_CHECKPOINTS = ContextChange(), CheckpointChange()


class ViewsChange(msgspec.Struct, frozen=True):
    """What some events do to a session's views.

    Attributes:
        session_id: The session.
        base: The version at which the views stand that it changes.
        version: The one at which they stand then.
        before: The session view at the one ...
        after: ... and at the other.
        history: What happens to the history,
        context: the context,
        checkpoints: and the checkpoints.
        recorded_ms: When the last of the events was recorded; None if there are none.
        anew: Whether the events are all from the log's first on, so that what the views hold is to go first.
        forked: Whether that was folded from another log.
        short: The bytes of all events up to ``version``, where they are so few that only the session view is stored;
            None if all views are.
        more: Whether the log may go on after it.
    """

    session_id: str
    base: int
    version: int
    before: SessionState
    after: SessionState
    history: HistoryChange
    context: ContextChange = _NO_CONTEXT
    checkpoints: CheckpointChange = _NO_CHECKPOINTS
    recorded_ms: int | None = None
    anew: bool = False
    forked: bool = False
    short: int | None = None
    more: bool = False


def is_short(version: int, size: int) -> bool:
    """Whether only the session view of a session is stored, given its version and the bytes of its events."""
    return version <= SHORT_EVENTS and size <= SHORT_BYTES


def fold(session_id: str, base: int, state: SessionState, events: Sequence[RecordedEvent]) -> ViewsChange:
    """Return what the events after version ``base`` do to the views.

    Raises:
        CorruptLog: A version is missing.
        FoldFailed: A view cannot take one of the events; names its version.
    """
    if [event.version for event in events] != [*range(base + 1, base + 1 + len(events))]:
        version, found = next(
            (version, event.version) for version, event in enumerate(events, base + 1) if event.version != version
        )
        raise CorruptLog(session_id, version, f"the next entry has version {found}")
    try:
        return _fold(session_id, base, state, events)
    except Exception as error:
        raise _failure(session_id, base, state, events) from error


def _fold(session_id: str, base: int, state: SessionState, events: Sequence[RecordedEvent]) -> ViewsChange:
    unchanged = HistoryChange(state.rewritten, state.history_messages)
    if not events:
        return ViewsChange(session_id, base, base, state, state, unchanged)
    types = {type(event.data) for event in events}
    return ViewsChange(
        session_id=session_id,
        base=base,
        version=base + len(events),
        before=state,
        after=session.fold(state, events),
        history=history.fold(unchanged, events),
        context=_NO_CONTEXT if types.isdisjoint(context.EVENTS) else context.fold(_NO_CONTEXT, events),
        checkpoints=_NO_CHECKPOINTS
        if types.isdisjoint(checkpoints.EVENTS)
        else checkpoints.fold(_NO_CHECKPOINTS, events),
        recorded_ms=events[-1].recorded_ms,
    )


def _failure(session_id: str, base: int, state: SessionState, events: Sequence[RecordedEvent]) -> FoldFailed:
    """Find the event at which the fold fails."""
    for count, event in enumerate(events, 1):
        try:
            _fold(session_id, base, state, events[:count])
        except Exception as error:  # noqa: BLE001 - whatever a fold raises is what is being looked for
            return FoldFailed(session_id, event.version, f"{type(error).__name__}: {error}")
    return FoldFailed(session_id, base + len(events), "it failed once and not again, so the fold is not pure")
