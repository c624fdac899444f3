"""Best practices: initialize, keep to session ids, clean up, handle errors, watch the time."""

from __future__ import annotations

import asyncio
import time

from scripted import NAMESPACE, ask, start_agent

from contextengine import ContextEngine, ContextEngineError, NotInitialized


async def always_initialize() -> None:
    """Practice 1: an engine that is not open says so. ``async with`` opens and closes it."""
    try:
        await ContextEngine(namespace=NAMESPACE).get_session("user-42")
    except NotInitialized as error:
        print(f"  {error}")


async def consistent_session_ids(context_engine: ContextEngine) -> None:
    """Practice 2: an id that follows from the user leads back to the same conversation."""
    for description in ("Hello", "It's me again"):
        await ask(await start_agent("agent-1", context_engine), description, session_id=f"user-{42}")


async def handle_errors(context_engine: ContextEngine) -> None:
    """Practice 5: what cannot be stored is an error, and never silence."""
    try:
        await context_engine.add_conversation_message("user-42", "user", b"bytes are no JSON")
    except ContextEngineError as error:
        print(f"  {type(error).__name__}: {error}")


async def monitor_performance(context_engine: ContextEngine) -> None:
    """Practice 6: the last 50 messages take as long after 50 messages as after 50,000."""
    for _ in range(5):
        messages = [{"role": "user", "content": f"Message {number}"} for number in range(1000)]
        await context_engine.add_conversation_messages("long", messages)
        count = len(await context_engine.get_conversation_history("long", limit=0))
        start = time.perf_counter()
        await context_engine.get_conversation_history("long", limit=50)
        print(f"  the newest 50 of {count:,}: {(time.perf_counter() - start) * 1000:.1f} ms")


async def main() -> None:
    """Show them; compression.py shows the fourth, basic_integration.py the seventh."""
    print("Always initialize")
    await always_initialize()
    async with ContextEngine(namespace=NAMESPACE) as context_engine:
        print("Consistent session ids")
        await consistent_session_ids(context_engine)
        print("Errors")
        await handle_errors(context_engine)
        print("Performance")
        await monitor_performance(context_engine)
        print("Cleanup")  # practice 3
        print(f"  ended: {await context_engine.cleanup_inactive_sessions(max_idle_seconds=1800)}")


if __name__ == "__main__":
    asyncio.run(main())
