"""A user of nest_asyncio or its like, as notebooks have it: tasks that run their event loop from within themselves.

Takes the library, a URL, how many sessions to write to at once, and how many pairs of messages to each; writes how many
messages each session has then, as JSON. The library changes asyncio for the whole process.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys

from contextengine import ContextEngine


async def main(url: str, sessions: int, pairs: int) -> None:
    """Append and read in nested runs of the loop, several at once."""
    loop = asyncio.get_running_loop()
    async with ContextEngine(url) as engine:

        async def count(session_id: str) -> int:
            return len(await engine.get_conversation_history(session_id))

        async def write(session_id: str) -> int:
            for number in range(pairs):
                await engine.add_conversation_message(session_id, "user", str(number))
                loop.run_until_complete(engine.add_conversation_message(session_id, "assistant", str(number)))
            return loop.run_until_complete(count(session_id))

        counts = await asyncio.gather(*(write(f"s{n}") for n in range(sessions)))
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    importlib.import_module(sys.argv[1]).apply()
    asyncio.run(main(sys.argv[2], *map(int, sys.argv[3:])))
