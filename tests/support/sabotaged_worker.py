"""``python -m workers``, sabotaged: the fold obeys messages, after the view has been read and before it is committed.

``DIE`` ends the process without a word, each time. ``FREEZE`` stops it once, until somebody lets it go on. ``FAIL``
makes the fold raise.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable

from eventstore import MessageAdded
from eventstore.events import RecordedEvent
from projections import session
from projections.session import SessionState
from workers.__main__ import main

DIE = "die, whoever folds this"
FREEZE = "freeze, whoever folds this"
FAIL = "fail, whoever folds this"
DEATH = 17

honest_fold = session.fold
freezes = [FREEZE]


def fold(state: SessionState, events: Iterable[RecordedEvent]) -> SessionState:
    """Obey, then fold."""
    events = list(events)
    orders = [event.data.content for event in events if isinstance(event.data, MessageAdded)]
    if DIE in orders:
        os._exit(DEATH)
    if FAIL in orders:
        raise RuntimeError(FAIL)
    if FREEZE in orders and freezes:
        freezes.pop()
        os.kill(os.getpid(), signal.SIGSTOP)
    return honest_fold(state, events)


if __name__ == "__main__":
    session.fold = fold
    sys.exit(main())
