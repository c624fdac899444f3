"""One turn of an agent in a process of its own: ``turn.py <session> <description>``. It waits to be killed after it."""

from __future__ import annotations

import asyncio
import json
import sys

import anyio

from contextengine import ContextEngine
from with_aiecs.agents import Model, ask, hybrid


async def main(session_id: str, description: str) -> None:
    """Do the task, say what the prompt was and what the answer, and close nothing."""
    context_engine = ContextEngine()
    await context_engine.initialize()
    model = Model()
    answer = await ask(await hybrid(context_engine, model), description, session_id)
    sys.stdout.write(json.dumps({"action": "answered", "answer": answer, "prompt": model.last_prompt}) + "\n")
    sys.stdout.flush()
    await anyio.sleep_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
