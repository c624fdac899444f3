"""An engine that loses its server while agents work: the contract of the real package is that tasks go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.servers import Server
from support.waiting import until

from contextengine import ContextEngine, StoreUnavailable
from with_aiecs.agents import AgentConfiguration, HybridAgent, LLMAgent, Model, ask, contents, hybrid


async def default(kind: Callable[..., Any], engine: ContextEngine, model: Model) -> Any:
    """Return an agent with the default configuration, which asks the engine to compact after every task."""
    tools = {"tools": ["search"]} if kind is HybridAgent else {}
    agent = kind(agent_id="a", name="A", llm_client=model, config=AgentConfiguration(), context_engine=engine, **tools)
    await agent.initialize()
    return agent


async def answers(engine: ContextEngine) -> bool:
    """Return whether an engine's server is there."""
    return bool((await engine.health_check())["redis_connected"])


@pytest.mark.parametrize("kind", [HybridAgent, LLMAgent])
@pytest.mark.guarantee("S1")
async def test_tasks_succeed_without_memory_and_remember_again(
    kind: Callable[..., Any], server: Server, mortal_engine: ContextEngine
) -> None:
    """While the server is away tasks succeed without memory; once it is back, what was stored before is there."""
    await ask(await default(kind, mortal_engine, Model()), "Before")
    server.kill()
    with pytest.raises(StoreUnavailable):
        await mortal_engine.get_conversation_history("user-123")
    model = Model()
    assert await ask(await default(kind, mortal_engine, model), "During") == "model answers 1"
    assert ("user", "Before") not in model.last_prompt
    server.start()
    await until(lambda: answers(mortal_engine))
    model = Model()
    await ask(await default(kind, mortal_engine, model), "After")
    assert ("user", "Before") in model.last_prompt
    assert (await contents(mortal_engine))[::2] == ["Before", "After"]


async def test_a_server_that_hangs(server: Server, mortal_engine: ContextEngine) -> None:
    """A server that takes connections and answers nothing delays a task, and does not fail it."""
    agent = await default(HybridAgent, mortal_engine, Model())
    server.freeze()
    try:
        await ask(agent, "During")
    finally:
        server.thaw()
    await until(lambda: answers(mortal_engine))
    await ask(agent, "After")
    assert (await contents(mortal_engine))[-2] == "After"


async def test_a_server_that_is_killed_between_many_turns(server: Server, mortal_engine: ContextEngine) -> None:
    """However often the server dies, no task fails, nothing is doubled, and order holds."""
    agents = [await hybrid(mortal_engine, Model(f"agent{n}"), f"agent-{n}") for n in range(4)]

    async def talk(number: int) -> None:
        for turn in range(6):
            await ask(agents[number], f"{turn}", f"user-{number}")

    async def kill() -> None:
        for _ in range(2):
            server.kill()
            await asyncio.to_thread(server.start)

    await asyncio.gather(kill(), *map(talk, range(4)))
    for number in range(4):
        asked = await contents(mortal_engine, f"user-{number}")
        turns = [text for text in asked if text.isdigit()]
        assert turns == sorted(set(turns))
