"""Several agents: in one session they know what the others were told; apart, they do not."""

from __future__ import annotations

import asyncio

from scripted import NAMESPACE, ask, start_agent

from contextengine import ContextEngine


async def shared() -> None:
    """Pattern 1: one engine, one session, two agents."""
    async with ContextEngine(namespace=NAMESPACE) as context_engine:
        await ask(await start_agent("agent-1", context_engine), "My name is Ann.", session_id="team-user")
        await ask(await start_agent("agent-2", context_engine), "Who am I?", session_id="team-user")


async def apart() -> None:
    """Pattern 2: each agent has an engine, and a memory, of its own. What keeps them apart is the namespace."""
    async with (
        ContextEngine(namespace=NAMESPACE + "-1") as context_engine1,
        ContextEngine(namespace=NAMESPACE + "-2") as context_engine2,
    ):
        await ask(await start_agent("agent-1", context_engine1), "A secret", session_id="team-user")
        await ask(await start_agent("agent-2", context_engine2), "Do you know a secret?", session_id="team-user")


async def main() -> None:
    """Show both patterns."""
    print("Together")
    await shared()
    print("Apart")
    await apart()


if __name__ == "__main__":
    asyncio.run(main())
