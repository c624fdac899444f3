"""The real package's ConversationMemory, through which agents reach an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from contextengine import ContextEngine
from with_aiecs.agents import ConversationMemory, Model, ask, contents, hybrid


@pytest.fixture
def memory(context_engine: ContextEngine) -> Any:
    """A ConversationMemory on each kind of store in turn."""
    return ConversationMemory(agent_id="agent-1", context_engine=context_engine)


@pytest.fixture
def stranger(context_engine: ContextEngine) -> Callable[[], Any]:
    """Make ConversationMemories that know nothing of their own."""
    return lambda: ConversationMemory(agent_id="agent-2", context_engine=context_engine)


async def test_messages(memory: Any, stranger: Callable[[], Any]) -> None:
    """Messages come back as the package's own, for whoever asks."""
    assert await memory.aadd_conversation_message("s", "user", "Hello", metadata={"a": 1}) is True
    assert await memory.aadd_conversation_message("s", "assistant", "Hi") is True
    found = await stranger().aget_conversation_history("s")
    assert [(message.role, message.content) for message in found] == [("user", "Hello"), ("assistant", "Hi")]
    assert await stranger().aformat_conversation_history("s") == "USER: Hello\nASSISTANT: Hi"
    assert [m.content for m in await memory.aget_conversation_history("s", limit=1)] == ["Hi"]


async def test_the_newest_fifty(memory: Any) -> None:
    """Without a limit the newest 50 come, in order."""
    for number in range(60):
        await memory.aadd_conversation_message("s", "user", str(number))
    assert [m.content for m in await memory.aget_conversation_history("s")] == [str(n) for n in range(10, 60)]


async def test_sessions(memory: Any, stranger: Callable[[], Any], context_engine: ContextEngine) -> None:
    """A session is created, counted and ended through it, and read by one that does not know it yet."""
    assert await memory.acreate_session_with_context("s", user_id="ann", metadata={"a": 1}) == "s"
    assert await memory.acreate_session_with_context("s") == "s"
    updates = [
        memory.update_session_with_context("s", increment_requests=True, add_processing_time=0.5) for _ in range(10)
    ]
    assert all(await asyncio.gather(*updates))
    assert await memory.update_session_with_context("s", mark_error=True, updates={"mood": "good"}) is True
    for reader in (memory, stranger()):
        session = await reader.aget_session_with_context("s")
        assert (session.request_count, session.error_count, session.total_processing_time) == (10, 1, 5.0)
        assert isinstance(session.created_at, datetime)
        assert session.is_expired(max_idle_seconds=1800) is False
        assert session.get_metrics()["request_count"] == 10
    assert await memory.end_session_with_context("s", status="completed") is True
    session = await stranger().aget_session_with_context("s")
    assert (session.status, session.is_active()) == ("completed", False)
    stored = await context_engine.get_session("s")
    assert stored is not None
    assert (stored.user_id, stored.metadata) == ("ann", {"a": 1, "mood": "good"})


async def test_the_session_of_an_agent(context_engine: ContextEngine, memory: Any) -> None:
    """The session that an agent wrote to is found, counted, and can be created afterwards without loss."""
    await ask(await hybrid(context_engine, Model()), "Hello")
    session = await memory.aget_session_with_context("user-123")
    assert session.request_count == 1
    await memory.acreate_session_with_context("user-123", user_id="ann")
    assert await contents(context_engine) == ["Hello", "model answers 1"]


async def test_clearing(memory: Any, context_engine: ContextEngine) -> None:
    """Clearing empties what agents get; an agent goes on in the session, and the log keeps what was said."""
    model = Model()
    agent = await hybrid(context_engine, model)
    await ask(agent, "Hello")
    assert await memory.clear_conversation_history("user-123") is True
    assert await memory.aget_conversation_history("user-123") == []
    await ask(agent, "Who am I?")
    assert ("user", "Hello") not in model.last_prompt
    assert (await contents(context_engine))[0] == "Who am I?"
    assert len(await context_engine._here().store.read("user-123")) == 6


async def test_unknown_sessions(memory: Any) -> None:
    """What there is not is None, empty or False, as the package expects."""
    assert await memory.aget_session_with_context("nobody") is None
    assert await memory.aget_conversation_history("nobody") == []
    assert await memory.update_session_with_context("nobody", increment_requests=True) is False
    assert await memory.end_session_with_context("nobody") is False


async def test_idle_sessions(memory: Any, stranger: Callable[[], Any]) -> None:
    """The package's own cleanup ends sessions in the engine too."""
    await memory.acreate_session_with_context("s")
    assert await memory.cleanup_inactive_sessions(max_idle_seconds=1800) == 0
    assert await memory.cleanup_inactive_sessions(max_idle_seconds=-1) == 1
    assert (await stranger().aget_session_with_context("s")).status == "expired"
