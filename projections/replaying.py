"""Replaying: sessions folded from their logs, several at once, to any version or time; what changed between two."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from typing import Any

import msgspec

from eventstore.errors import CorruptLog, FoldFailed, InvalidInput, SessionArchived
from eventstore.store import EventStore
from projections.past import Past, past
from projections.side_by_side import side_by_side

AT_ONCE = 8
"""Sessions that are folded at once, each with several pages under way."""


class Moment(msgspec.Struct, frozen=True):
    """A version, a time, or, if it is neither, now."""

    version: int | None = None
    time: datetime | None = None


class Failed(msgspec.Struct, frozen=True):
    """A session that could not be replayed.

    Attributes:
        session_id: The session.
        reason: Why, in a sentence.
        too_short: Whether it has merely not come to the version that was asked for.
    """

    session_id: str
    reason: str
    too_short: bool = False


async def replay(
    store: EventStore, session_ids: Iterable[str], moment: Moment | None = None
) -> AsyncGenerator[Past | Failed, None]:
    """Fold sessions from their logs, in the order in which they are named, some ahead of the others.

    Args:
        store: The log.
        session_ids: The sessions.
        moment: Up to when; by default, up to now.

    Raises:
        StoreUnavailable: The server does not answer.
    """
    jobs = (_replayed(store, session_id, moment or Moment()) for session_id in session_ids)
    async with contextlib.aclosing(side_by_side(jobs, AT_ONCE)) as replayed:
        async for session in replayed:
            yield session


async def _replayed(store: EventStore, session_id: str, moment: Moment) -> Past | Failed:
    try:
        return await past(store, session_id, at_version=moment.version, at=moment.time)
    except InvalidInput as error:
        return Failed(session_id, str(error), too_short=moment.version is not None)
    except (CorruptLog, FoldFailed, SessionArchived) as error:
        return Failed(session_id, str(error))


def difference(before: Past, after: Past) -> dict[str, Any]:
    """Return what changed in a session between two moments.

    Returns:
        ``session`` (field to the two values), ``messages`` (``gone`` and ``added``, as a reader is shown them),
        ``context`` (``set``, ``changed`` to the two values, ``deleted``), ``checkpoints`` (ids that were stored).
    """
    old, new = ({m["version"]: m for m in each.history.newest(None)} for each in (before, after))
    was, now = msgspec.structs.asdict(before.state), msgspec.structs.asdict(after.state)
    return {
        "session": {name: [was[name], now[name]] for name in was if was[name] != now[name]},
        "messages": {
            "gone": [message for version, message in old.items() if new.get(version) != message],
            "added": [message for version, message in new.items() if old.get(version) != message],
        },
        "context": {
            "set": {key: value for key, value in after.context.items() if key not in before.context},
            "changed": {
                key: [before.context[key], value]
                for key, value in after.context.items()
                if key in before.context and before.context[key] != value
            },
            "deleted": sorted(before.context.keys() - after.context.keys()),
        },
        "checkpoints": [name for name, stored in after.checkpoints.items() if before.checkpoints.get(name) != stored],
    }
