"""What agents do to an engine after each task: they give it a policy, and ask it to compact. Neither may fail."""

from __future__ import annotations

from typing import Any

import pytest

from contextengine import ContextEngine
from with_aiecs.agents import AgentConfiguration, HybridAgent, LLMAgent, Model, ask, contents

CHAIN = ("microcompact", "collapse", "session_memory", "llm")


def test_an_engine_is_true_and_takes_a_policy() -> None:
    """Agents ask ``if engine``, and set ``compression_policy`` on one that has none."""
    engine = ContextEngine("memory://")
    assert engine
    policy = object()
    if getattr(engine, "compression_policy", None) is None:
        engine.compression_policy = policy  # type: ignore[attr-defined, unused-ignore]
    assert engine.compression_policy is policy  # type: ignore[attr-defined, unused-ignore]


@pytest.mark.parametrize("kind", [HybridAgent, LLMAgent])
async def test_the_default_policy_shrinks_no_short_conversation(kind: Any, context_engine: ContextEngine) -> None:
    """The default policy believes that a context is always full; a short conversation stays as it is nevertheless."""
    tools = {"tools": ["search"]} if kind is HybridAgent else {}
    agent = kind(
        agent_id="a",
        name="A",
        llm_client=Model(),
        config=AgentConfiguration(),
        context_engine=context_engine,
        **tools,
    )
    await agent.initialize()
    for number in range(10):
        await ask(agent, f"Message {number}")
    assert (await contents(context_engine))[::2] == [f"Message {number}" for number in range(10)]


@pytest.mark.parametrize("session_id", ["user-123", "nobody", "", "x" * 513])
async def test_compacting_on_append_never_raises(context_engine: ContextEngine, session_id: str) -> None:
    """Whatever session an agent names, the optional call does not raise: an exception there fails the agent's task."""
    compress = getattr(context_engine, "compress_on_append_if_needed", None)
    if compress is None:
        pytest.skip("this engine does not offer compress_on_append_if_needed, which is optional")
    await context_engine.add_conversation_message("user-123", "user", "Hello")
    await compress(session_id, strategy=CHAIN)
    await context_engine.close()
    await compress(session_id, strategy=CHAIN)
    await context_engine.initialize()
