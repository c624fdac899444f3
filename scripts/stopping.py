"""How scripts with a server of their own stop on a signal: everything is tidied up first."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable

import anyio


async def until_signal(run: Callable[[], Awaitable[int]]) -> int:
    """Run until it is done or a signal comes; further signals do not disturb the tidying up.

    Args:
        run: Returns an exit code.

    Returns:
        That code; 128 and the signal's number after a signal.
    """
    code, stopped_by = 1, 0
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                nonlocal stopped_by
                async for signum in received:
                    stopped_by = signum
                    tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            code = await run()
            tasks.cancel_scope.cancel()
    if stopped_by:
        print("\nStopped. Nothing is left running.", file=sys.stderr)
        return 128 + stopped_by
    return code
