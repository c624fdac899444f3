"""Basic integration: an agent whose memory outlives it, on the store of the environment, on a client, in memory."""

from __future__ import annotations

import asyncio
import os

from scripted import CONFIG, NAMESPACE, HybridAgent, ScriptedModel, ask, start_agent

from contextengine import ContextEngine, get_redis_client


async def simple_agent() -> None:
    """Pattern 1. Run the example twice: the second run remembers the first."""
    context_engine = ContextEngine(namespace=NAMESPACE)
    await context_engine.initialize()
    agent = HybridAgent(
        agent_id="agent-1",
        name="My Agent",
        llm_client=ScriptedModel(),
        tools=["search"],
        config=CONFIG,
        context_engine=context_engine,  # enables persistent memory
    )
    await agent.initialize()
    await ask(agent, "Hello", session_id="basic-user")
    await agent.shutdown()
    await context_engine.close()

    print("  (the agent and the engine are gone; others take their place)")
    async with ContextEngine(namespace=NAMESPACE) as context_engine:
        await ask(await start_agent("agent-1", context_engine), "Do you know me?", session_id="basic-user")


async def on_a_client() -> None:
    """Pattern 2: on the settings of a client of your own."""
    if not os.environ.get("CONTEXTENGINE_URL", "redis://").startswith(("redis", "unix")):
        print("  (set CONTEXTENGINE_URL=redis://... to see this one)")
        return
    redis_client = await get_redis_client()
    async with ContextEngine(redis_client=redis_client, namespace=NAMESPACE) as context_engine:
        await ask(await start_agent("agent-1", context_engine), "And on a client?", session_id="basic-user")
    await redis_client.aclose()


async def in_memory() -> None:
    """Pattern 3: without a server, in memory, as far as you allow it."""
    async with ContextEngine("redis://localhost:1", fallback="memory") as context_engine:
        await ask(await start_agent("agent-1", context_engine), "Is anybody there?", session_id="basic-user")
        print("  runs on:", (await context_engine.health_check())["storage_backend"])


async def main() -> None:
    """Show the three patterns."""
    print("A simple agent")
    await simple_agent()
    print("On a Redis client")
    await on_a_client()
    print("Without a server")
    await in_memory()


if __name__ == "__main__":
    asyncio.run(main())
