"""Compression: a long conversation becomes a summary and its newest messages; the log keeps every word."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

from scripted import NAMESPACE, ScriptedModel, ask, start_agent

from contextengine import CompressionConfig, ContextEngine  # type: ignore[attr-defined, unused-ignore]


async def compressed(context_engine: ContextEngine, session_id: str) -> list[Any]:
    """Wait for the compaction, which goes on in the background, and return the history."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        history = await context_engine.get_conversation_history(session_id, limit=0)
        if history and "compaction" in history[0].metadata:
            return list(history)
        await asyncio.sleep(0.05)
    raise SystemExit("The conversation was not compacted within 30 seconds.")


async def main() -> None:
    """Talk for longer than the threshold, and look at what remains."""
    compression_config = CompressionConfig(
        strategy="summarize",
        keep_recent=4,
        auto_compress_enabled=True,
        auto_compress_threshold=20,
        auto_compress_target=10,
    )
    llm_client = ScriptedModel(says="The user has sent numbered messages, and nothing was decided.")
    async with ContextEngine(  # type: ignore[call-arg, unused-ignore]
        namespace=NAMESPACE, compression_config=compression_config, llm_client=llm_client
    ) as context_engine:
        agent = await start_agent("agent-1", context_engine)
        session_id = f"talker-{uuid.uuid4()}"
        for number in range(10):
            await ask(agent, f"Message {number}", session_id)
        history = await compressed(context_engine, session_id)
        print(f"20 messages were said, and {len(history)} are the history now:")
        for message in history:
            print(f"  {message.role}: {message.content}")


if __name__ == "__main__":
    asyncio.run(main())
