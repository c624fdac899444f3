"""What an append of many writers costs the client: "Many writers" of "Where the time goes" in docs/BENCHMARKS.md.

    python tests/bench/client_part.py

Each row leaves out a layer of the one before it. The store is real; its link is replaced by one that answers what it is
sent by itself in the next turn of the event loop, so that no socket and no server is part of it. Best of several, in
microseconds of processor time for each append of 64 tasks.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.servers import Server, binaries

from contextengine import ContextEngine
from eventstore import MessageAdded, open_store
from eventstore.appending import encode_append
from eventstore.redis.appender import Appender
from eventstore.redis.commands import Command, pack
from eventstore.redis.link import Settle
from eventstore.redis.promise import Promise
from eventstore.redis.store import RedisStore
from eventstore.store import ANY

WRITERS, EACH, REPEATS = 64, 100, 12
TEXT, METADATA = "x" * 300, {"channel": "web", "turn": 1, "final": True}
MESSAGE = MessageAdded("user", TEXT, METADATA)


class Answering:
    """A link whose other end takes every append."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._versions: dict[Any, int] = defaultdict(int)
        self._waiting: list[tuple[Sequence[Command], Settle]] = []
        self._answers = False

    def send(self, commands: Sequence[Command], settle: Settle) -> None:
        """Pack the calls, as a link does."""
        b"".join(pack(commands))
        self._waiting.append((commands, settle))

    def flush(self) -> None:
        """Answer in the next turn."""
        if not self._answers:
            self._answers = True
            self._loop.call_soon(self._answer)

    def _answer(self) -> None:
        self._answers, waiting, self._waiting = False, self._waiting, []
        for commands, settle in waiting:
            settle([[self._next(session) for session in _sessions(command)] for command in commands])

    def _next(self, session: Any) -> int:
        self._versions[session] += 1
        return self._versions[session]


def _sessions(command: Command) -> Sequence[Any]:
    """Return to which sessions a call of the append script appends."""
    appends = int(command[2]) - 3
    return command[6 + appends : 6 + 2 * appends]


async def best(append: Callable[[str], Awaitable[object]]) -> float:
    """Return what an append costs."""

    async def write(session_id: str) -> None:
        for _ in range(EACH):
            await append(session_id)

    times = []
    for repeat in range(REPEATS):
        began = time.process_time()
        await asyncio.gather(*(write(f"{repeat}-{writer}") for writer in range(WRITERS)))
        times.append(time.process_time() - began)
    return min(times) / WRITERS / EACH * 1e6


async def parts(url: str) -> dict[str, float]:
    """Return what each layer costs, with those below it."""
    loop, link = asyncio.get_running_loop(), Answering()
    async with ContextEngine(url, workers=False) as engine, open_store(url) as store:
        assert isinstance(store, RedisStore)
        appender = await store._appender(store.durability)
        encoded = functools.cache(lambda session_id: encode_append(session_id, MESSAGE, ANY, None, 1024 * 1024))
        crowd: list[Promise[None]] = []

        async def through_appender(session_id: str) -> None:
            pending = appender.submit_now(encoded(session_id))
            assert pending is not None
            await pending

        async def through_promise(_: str) -> None:
            promise: Promise[None] = Promise(loop)
            crowd.append(promise)
            if len(crowd) == WRITERS:
                loop.call_soon(settle)
            await promise

        def settle() -> None:
            settled = crowd[:]
            crowd.clear()
            for promise in settled:
                promise.set_result(None)

        with patch.object(Appender, "_link_of", lambda *_: link):
            return {
                "add_conversation_message": await best(
                    lambda session_id: engine.add_conversation_message(session_id, "user", TEXT, METADATA)
                ),
                "store.append": await best(lambda session_id: store.append(session_id, MESSAGE)),
                "grouping, packing, settling": await best(through_appender),
                "a task that waits for a promise": await best(through_promise),
            }


def main() -> None:
    """Measure and print."""
    binary = next(iter(binaries().values()))
    with tempfile.TemporaryDirectory(prefix="ce") as directory, Server(binary, Path(directory)) as server:
        found = asyncio.run(parts(server.url))
    for name, microseconds in found.items():
        print(f"{name:32}{microseconds:7.2f} µs")


if __name__ == "__main__":
    main()
