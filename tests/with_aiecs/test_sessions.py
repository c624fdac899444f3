"""The guide's section "Session management patterns"."""

from __future__ import annotations

from contextengine import ContextEngine
from with_aiecs.agents import Model, ask, contents, hybrid, plain


class TestLifecycle:
    async def test_as_written(self, context_engine: ContextEngine) -> None:
        """Create, update, read by attribute, end."""
        session_metrics = await context_engine.create_session(
            session_id="session-123", user_id="user-456", metadata={"source": "web", "device": "mobile"}
        )
        assert session_metrics.request_count == 0
        await context_engine.update_session(
            session_id="session-123", increment_requests=True, add_processing_time=1.5, mark_error=False
        )
        session = await context_engine.get_session("session-123")
        assert session is not None
        assert f"Requests: {session.request_count}" == "Requests: 1"
        assert f"Errors: {session.error_count}" == "Errors: 0"
        assert f"Avg time: {session.total_processing_time / session.request_count}s" == "Avg time: 1.5s"
        await context_engine.end_session("session-123", status="completed")
        session = await context_engine.get_session("session-123")
        assert session is not None
        assert (session.status, session.metadata) == ("completed", {"source": "web", "device": "mobile"})


class TestTracking:
    async def test_as_written(self, context_engine: ContextEngine) -> None:
        """A session that only an agent wrote to exists, and counts the agent's tasks as its requests."""
        agent = await hybrid(context_engine, Model())
        for number in range(3):
            await ask(agent, f"Message {number}")
        session = await context_engine.get_session("user-123")
        assert session is not None
        assert (session.request_count, session.error_count, session.status) == (3, 0, "active")

    async def test_llm_agents(self, context_engine: ContextEngine) -> None:
        """An LLMAgent's tasks are counted likewise."""
        agent = await plain(context_engine, Model())
        await ask(agent, "Hello")
        session = await context_engine.get_session("user-123")
        assert session is not None
        assert session.request_count == 1

    async def test_an_ended_session_can_be_talked_in(self, context_engine: ContextEngine) -> None:
        """A task in a session that has ended is done and stored, and the session stays ended."""
        agent = await hybrid(context_engine, Model())
        await ask(agent, "Hello")
        await context_engine.end_session("user-123", status="failed")
        await ask(agent, "Are you there?")
        session = await context_engine.get_session("user-123")
        assert session is not None
        assert session.status == "failed"
        assert len(await contents(context_engine)) == 4


class TestCleanup:
    async def test_as_written(self, context_engine: ContextEngine) -> None:
        """A session that was just talked in stays; idle ones end, and an agent still finds what was said in them."""
        model = Model()
        agent = await hybrid(context_engine, model)
        await ask(agent, "Hello")
        assert await context_engine.cleanup_inactive_sessions(max_idle_seconds=1800) == 0
        assert await context_engine.cleanup_inactive_sessions(max_idle_seconds=0) == 1
        session = await context_engine.get_session("user-123")
        assert session is not None
        assert session.status == "expired"
        await ask(agent, "And now?")
        assert ("user", "Hello") in model.last_prompt


class TestAggregation:
    async def test_as_written(self, context_engine: ContextEngine) -> None:
        """Sums over all active sessions, those of agents and those that were created."""
        agent = await hybrid(context_engine, Model())
        for number in range(5):
            await ask(agent, "Hello", f"user-{number}")
        await context_engine.create_session("created")
        await context_engine.update_session(
            "created", increment_requests=True, add_processing_time=3.0, mark_error=True
        )
        await context_engine.end_session("user-4")
        active_sessions = await context_engine.list_sessions(status="active")
        total_requests = sum(s.request_count for s in active_sessions)
        total_errors = sum(s.error_count for s in active_sessions)
        total_time = sum(s.total_processing_time for s in active_sessions)
        assert (len(active_sessions), total_requests, total_errors) == (5, 5, 1)
        assert f"Average time: {total_time / total_requests}s" == "Average time: 0.6s"
