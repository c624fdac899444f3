"""Session management: the life of a session, what agents count by themselves, cleanup, sums over sessions."""

from __future__ import annotations

import asyncio

from scripted import NAMESPACE, ask, start_agent

from contextengine import ContextEngine


async def lifecycle(context_engine: ContextEngine) -> None:
    """Pattern 1: create, update, read, end."""
    await context_engine.create_session(session_id="checkout", user_id="ann", metadata={"source": "web"})
    await context_engine.update_session(session_id="checkout", increment_requests=True, add_processing_time=1.5)
    session = await context_engine.get_session("checkout")
    assert session is not None
    print(f"  requests: {session.request_count}, errors: {session.error_count}")
    print(f"  average time: {session.total_processing_time / session.request_count} s")
    await context_engine.end_session("checkout", status="completed")


async def tracking(context_engine: ContextEngine) -> None:
    """Pattern 2: a session that an agent talks in counts the agent's requests."""
    await ask(await start_agent("agent-1", context_engine), "Hello", session_id="sessions-user")
    session = await context_engine.get_session("sessions-user")
    assert session is not None
    print(f"  requests that nobody had to count: {session.request_count}")


async def aggregation(context_engine: ContextEngine) -> None:
    """Pattern 4: sums over the active sessions."""
    active_sessions = await context_engine.list_sessions(status="active")
    total_requests = sum(session.request_count for session in active_sessions)
    total_errors = sum(session.error_count for session in active_sessions)
    print(f"  {len(active_sessions)} active session(s), {total_requests} request(s), {total_errors} error(s)")


async def cleanup(context_engine: ContextEngine) -> None:
    """Pattern 3: sessions in which nothing happens any more end; nothing is deleted."""
    print(f"  idle for 30 minutes: {await context_engine.cleanup_inactive_sessions(max_idle_seconds=1800)}")
    print(f"  idle at all: {await context_engine.cleanup_inactive_sessions(max_idle_seconds=0)}")
    history = await context_engine.get_conversation_history("sessions-user")
    print(f"  messages that are still there: {len(history)}")


async def main() -> None:
    """Show the four patterns."""
    async with ContextEngine(namespace=NAMESPACE + "-sessions") as context_engine:
        print("The life of a session")
        await lifecycle(context_engine)
        print("What agents count by themselves")
        await tracking(context_engine)
        print("All active sessions")
        await aggregation(context_engine)
        print("Cleanup")
        await cleanup(context_engine)


if __name__ == "__main__":
    asyncio.run(main())
