"""The guide's patterns of compression: Conversation history 3, Production 2, Best practice 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.waiting import until

import contextengine
from contextengine import ContextEngine
from eventstore import MessageAdded
from with_aiecs.agents import Model, ask, contents, hybrid

pytestmark = pytest.mark.skipif(
    not hasattr(contextengine, "CompressionConfig"), reason="contextengine has no CompressionConfig yet"
)


def open_engine(model: Model | None = None, **settings: Any) -> ContextEngine:
    """Return an engine with a CompressionConfig of these settings, not yet open."""
    config = getattr(contextengine, "CompressionConfig")(**settings)  # noqa: B009 - the types know no such name yet
    arguments: dict[str, Any] = {"compression_config": config, "llm_client": model}
    return ContextEngine(**arguments)


async def compacted(engine: ContextEngine, at_most: int) -> list[Any]:
    """Wait until the history begins with a summary and has at most so many messages, and return it."""
    history: list[Any] = []

    async def is_so() -> bool:
        history[:] = await engine.get_conversation_history("user-123", limit=0)
        return len(history) <= at_most and "compaction" in history[0].metadata

    await until(is_so)
    return history


def texts(history: Sequence[Any]) -> list[Any]:
    """Return what the messages say."""
    return [message.content for message in history]


async def talk(engine: ContextEngine, turns: int, **agent: Any) -> list[str]:
    """Have an agent do so many tasks, and return all that was said."""
    speaker = await hybrid(engine, Model("agent"), **agent)
    said: list[str] = []
    for number in range(turns):
        said += [f"Message {number}", await ask(speaker, f"Message {number}")]
    return said


async def test_history_pattern_3(where: str) -> None:
    """Sixty tasks, summarized past 50 messages: a summary first, then the newest as they were said."""
    context_engine = open_engine(
        Model("summary"), strategy="summarize", keep_recent=10, auto_compress_enabled=True, auto_compress_threshold=50
    )
    await context_engine.initialize()
    said = await talk(context_engine, 60)
    history = await compacted(context_engine, at_most=50)
    assert len(history) > 10
    assert texts(history)[1:] == said[-(len(history) - 1) :]
    await context_engine.close()


async def test_the_agent_knows_the_summary(where: str) -> None:
    """What the engine's model wrote as a summary is what an agent that comes later finds in its prompt."""
    async with open_engine(
        Model("summary"),
        strategy="summarize",
        keep_recent=4,
        auto_compress_enabled=True,
        auto_compress_threshold=12,
        auto_compress_target=6,
    ) as context_engine:
        await talk(context_engine, 7)
        await compacted(context_engine, at_most=6 + 2)
        model = Model("late")
        await ask(await hybrid(context_engine, model), "What did we talk about?")
        assert any("summary answers" in content for _, content in model.last_prompt)


async def test_production_pattern_2(where: str) -> None:
    """The production configuration: past 100 messages at most 50 remain, the newest 20 of them verbatim."""
    context_engine = open_engine(
        Model("summary"),
        strategy="hybrid",
        hybrid_strategies=["truncate", "summarize"],
        keep_recent=20,
        auto_compress_enabled=True,
        auto_compress_threshold=100,
        auto_compress_target=50,
        summary_max_tokens=500,
        compression_timeout=30,
    )
    await context_engine.initialize()
    said = await talk(context_engine, 51)
    history = await compacted(context_engine, at_most=50 + 2)  # the last turn may come after the compaction
    assert texts(history)[-20:] == said[-20:]
    await context_engine.close()


async def test_best_practice_4(where: str) -> None:
    """The shortest configuration of the guide is accepted, with its default target, and works without a model."""
    context_engine = open_engine(auto_compress_enabled=True, auto_compress_threshold=50)
    await context_engine.initialize()
    said = await talk(context_engine, 30)
    await until(lambda: has_at_most(50, context_engine))
    assert (await contents(context_engine))[-10:] == said[-10:]
    await context_engine.close()


async def test_summarize_without_a_model_of_its_own(where: str) -> None:
    """An engine that was given no model, as in the guide, fails no task, and the newest stay as they were said."""
    async with open_engine(
        strategy="summarize", keep_recent=10, auto_compress_enabled=True, auto_compress_threshold=50
    ) as context_engine:
        said = await talk(context_engine, 30)
        assert (await contents(context_engine))[-10:] == said[-10:]


async def test_the_log_keeps_the_originals(where: str) -> None:
    """After compaction the log holds every message that was ever said."""
    async with open_engine(
        strategy="truncate",
        keep_recent=4,
        auto_compress_enabled=True,
        auto_compress_threshold=10,
        auto_compress_target=6,
    ) as context_engine:
        said = await talk(context_engine, 10)
        await until(lambda: has_at_most(10, context_engine))
        log = await context_engine._here().store.read("user-123")
        assert [event.data.content for event in log if isinstance(event.data, MessageAdded)] == said


async def has_at_most(count: int, engine: ContextEngine) -> bool:
    """Return whether the history is so short."""
    return len(await contents(engine)) <= count
