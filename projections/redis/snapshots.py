"""What the reading scripts reply, as snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from eventstore.errors import CorruptLog
from eventstore.redis.entries import readable
from projections.redis.commits import SHORT
from projections.session import SessionState
from projections.views import Forked, Snapshot

WHOLE_TAIL, NO_LOG = 0, 2
"""What a reply tells of how the tail ends."""
WHOLE = 6
"""Words of the reply; more tell of views whose log has become another one."""

_state = msgspec.json.Decoder(SessionState).decode


def snapshot(session_id: str, reply: Sequence[Any], value: Any) -> Snapshot[Any]:
    """Return what one reply tells of a session, and what was asked for beside it."""
    version, state, lacks = int(reply[0]), SessionState(), reply[4].decode()
    forked = short = None
    tail, damage = readable(session_id, reply[2])
    try:
        short = int(lacks.removeprefix(SHORT)) if lacks.startswith(SHORT) else None if version else 0
        state = _state(reply[1]) if reply[1] else state
        if len(reply) > WHOLE:
            forked = Forked(int(reply[WHOLE]), _state(reply[WHOLE + 1]) if reply[WHOLE + 1] else state)
    except (ValueError, RecursionError) as error:
        version = max(version, 1)  # it is not as if there were no views
        damage = CorruptLog(session_id, version, f"the session view cannot be read ({error})")
    if reply[5] == NO_LOG:
        damage = CorruptLog(session_id, version + 1, "what lies in its place is no stream")
    let_go, complete = bool(lacks) and short is None, reply[5] == WHOLE_TAIL
    return Snapshot(session_id, version, state, tail, value, damage, let_go, forked, short, complete)
