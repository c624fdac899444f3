"""Production: an engine that insists on its server, agents that outlive its absence, figures to watch."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from scripted import NAMESPACE, ask, start_agent

from contextengine import ContextEngine, ContextEngineError

logger = logging.getLogger(__name__)

TOO_MANY_ERRORS = 10


async def open_or_none(**where: Any) -> ContextEngine | None:
    """Pattern 3: an engine, or None where its server does not answer; with None, agents remember by themselves."""
    context_engine = ContextEngine(namespace=NAMESPACE, **where)
    try:
        await context_engine.initialize()
    except ContextEngineError as error:
        print(f"  no engine: {error}")
        return None
    return context_engine


async def monitor(context_engine: ContextEngine) -> None:
    """Pattern 4: figures at once or exact, sessions in trouble, health."""
    metrics = context_engine.get_global_metrics()  # at once; await it for the exact ones
    print(f"  known at once: {metrics['total_sessions']} session(s), {metrics['total_messages']} message(s)")
    print(f"  exact: {await context_engine.get_global_metrics()}")
    for session in await context_engine.list_sessions(status="active"):
        if session.error_count > TOO_MANY_ERRORS:
            logger.warning("Session %s has a high error count.", session.session_id)
    health = await context_engine.health_check()
    print(f"  {health['status']}, on {health['storage_backend']}, issues: {health['issues']}")


async def main() -> None:
    """Show the patterns; compression.py shows the second one."""
    print("A server that does not answer")
    nobody = await open_or_none(url="redis://localhost:1", fallback="error")
    agent = await start_agent("agent-1", nobody)
    await ask(agent, "Hello", session_id="production-user")
    await ask(agent, "Do you work without it?", session_id="production-user")
    print("A server that does, as CONTEXTENGINE_URL names it")
    context_engine = await open_or_none()
    assert context_engine is not None
    await ask(await start_agent("agent-1", context_engine), "Hello", session_id="production-user")
    print("Figures")
    await monitor(context_engine)
    await context_engine.close()


if __name__ == "__main__":
    asyncio.run(main())
