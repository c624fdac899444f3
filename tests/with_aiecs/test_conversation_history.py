"""The guide's section "Conversation history patterns", without compression."""

from __future__ import annotations

from datetime import datetime

from contextengine import ContextEngine
from with_aiecs.agents import Model, ask, contents, hybrid


class TestPersistent:
    async def test_as_written(self, context_engine: ContextEngine) -> None:
        """Weather, tomorrow, restart, "What did I ask about?": the second agent's prompt holds all of it in order."""
        agent1 = await hybrid(context_engine, Model("agent1"))
        await ask(agent1, "What's the weather?")
        await ask(agent1, "What about tomorrow?")
        await agent1.shutdown()
        model = Model("agent2")
        agent2 = await hybrid(context_engine, model)
        await ask(agent2, "What did I ask about?")
        talk = [
            ("user", "What's the weather?"),
            ("assistant", "agent1 answers 1"),
            ("user", "What about tomorrow?"),
            ("assistant", "agent1 answers 2"),
        ]
        assert [message for message in model.last_prompt if message in talk] == talk

    async def test_by_a_second_engine(self, where: str) -> None:
        """What an engine that was closed had stored, the next one has, where the store keeps anything."""
        async with ContextEngine() as context_engine:
            await ask(await hybrid(context_engine, Model()), "Hello")
        async with ContextEngine() as context_engine:
            kept = [] if where == "memory://" else ["Hello", "model answers 1"]
            assert await contents(context_engine) == kept


class TestRetrieval:
    async def test_as_written(self, context_engine: ContextEngine) -> None:
        """The history and its formats hold what agents said; and the agent goes on with it."""
        model = Model()
        agent = await hybrid(context_engine, model)
        await ask(agent, "Hello")
        history = await context_engine.get_conversation_history(session_id="user-123", limit=50)
        assert [(m.role, m["content"]) for m in history] == [("user", "Hello"), ("assistant", "model answers 1")]
        assert all(isinstance(m.timestamp, datetime) and m.timestamp.tzinfo is None for m in history)
        formatted = await context_engine.format_conversation_history(session_id="user-123", format="messages")
        assert formatted == history
        text = await context_engine.format_conversation_history(session_id="user-123", format="string")
        assert text.endswith("assistant: model answers 1")
        dicts = await context_engine.format_conversation_history(session_id="user-123", format="dict")
        assert [d["role"] for d in dicts] == ["user", "assistant"]
        await ask(agent, "Continue conversation")
        assert [message for message in model.last_prompt if message[1] in ("Hello", "model answers 1")] == [
            ("user", "Hello"),
            ("assistant", "model answers 1"),
        ]
