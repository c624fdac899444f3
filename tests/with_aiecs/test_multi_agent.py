"""The guide's section "Multi-agent patterns"."""

from __future__ import annotations

import asyncio

from contextengine import ContextEngine
from with_aiecs.agents import Model, ask, contents, hybrid, plain


class TestSharedEngine:
    async def test_as_written(self, context_engine: ContextEngine) -> None:
        """The second agent's prompt holds what was said to the first, and what the first answered."""
        model2 = Model("agent2")
        agent1 = await hybrid(context_engine, Model("agent1"), "agent-1")
        agent2 = await hybrid(context_engine, model2, "agent-2", tools=["calculator"])
        await ask(agent1, "Hello")
        await ask(agent2, "What did I say?")
        assert [m for m in model2.last_prompt if m[1] in ("Hello", "agent1 answers 1")] == [
            ("user", "Hello"),
            ("assistant", "agent1 answers 1"),
        ]

    async def test_agents_of_both_kinds(self, context_engine: ContextEngine) -> None:
        """An LLMAgent that comes into a HybridAgent's session knows what was said there."""
        model2 = Model("agent2")
        await ask(await hybrid(context_engine, Model("agent1")), "Hello")
        await ask(await plain(context_engine, model2, "agent-2"), "What did I say?")
        assert ("assistant", "agent1 answers 1") in model2.last_prompt

    async def test_at_once(self, context_engine: ContextEngine) -> None:
        """Sixteen agents at once in one session: no message is lost, and each answer follows its question."""
        agents = [await hybrid(context_engine, Model(f"agent{n}"), f"agent-{n}") for n in range(16)]
        await asyncio.gather(*(ask(agent, f"Question {n}") for n, agent in enumerate(agents)))
        said = await contents(context_engine)
        assert len(said) == 32
        for number in range(16):
            assert said.index(f"Question {number}") < said.index(f"agent{number} answers 1")


class TestOwnEngines:
    async def test_as_written(self, where: str) -> None:
        """Engines on one store are doors to the same memory; each in memory has one of its own."""
        model2 = Model("agent2")
        async with ContextEngine() as context_engine1, ContextEngine() as context_engine2:
            await ask(await hybrid(context_engine1, Model("agent1"), "agent-1"), "Hello")
            await ask(await hybrid(context_engine2, model2, "agent-2"), "What did I say?")
        assert (("user", "Hello") in model2.last_prompt) is (where != "memory://")

    async def test_isolated_by_namespace(self, where: str) -> None:
        """Engines of different namespaces isolate their agents on any store, and each remembers its own."""
        for turn in (1, 2):
            async with ContextEngine(namespace="agent-1") as one, ContextEngine(namespace="agent-2") as two:
                model1, model2 = Model("agent1"), Model("agent2")
                await ask(await hybrid(one, model1, "agent-1"), f"To the first {turn}")
                await ask(await hybrid(two, model2, "agent-2"), f"To the second {turn}")
                assert not [c for _, c in model2.last_prompt if "To the first" in c]
                if turn == 2 and where != "memory://":
                    assert ("user", "To the first 1") in model1.last_prompt
                    assert ("user", "To the second 1") in model2.last_prompt
