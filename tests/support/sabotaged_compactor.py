"""``python -m workers --compaction``, sabotaged: it may die at its first append, and its leases end soon.

The first argument tells when it dies: ``before`` the append is sent, ``after`` it was acknowledged, ``never``.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from eventstore import Appended, HistoryCompacted
from eventstore.redis.store import RedisStore
from workers.__main__ import main
from workers.compaction import compactor

MARGIN = 0.5

honest_append = RedisStore.append
dies = sys.argv.pop(1)


async def append(store: RedisStore, session_id: str, events: Any, **settings: Any) -> Appended:
    """Append, unless it is time to die."""
    compacts = isinstance(events, HistoryCompacted)
    if compacts and dies == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    appended = await honest_append(store, session_id, events, **settings)
    if compacts and dies == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return appended


if __name__ == "__main__":
    RedisStore.append = append  # type: ignore[method-assign,assignment]
    compactor.MARGIN = MARGIN
    sys.exit(main())
