"""``python -m workers --compaction``, sabotaged: it kills itself after a step of its first compaction; leases end soon.

The first argument is the step, one of `STEPS`, or ``never``.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from eventstore.redis.consumer import RedisConsumer
from eventstore.redis.store import RedisStore
from eventstore.redis.wire import Wire
from projections import Projector, Queries
from projections.redis.views import RedisViews
from workers.__main__ import main
from workers.compaction import compactor

MARGIN = 0.5

STEPS: dict[str, tuple[Any, str]] = {
    "taken": (RedisConsumer, "take"),
    "looked at": (Queries, "sessions_at"),
    "leased": (RedisViews, "lease"),
    "read": (Queries, "history_at"),
    "planned": (compactor, "plan"),
    "summarized": (compactor, "summarize"),
    "sent": (Wire, "write"),
    "appended": (RedisStore, "append"),
    "projected": (Projector, "project_if_permitted"),
    "released": (RedisViews, "release"),
    "acknowledged": (RedisConsumer, "ack"),
}
"""In order: what has just been done when it dies, and by what. Before ``sent`` nothing has changed."""


def fatal(step: str, honest: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does what it should, and then, where that was a step of a compaction, dies."""

    def die(result: Any, arguments: tuple[Any, ...]) -> None:
        of_a_compaction = b"HistoryCompacted" in arguments[1] if step == "sent" else result != []
        if of_a_compaction:
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(honest)
    def plain(*arguments: Any, **settings: Any) -> Any:
        result = honest(*arguments, **settings)
        die(result, arguments)
        return result

    @functools.wraps(honest)
    async def awaited(*arguments: Any, **settings: Any) -> Any:
        result = await honest(*arguments, **settings)
        die(result, arguments)
        return result

    return plain if step in {"planned", "sent"} else awaited


if __name__ == "__main__":
    if (step := sys.argv.pop(1)) in STEPS:
        owner, name = STEPS[step]
        setattr(owner, name, fatal(step, getattr(owner, name)))
    compactor.MARGIN = MARGIN
    sys.exit(main())
