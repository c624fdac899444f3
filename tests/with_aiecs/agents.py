"""Real agents, and a language model that answers by itself and keeps every prompt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

pytest.importorskip("aiecs", reason="aiecs is not installed: `make test-aiecs` runs these tests")

from aiecs.core.interface import storage_interface
from aiecs.domain.agent import AgentConfiguration, HybridAgent, LLMAgent
from aiecs.domain.agent.integration.context_engine_adapter import ContextEngineAdapter
from aiecs.domain.agent.memory.conversation import ConversationMemory
from aiecs.domain.community.community_manager import CommunityManager
from aiecs.domain.community.models.community_models import ResourceType
from aiecs.llm import BaseLLMClient, LLMResponse

from contextengine import ContextEngine

__all__ = [
    "AgentConfiguration",
    "CommunityManager",
    "ContextEngineAdapter",
    "ConversationMemory",
    "HybridAgent",
    "LLMAgent",
    "Model",
    "ResourceType",
    "ask",
    "contents",
    "hybrid",
    "plain",
    "storage_interface",
]

ROOMY = 200_000
"""A context window in which an agent does not compact its own prompts; in the default one it does, before each call."""


class Model(BaseLLMClient):  # type: ignore[misc]
    """A language model whose n-th answer is ``<name> answers <n>``."""

    def __init__(self, name: str = "model") -> None:
        super().__init__("openai")  # one of the names of which agents believe that they can call tools
        self.name = name
        self.prompts: list[list[tuple[str, str]]] = []

    @property
    def last_prompt(self) -> list[tuple[str, str]]:
        """Role and content of each message of the last prompt: what the agent knew."""
        return self.prompts[-1]

    async def generate_text(self, messages: Sequence[Any], *_: Any, **__: Any) -> Any:
        self.prompts.append([(message.role, message.content or "") for message in messages])
        content = f"{self.name} answers {len(self.prompts)}"
        return LLMResponse(content=content, provider=self.provider_name, model="scripted", tokens_used=1)

    async def stream_text(self, messages: Sequence[Any], *_: Any, **__: Any) -> AsyncIterator[str]:
        yield (await self.generate_text(messages)).content

    async def close(self) -> None:
        """There is nothing to close."""


async def hybrid(
    engine: ContextEngine | None, model: Model, agent_id: str = "agent-1", tools: Sequence[str] = ("search",)
) -> Any:
    """Return a HybridAgent as the guide makes it, initialized."""
    config = AgentConfiguration(goal="Help users", context_window_limit=ROOMY)
    agent = HybridAgent(
        agent_id=agent_id, name="My Agent", llm_client=model, tools=list(tools), config=config, context_engine=engine
    )
    await agent.initialize()
    return agent


async def plain(engine: ContextEngine | None, model: Model, agent_id: str = "agent-1") -> Any:
    """Return an LLMAgent, initialized."""
    config = AgentConfiguration(goal="Help users", context_window_limit=ROOMY)
    agent = LLMAgent(agent_id=agent_id, name="My Agent", llm_client=model, config=config, context_engine=engine)
    await agent.initialize()
    return agent


async def ask(agent: Any, description: str, session_id: str = "user-123") -> str:
    """Have an agent do a task, and return its answer."""
    result = await agent.execute_task({"description": description}, {"session_id": session_id})
    assert result["success"], result
    return str(result["output"])


async def contents(engine: ContextEngine, session_id: str = "user-123") -> list[Any]:
    """Return what was said in a session."""
    return [message.content for message in await engine.get_conversation_history(session_id, limit=0)]
