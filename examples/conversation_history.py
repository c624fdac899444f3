"""Conversation history: it survives restarts, and comes back in the shape that you need."""

from __future__ import annotations

import asyncio

from scripted import NAMESPACE, ask, start_agent

from contextengine import ContextEngine


async def first_run() -> None:
    """Pattern 1: two tasks ..."""
    async with ContextEngine(namespace=NAMESPACE) as context_engine:
        agent = await start_agent("agent-1", context_engine)
        await ask(agent, "What's the weather?", session_id="weather-user")
        await ask(agent, "What about tomorrow?", session_id="weather-user")


async def second_run() -> None:
    """... and another agent, on another engine, that remembers them."""
    async with ContextEngine(namespace=NAMESPACE) as context_engine:
        agent = await start_agent("agent-1", context_engine)
        await ask(agent, "What did I ask about?", session_id="weather-user")


async def retrieval() -> None:
    """Pattern 2: the newest messages, oldest first, and the same for a prompt."""
    async with ContextEngine(namespace=NAMESPACE) as context_engine:
        for message in await context_engine.get_conversation_history(session_id="weather-user", limit=2):
            print(f"  {message.timestamp:%H:%M:%S} version {message.version}, {message.role}: {message.content}")
        print(await context_engine.format_conversation_history(session_id="weather-user", format="string", limit=2))


async def main() -> None:
    """Show the patterns; compression.py shows the third one."""
    print("First run")
    await first_run()
    print("Second run")
    await second_run()
    print("The newest two messages")
    await retrieval()


if __name__ == "__main__":
    asyncio.run(main())
