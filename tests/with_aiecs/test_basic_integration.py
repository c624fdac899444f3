"""The guide's section "Basic integration"."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from support.processes import Processes

from contextengine import ContextEngine, get_redis_client
from with_aiecs.agents import (
    ROOMY,
    AgentConfiguration,
    HybridAgent,
    LLMAgent,
    Model,
    ask,
    contents,
    hybrid,
    plain,
)

TESTS = Path(__file__).parents[1]


class TestSimpleAgent:
    async def test_as_written(self, where: str) -> None:
        """The guide's first lines run; what was said is stored, and the session counts its request."""
        context_engine = ContextEngine()
        await context_engine.initialize()
        agent = HybridAgent(
            agent_id="agent-1",
            name="My Agent",
            llm_client=Model(),
            tools=["search"],
            config=AgentConfiguration(goal="Help users"),
            context_engine=context_engine,
        )
        await agent.initialize()
        result = await agent.execute_task({"description": "Hello"}, {"session_id": "user-123"})
        assert (result["success"], result["output"]) == (True, "model answers 1")
        history = await context_engine.get_conversation_history("user-123")
        assert [(m.role, m.content) for m in history] == [("user", "Hello"), ("assistant", "model answers 1")]
        await context_engine.close()

    async def test_a_restarted_agent_remembers(self, context_engine: ContextEngine) -> None:
        """A new agent of the same name finds in its prompt what the old one was told and answered."""
        await ask(await hybrid(context_engine, Model("old")), "Hello")
        model = Model("new")
        await ask(await hybrid(context_engine, model), "And now?")
        assert ("user", "Hello") in model.last_prompt
        assert ("assistant", "old answers 1") in model.last_prompt

    async def test_llm_agents_too(self, context_engine: ContextEngine) -> None:
        """An LLMAgent remembers as a HybridAgent does."""
        await ask(await plain(context_engine, Model("old")), "Hello")
        model = Model("new")
        await ask(await plain(context_engine, model), "And now?")
        assert ("user", "Hello") in model.last_prompt
        assert ("assistant", "old answers 1") in model.last_prompt

    async def test_with_the_default_configuration(self, context_engine: ContextEngine) -> None:
        """An agent that believes its context to be always full remembers as well, over many turns."""
        model = Model()
        agent = HybridAgent(
            "agent-1", "My Agent", model, ["search"], AgentConfiguration(), context_engine=context_engine
        )
        await agent.initialize()
        for number in range(20):
            await ask(agent, f"Message {number}")
        history = await contents(context_engine)
        assert history[::2] == [f"Message {number}" for number in range(20)]
        assert ("user", "Message 18") in model.last_prompt

    async def test_other_sessions_stay_apart(self, context_engine: ContextEngine) -> None:
        """What was said in one session is in no prompt of another."""
        model = Model()
        agent = await hybrid(context_engine, model)
        await ask(agent, "A secret", "user-123")
        await ask(agent, "Hello", "user-456")
        assert not any("A secret" in content for _, content in model.last_prompt)

    async def test_the_last_50_messages_reach_the_prompt(self, context_engine: ContextEngine) -> None:
        """Of a long conversation an agent gets the newest 50 messages, in order."""
        messages = [{"role": "user", "content": f"Fact {number}"} for number in range(120)]
        await context_engine.add_conversation_messages("user-123", messages)
        model = Model()
        await ask(await hybrid(context_engine, model), "What do you know?")
        known = [content for _, content in model.last_prompt if content.startswith("Fact ")]
        assert known == [f"Fact {number}" for number in range(70, 120)]


class TestRefused:
    @pytest.mark.parametrize("description", ["x" * 2**20, "half of a pair: \ud83c"], ids=["too large", "no Unicode"])
    async def test_what_cannot_be_stored_fails_no_task(self, context_engine: ContextEngine, description: str) -> None:
        """A task that the engine refuses to store is done; its answer is stored, and so is what comes after."""
        agent = await hybrid(context_engine, Model())
        assert await ask(agent, description) == "model answers 1"
        assert await ask(agent, "Hello") == "model answers 2"
        assert await contents(context_engine) == ["model answers 1", "Hello", "model answers 2"]


class TestRestart:
    @pytest.mark.parametrize("kind", ["redis", "embedded"])
    async def test_in_processes_that_are_killed(
        self, kind: str, directory: Path, request: pytest.FixtureRequest
    ) -> None:
        """Each turn in a process of its own, killed after it: the third finds both earlier turns in its prompt."""
        url = request.getfixturevalue("empty_redis") if kind == "redis" else f"embedded://{directory}/memory"
        path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
        said = ["What's the weather?", "What about tomorrow?", "What did I ask about?"]
        async with Processes() as processes:
            for description in said:
                process = await processes.start(
                    *("-m", "with_aiecs.turn", "user-123", description), CONTEXTENGINE_URL=url, PYTHONPATH=path
                )
                answered = await process.says("answered")
                await process.killed()
        async with ContextEngine(url) as context_engine:
            kept = await contents(context_engine)
        assert kept[::2] == said
        remembered = [content for role, content in answered["prompt"] if content in said and role == "user"]
        assert remembered == said[:2]
        assert answered["prompt"].count(["assistant", "model answers 1"]) == 2


class TestRedisClient:
    async def test_as_written(self, empty_redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An engine on a client serves an agent, and leaves the client alone."""
        monkeypatch.setenv("CONTEXTENGINE_URL", empty_redis)
        redis_client = await get_redis_client()
        context_engine = ContextEngine(redis_client=redis_client)
        await context_engine.initialize()
        await ask(await hybrid(context_engine, Model()), "Hello")
        assert (await context_engine.health_check())["storage_backend"] == "redis"
        await context_engine.close()
        assert await redis_client.ping()
        await redis_client.aclose()

    @pytest.mark.parametrize("protocol", [2, 3])
    async def test_a_client_with_the_settings_of_aiecs(self, empty_redis: str, protocol: int) -> None:
        """A client as aiecs makes its own, which decodes replies and has a small pool, will do."""
        settings: dict[str, Any] = {"protocol": protocol, "decode_responses": True, "max_connections": 20}
        async with (
            Redis.from_url(empty_redis, **settings) as redis_client,
            ContextEngine(redis_client=redis_client) as context_engine,
        ):
            model = Model()
            agent = await hybrid(context_engine, model)
            await ask(agent, "Grüße 🌍")
            await ask(agent, "And now?")
            assert ("user", "Grüße 🌍") in model.last_prompt


class TestFallback:
    async def test_without_redis(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """Where no server answers, the guide's engine works in memory and says once that nothing will be kept."""
        monkeypatch.setenv("REDIS_URL", "unix:///nonexistent/socket")
        context_engine = ContextEngine()
        with caplog.at_level(logging.WARNING, "contextengine"):
            await context_engine.initialize()
        model = Model()
        agent = await hybrid(context_engine, model)
        await ask(agent, "Hello")
        await ask(agent, "And now?")
        assert ("user", "Hello") in model.last_prompt
        assert [record.action for record in caplog.records if record.name.startswith("contextengine")] == [  # type: ignore[attr-defined]
            "engine_in_memory"
        ]
        await context_engine.close()

    async def test_llm_agents_with_the_default_configuration(self, context_engine: ContextEngine) -> None:
        """An LLMAgent as anybody makes it does its tasks and has them stored."""
        config = AgentConfiguration(goal="Help users")
        agent = LLMAgent("agent-1", "My Agent", Model(), config, context_engine=context_engine)
        await agent.initialize()
        for number in range(3):
            await ask(agent, f"Message {number}")
        assert (await contents(context_engine))[::2] == ["Message 0", "Message 1", "Message 2"]
        assert config.context_window_limit < ROOMY
