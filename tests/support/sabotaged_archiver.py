"""Archive or restore a session, and die at a step: before or after the N-th write to Redis or to the archive.

Arguments: the store's URL, the archive's directory, ``archive`` or ``restore``, the session, N. Ends with 0 if there
are fewer writes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from eventstore import open_store
from eventstore.archive.directory import DirectoryArchive
from eventstore.redis.batches import Batch
from eventstore.redis.links import Links
from eventstore.redis.raw import ARCHIVE, BRING_BACK
from projections import open_views
from projections.archiving import Archivist
from projections.redis import letting_go
from projections.redis.commits import COMMIT
from projections.redis.letting_go import PARTS

WRITING = {ARCHIVE.sha, BRING_BACK.sha, COMMIT.sha, PARTS.sha}

url, directory, action, session_id, steps = sys.argv[1:]
left = iter(range(int(steps) - 1, -1, -1))


def step() -> None:
    """Die if it is time."""
    if next(left, None) == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def between_steps(honest: Callable[..., Any], writes: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
    """Return a method that does the same, with a step before it and one after it, if it writes."""

    async def method(self: Any, *arguments: Any) -> Any:
        if not writes(*arguments):
            return await honest(self, *arguments)
        step()
        result = await honest(self, *arguments)
        step()
        return result

    return method


def writes(batch: Batch) -> bool:
    """Whether a batch moves or lets go of something."""
    return b":whole:" in batch.key or (batch.script is not None and batch.script.sha in WRITING)


honest_replace = Path.replace


def replace(path: Path, target: Any) -> Path:
    """Put a file in its place."""
    step()
    return honest_replace(path, target)


async def main() -> None:
    """Do it."""
    async with open_store(url, archive=DirectoryArchive(directory)) as store:
        archivist = Archivist(store, open_views(store))
        await (archivist.archive(session_id, timedelta(0)) if action == "archive" else archivist.restore(session_id))


if __name__ == "__main__":
    Path.replace = replace  # type: ignore[method-assign,assignment]
    DirectoryArchive.put = between_steps(DirectoryArchive.put)  # type: ignore[method-assign]
    DirectoryArchive.delete = between_steps(DirectoryArchive.delete)  # type: ignore[method-assign]
    Links.answers = between_steps(Links.answers, lambda batches: writes(batches[0]))  # type: ignore[method-assign]
    letting_go.FILLED_AT_ONCE = 4000
    asyncio.run(main())
