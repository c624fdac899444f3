"""Compaction as users of an engine meet it, on memory and on each server alike."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.summarizers import Model, Slow
from support.transcripts import calls, chat, result, said
from support.waiting import until

from contextengine import (
    CompactionFailed,
    CompressionConfig,
    ContextEngine,
    InvalidInput,
    Message,
    NotInitialized,
    register_strategy,
)
from contextengine.runtime import Runtime
from projections.history import HistoryChange, fold
from workers.compaction import Plan, Task
from workers.compaction.worker import CONFIGURED, GROUP

AUTO: dict[str, Any] = {"auto_compress_enabled": True, "auto_compress_threshold": 20, "keep_recent": 4}
"""Under these settings 20 messages become 10 at most."""
REPORT = {
    "success",
    "strategy",
    "original_count",
    "compressed_count",
    "compression_ratio",
    "tokens_before",
    "tokens_after",
    "tokens_saved",
    "summarizer",
    "remark",
    "version",
    "time_taken",
}


@pytest.fixture
async def engines(url: str, namespace: str) -> AsyncIterator[Callable[..., Any]]:
    """Open engines on each kind of store in turn."""
    async with contextlib.AsyncExitStack() as opened:

        async def make(**settings: Any) -> ContextEngine:
            return await opened.enter_async_context(ContextEngine(url, namespace=namespace, **settings))

        yield make


@pytest.fixture
async def engine(engines: Callable[..., Any]) -> ContextEngine:
    """An engine with nobody in the background, and no model."""
    opened: ContextEngine = await engines(workers=False)
    return opened


def runtime_of(engine: ContextEngine) -> Runtime:
    """Return the open parts of an engine."""
    assert engine._runtime is not None
    return engine._runtime


async def looked_at(engine: ContextEngine) -> None:
    """Wait until the compaction workers have looked at everything."""
    group = GROUP if engine.compression_config.auto_compress_enabled else CONFIGURED

    async def done() -> bool:
        progress = await runtime_of(engine).store.feed.progress(group)
        return all(partition.done >= partition.end for partition in progress)

    await until(done)


async def all_of(engine: ContextEngine, session_id: str = "s") -> list[Message]:
    """Return the whole current history."""
    return await engine.get_conversation_history(session_id, limit=0)


def texts(messages: list[Message]) -> list[str]:
    """Return what messages say."""
    return [message.content for message in messages]


def said_in(messages: list[dict[str, Any]]) -> list[str]:
    """Return what messages say that were given."""
    return [message["content"] for message in messages]


async def check_summaries(engine: ContextEngine, session_id: str = "s") -> None:
    """Check that nothing is hidden: originals, the range behind the summary, and what it says of itself."""
    history = await all_of(engine, session_id)
    originals = await engine.get_conversation_history(session_id, include_compacted=True)
    if not history or history[0].metadata.get("type") != "summary":
        return
    summary, *rest = history
    behind = await engine.expand_summary(session_id, summary.version)
    assert len(behind) == summary.metadata["summarized_count"]
    assert f"{len(behind)} earlier messages" in summary.content
    assert sorted(behind + rest, key=lambda message: message.version) == originals


class TestByItself:
    @pytest.mark.guarantee("C6")
    async def test_by_messages(self, engines: Callable[..., Any]) -> None:
        """Reaching the threshold compacts a history in the background, to the target at most; nothing is hidden."""
        model = Model()
        engine = await engines(compression_config=CompressionConfig("summarize", **AUTO), llm_client=model)
        messages = [said("Be kind.", "system"), *chat(19)]
        await engine.add_conversation_messages("s", messages[:19])
        await looked_at(engine)
        assert len(await all_of(engine)) == 19
        await engine.add_conversation_messages("s", messages[19:])
        await until(lambda: bool(model.prompts))
        await looked_at(engine)
        summary, *rest = await all_of(engine)
        assert (summary.role, summary.metadata["type"]) == ("system", "summary")
        assert summary.content == "[Summary of 15 earlier messages]\n\nSummary 1."
        assert texts(rest) == ["Be kind.", *said_in(messages[-4:])]
        assert len(model.prompts) == 1
        await check_summaries(engine)

    @pytest.mark.guarantee("C6")
    async def test_a_long_conversation(self, engines: Callable[..., Any]) -> None:
        """Compactions follow each other; each is asked for what has aged since the last, never for the whole again."""
        model = Model()
        engine = await engines(compression_config=CompressionConfig("summarize", **AUTO), llm_client=model)
        messages = chat(100)
        for start in range(0, 100, 5):
            await engine.add_conversation_messages("s", messages[start : start + 5])
            await looked_at(engine)
            assert len(await all_of(engine)) < 20
        assert texts(await all_of(engine))[-4:] == said_in(messages[-4:])
        assert len(model.prompts) >= 5
        for number, prompt in enumerate(model.prompts):
            assert prompt.count("message <") == 16 - bool(number)
            assert (f"Summary {number}." in prompt) is bool(number)
        assert texts(await engine.get_conversation_history("s", include_compacted=True)) == said_in(messages)
        await check_summaries(engine)
        session = await engine.get_session("s")
        assert session
        assert session.message_count == 100
        assert (await engine.get_global_metrics())["total_messages"] == 100

    async def test_by_tokens(self, engines: Callable[..., Any]) -> None:
        """A budget of tokens starts a compaction too, whichever comes first."""
        budget: dict[str, Any] = {
            "auto_compress_token_threshold": 1000,
            "token_counter": len,
            "summary_max_tokens": 100,
        }
        config = CompressionConfig("summarize", **AUTO, **budget)
        engine = await engines(compression_config=config)
        await engine.add_conversation_messages("s", [said("x" * 90) for _ in range(10)])
        await looked_at(engine)
        assert len(await all_of(engine)) == 10
        await engine.add_conversation_message("s", "user", "x" * 90)
        await looked_at(engine)
        summary, *rest = await all_of(engine)
        assert summary.metadata["summarized_count"] == 7
        assert len(rest) == 4
        await check_summaries(engine)

    async def test_a_summary_says_what_was_left_out(self, engines: Callable[..., Any]) -> None:
        """Messages that went without being summarized are told apart from those that the summary speaks of."""
        model = Model()
        engine = await engines(llm_client=model)
        await engine.add_conversation_messages("s", chat(12))
        config = CompressionConfig("hybrid", max_messages=6, keep_recent=3)
        await engine.compress_conversation("s", config_override=config)
        summary, *_ = await all_of(engine)
        assert summary.content.startswith("[Summary of 9 earlier messages, 6 of them left out]")
        told = summary.metadata
        assert (told["summarized_count"], told["compaction"]["messages"], told["compaction"]["left_out"]) == (9, 9, 6)

    @pytest.mark.guarantee("C4")
    async def test_what_was_undone_stands_behind_no_summary(self, engines: Callable[..., Any]) -> None:
        """The originals behind a summary are those for which it stands: not what had been undone before."""
        engine = await engines()
        await engine.add_conversation_messages("s", chat(3))
        await engine.undo_messages("s", 2)
        await engine.add_conversation_messages("s", chat(4))
        config = CompressionConfig("summarize", keep_recent=1)
        await engine.compress_conversation("s", config_override=config)
        summary, *_ = await all_of(engine)
        behind = await engine.expand_summary("s", summary.version)
        assert len(behind) == summary.metadata["summarized_count"] == 5
        assert [message.version for message in behind] == [1, 2, 5, 6, 7]

    async def test_a_session_of_its_own_kind(self, engines: Callable[..., Any]) -> None:
        """Threshold and strategy can be set for a session; the others keep the engine's, and it survives a restart."""
        engine = await engines()
        own = {"auto_compress_enabled": True, "auto_compress_threshold": 8, "keep_recent": 2, "strategy": "truncate"}
        assert await engine.configure_compression("own", **own) is True
        for session_id in ("own", "other"):
            await engine.add_conversation_messages(session_id, chat(30))
        await looked_at(engine)
        assert texts(await all_of(engine, "own")) == said_in(chat(4, 26))
        assert len(await all_of(engine, "other")) == 30
        await engine.configure_compression("own")
        await engine.add_conversation_messages("own", chat(30))
        await looked_at(engine)
        assert len(await all_of(engine, "own")) == 34

    async def test_a_session_of_its_own_kind_after_a_restart(self, url: str, namespace: str) -> None:
        """A session's settings hold in every engine that opens the namespace later."""
        if url == "memory://":
            pytest.skip("nothing is kept")
        own = {"auto_compress_enabled": True, "auto_compress_threshold": 8, "keep_recent": 2}
        async with ContextEngine(url, namespace=namespace) as engine:
            await engine.configure_compression("own", **own)
            assert await engine.get_global_metrics()  # it is in the totals, which the next engine looks at
        async with ContextEngine(url, namespace=namespace) as engine:
            await engine.add_conversation_messages("own", chat(30))
            await looked_at(engine)
            assert len(await all_of(engine, "own")) == 4

    async def test_without_workers(self, engines: Callable[..., Any]) -> None:
        """An engine that leaves the work to others does not compact by itself, but does if it is asked."""
        model = Model()
        config = CompressionConfig("summarize", **AUTO)
        engine = await engines(workers=False, compression_config=config, llm_client=model)
        await engine.configure_compression("s", keep_recent=5)
        await engine.add_conversation_messages("s", chat(30))
        assert runtime_of(engine)._workers == {}
        assert len(await all_of(engine)) == 30
        assert (await engine.compress_conversation("s"))["compressed_count"] == 6
        assert len(model.prompts) == 1

    async def test_on_append(self, engines: Callable[..., Any]) -> None:
        """``compress_on_append`` is short for a configuration that does so."""
        engine = await engines(compress_on_append=True, compression_summary_role="user")
        assert engine.compression_config.auto_compress_enabled
        await engine.add_conversation_messages("s", chat(100))
        await looked_at(engine)
        assert len(await all_of(engine)) == 50

    async def test_enabled_later(self, engines: Callable[..., Any]) -> None:
        """A configuration that is replaced holds from then on."""
        engine = await engines()
        await engine.add_conversation_messages("s", chat(30))
        engine.compression_config = CompressionConfig(**AUTO)
        await engine.add_conversation_message("s", "user", "x")
        await looked_at(engine)
        assert len(await all_of(engine)) == 10
        with pytest.raises(InvalidInput, match="CompressionConfig"):
            engine.compression_config = {"strategy": "truncate"}

    async def test_a_session_that_cannot_be_compacted(self, engines: Callable[..., Any]) -> None:
        """Settings that do not fit the engine's, or a strategy that fails, cost the other sessions nothing."""
        register_strategy("contract-fails", Failing())
        engine = await engines(compression_config=CompressionConfig(**AUTO))
        await engine.configure_compression("fails", strategy="contract-fails")
        await engine.configure_compression("odd", auto_compress_target=5)
        engine.compression_config = CompressionConfig(**AUTO | {"keep_recent": 9})
        for session_id in ("fails", "odd", "s"):
            await engine.add_conversation_messages(session_id, chat(30))
        await looked_at(engine)
        assert [len(await all_of(engine, session_id)) for session_id in ("fails", "odd", "s")] == [30, 30, 10]


class Failing:
    """A strategy that fails."""

    def embeds(self, config: CompressionConfig) -> bool:
        return False

    def summarizes(self, config: CompressionConfig) -> bool:
        return False

    def plan(self, task: Task) -> Plan:
        raise LookupError("no plan")


class EverySecond(Failing):
    """A strategy of a user's: every second unit goes."""

    def plan(self, task: Task) -> Plan:
        return Plan(dropped=task.older[::2])


class TestOnDemand:
    @pytest.mark.parametrize(
        ("strategy", "count", "summarizer"),
        [("truncate", 20, None), ("summarize", 5, "model"), ("semantic", 20, None), ("hybrid", 5, "model")],
    )
    async def test_report(self, engines: Callable[..., Any], strategy: str, count: int, summarizer: str | None) -> None:
        """It says what was done, in the original's words, and what became of the tokens."""
        engine = await engines(workers=False, llm_client=Model())
        await engine.add_conversation_messages("s", [*chat(20), *chat(10)])
        config = CompressionConfig(max_messages=20, keep_recent=4)
        report = await engine.compress_conversation("s", strategy=strategy, config_override=config)
        assert set(report) == REPORT
        assert (report["success"], report["strategy"], report["summarizer"]) == (True, strategy, summarizer)
        assert (report["original_count"], report["compressed_count"]) == (30, count)
        assert report["compression_ratio"] == 1 - count / 30
        assert report["tokens_before"] - report["tokens_after"] == report["tokens_saved"] > 0
        assert report["time_taken"] > 0
        history = await all_of(engine)
        assert len(history) == count
        if summarizer:
            assert history[0].version == report["version"]
        assert texts(history)[-4:] == said_in(chat(4, 6))
        await check_summaries(engine)

    async def test_again(self, engine: ContextEngine) -> None:
        """Where there is nothing left to do, it says so, and nothing is written."""
        await engine.add_conversation_messages("s", chat(30))
        await engine.compress_conversation("s", "summarize")
        before = await engine.get_session("s")
        report = await engine.compress_conversation("s", "summarize")
        assert (report["success"], report["version"], report["original_count"]) == (True, None, 11)
        assert (report["compressed_count"], report["compression_ratio"], report["tokens_saved"]) == (11, 0.0, 0)
        assert await engine.get_session("s") == before

    async def test_nothing_there(self, engine: ContextEngine) -> None:
        """An unknown session, or one without messages, has nothing to compress."""
        await engine.create_session("empty")
        for session_id in ("nobody", "empty"):
            report = await engine.compress_conversation(session_id)
            assert (report["success"], report["original_count"], report["compressed_count"]) == (False, 0, 0)
            assert report["error"] == "No messages to compress"
        assert await engine.get_session("nobody") is None
        assert await engine.auto_compress_on_limit("nobody") is None

    async def test_no_model(self, engine: ContextEngine) -> None:
        """Without a model, or with one that fails, a summary is written all the same, and says by whom and why."""
        await engine.add_conversation_messages("s", chat(30))
        report = await engine.compress_conversation("s", "summarize")
        assert (report["success"], report["summarizer"], report["remark"]) == (True, "extractive", None)

        async def fail(prompt: str) -> str:
            raise ConnectionError("\ud800 refused")

        engine.llm_client = fail
        await engine.add_conversation_messages("s", chat(30))
        report = await engine.compress_conversation("s", "summarize")
        assert report["summarizer"] == "extractive"
        assert "ConnectionError" in report["remark"]
        summary = (await all_of(engine))[0]
        assert summary.metadata["compaction"]["remark"] == report["remark"]
        await check_summaries(engine)

    async def test_hidden_summary(self, engines: Callable[..., Any]) -> None:
        """A summary that is not to be shown is none of the messages; the next summary goes on from it all the same."""
        model = Model()
        config = CompressionConfig("summarize", include_summary_in_history=False)
        engine = await engines(workers=False, compression_config=config, llm_client=model)
        await engine.add_conversation_messages("s", chat(30))
        report = await engine.compress_conversation("s")
        assert (report["original_count"], report["compressed_count"]) == (30, 10)
        assert texts(await all_of(engine)) == said_in(chat(10, 20))
        assert len(await engine.expand_summary("s", report["version"])) == 20
        await engine.add_conversation_messages("s", chat(10))
        report = await engine.compress_conversation("s")
        assert "Summary 1." in model.prompts[1]
        assert len(await engine.expand_summary("s", report["version"])) == 30

    async def test_a_strategy_that_fails(self, engine: ContextEngine) -> None:
        """It is a failed compaction, and the history is as it was."""
        register_strategy("contract-fails", Failing())
        await engine.add_conversation_messages("s", chat(30))
        report = await engine.compress_conversation("s", "contract-fails")
        assert (report["success"], report["strategy"]) == (False, "contract-fails")
        assert "LookupError: no plan" in report["error"]
        config = CompressionConfig(token_counter=lambda text: None)  # type: ignore[arg-type,return-value]
        report = await engine.compress_conversation("s", config_override=config)
        assert "token_counter" in report["error"]
        engine.compression_config = CompressionConfig("contract-fails")
        with pytest.raises(CompactionFailed):
            await engine.get_compressed_context("s", compress_first=True)
        assert texts(await all_of(engine)) == said_in(chat(30))

    async def test_a_summary_that_the_log_does_not_take(self, engines: Callable[..., Any]) -> None:
        """It is a failed compaction, and the history is as it was."""
        engine = await engines(workers=False, max_event_bytes=2000)
        config = CompressionConfig("summarize", summary_max_tokens=10_000)
        await engine.add_conversation_messages("s", [said("word " * 100) for _ in range(30)])
        report = await engine.compress_conversation("s", config_override=config)
        assert (report["success"], "stored" in report["error"]) == (False, True)
        assert len(await all_of(engine)) == 30

    @pytest.mark.parametrize(
        "arguments",
        [
            {"strategy": "collapse"},
            {"strategy": 5},
            {"strategy": ["truncate"]},
            {"config_override": {"strategy": "truncate"}},
            {"config_override": "truncate"},
            {"session_id": ""},
            {"session_id": None},
        ],
        ids=str,
    )
    async def test_bad_arguments(self, engine: ContextEngine, arguments: dict[str, Any]) -> None:
        """They are refused."""
        with pytest.raises(InvalidInput):
            await engine.compress_conversation(**{"session_id": "s"} | arguments)

    async def test_a_session_cannot_be_configured_anyhow(self, engine: ContextEngine) -> None:
        """What cannot be accepted, does not fit together or cannot be kept in a log is refused; nothing is written."""
        for settings in (
            {"nonsense": 1},
            {"keep_recent": -1},
            {"strategy": "collapse"},
            {"token_counter": len},
            {"embeddings": len},
            AUTO | {"auto_compress_target": 20},
        ):
            with pytest.raises(InvalidInput):
                await engine.configure_compression("s", **settings)
        assert await engine.get_session("s") is None

    async def test_auto_compress_on_limit(self, engines: Callable[..., Any]) -> None:
        """It compacts what has reached a threshold, and nothing else."""
        engine = await engines(workers=False, compression_config=CompressionConfig(**AUTO))
        await engine.add_conversation_messages("s", chat(19))
        assert await engine.auto_compress_on_limit("s") is None
        await engine.add_conversation_message("s", "user", "x")
        report = await engine.auto_compress_on_limit("s")
        assert (report["original_count"], report["compressed_count"], set(report)) == (20, 10, REPORT)
        assert await engine.auto_compress_on_limit("s") is None
        engine.compression_config = CompressionConfig()
        await engine.add_conversation_messages("s", chat(500))
        assert await engine.auto_compress_on_limit("s") is None


class TestStrategies:
    @pytest.mark.parametrize("by", ["client", "function"])
    async def test_semantic(self, engines: Callable[..., Any], by: str) -> None:
        """Repetitions by the client's embeddings, or by a function's, go; the newest of each group stays."""

        class Client:
            async def get_embeddings(self, texts: list[str], model: str | None = None) -> list[list[float]]:
                return [[1.0, 0.01 * len(text)] if "cat" in text else [0.0, 1.0] for text in texts]

        async def dogs(texts: list[str]) -> list[list[float]]:
            return [[1.0, 0.01 * len(text)] if "dog" in text else [0.0, 1.0] for text in texts]

        engine = await engines(workers=False, llm_client=Client())
        topics = ["a cat", "a dog", "one cat", "cats", "one dog", "dogs"]
        await engine.add_conversation_messages("s", [said(text) for text in topics])
        config = CompressionConfig("semantic", keep_recent=1, embeddings=dogs if by == "function" else None)
        report = await engine.compress_conversation("s", config_override=config)
        assert (report["success"], report["remark"]) == (True, None)
        expected = ["cats", "dogs"]
        assert texts(await all_of(engine)) == expected
        assert texts(await engine.expand_summary("s", report["version"])) == [t for t in topics if t not in expected]

    async def test_semantic_and_then_another(self, engine: ContextEngine) -> None:
        """A later compaction that reaches further back still stands for all that went."""
        texts_given = [f"topic {n} {'abcdefgh'[n] * 9}" for n in range(6)]
        await engine.add_conversation_messages("s", [said(t) for t in [*texts_given, texts_given[3], "x", "y"]])
        first = await engine.compress_conversation("s", config_override=CompressionConfig("semantic", keep_recent=2))
        assert texts(await engine.expand_summary("s", first["version"])) == [texts_given[3]]
        second = await engine.compress_conversation(
            "s", config_override=CompressionConfig(max_messages=6, keep_recent=2)
        )
        assert texts(await engine.expand_summary("s", second["version"])) == [*texts_given[:2], texts_given[3]]
        third = await engine.compress_conversation("s", config_override=CompressionConfig("summarize", keep_recent=2))
        assert len(await engine.expand_summary("s", third["version"])) == 7
        await check_summaries(engine)

    async def test_of_a_user(self, engine: ContextEngine) -> None:
        """A registered strategy is used like ours, alone and in a chain."""
        register_strategy("contract-second", EverySecond())
        await engine.add_conversation_messages("s", chat(10))
        report = await engine.compress_conversation(
            "s", config_override=CompressionConfig("contract-second", keep_recent=4)
        )
        assert (report["strategy"], report["success"]) == ("contract-second", True)
        assert texts(await all_of(engine)) == [f"message <{n}>" for n in (1, 3, 5, 6, 7, 8, 9)]
        chain = CompressionConfig("hybrid", hybrid_strategies=["contract-second", "summarize"], keep_recent=4)
        await engine.compress_conversation("s", config_override=chain)
        summary, *rest = await all_of(engine)
        assert (summary.metadata["summarized_count"], texts(rest)) == (6, said_in(chat(4, 6)))
        await check_summaries(engine)

    @pytest.mark.parametrize("strategy", ["truncate", "summarize", "semantic", "hybrid"])
    @pytest.mark.guarantee("C2")
    async def test_pairs(self, engine: ContextEngine, strategy: str) -> None:
        """No strategy parts a call from its results, nor takes a call that waits, nor the opening system message."""
        messages = [
            said("Be kind.", "system"),
            *[one for n in range(6) for one in (said("go"), calls("a", "b"), result("b"), result("a"), said("ok"))],
            calls("open"),
            said("go on"),
            calls("late"),
            *chat(3),
            result("late"),
        ]
        await engine.add_conversation_messages("s", messages)
        config = CompressionConfig(strategy, keep_recent=1, max_messages=9)
        assert (await engine.compress_conversation("s", config_override=config))["success"]
        history = await all_of(engine)
        made = [call["id"] for message in history for call in message.get("tool_calls") or []]
        given = [message["tool_call_id"] for message in history if message.role == "tool"]
        assert sorted(made) == sorted([*given, "open"])
        assert "late" in made
        assert "Be kind." in texts(history)
        await check_summaries(engine)


class TestReads:
    @pytest.fixture
    async def engine(self, engines: Callable[..., Any]) -> ContextEngine:
        """An engine with a session that has been compacted twice."""
        engine: ContextEngine = await engines(workers=False, llm_client=Model())
        config = CompressionConfig("summarize", keep_recent=5)
        for start in (0, 40):
            await engine.add_conversation_messages("s", chat(40, start))
            await engine.compress_conversation("s", config_override=config)
        return engine

    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7, 50, 0, None])
    async def test_the_summary_is_the_first(self, engine: ContextEngine, limit: int | None) -> None:
        """Whatever the limit, it leads, and counts as one message."""
        summary, *rest = await engine.get_conversation_history("s", limit)
        assert summary.metadata["summarized_count"] == 75
        expected = chat(5, 75)
        assert texts(rest) == said_in(expected[max(0, 5 - (limit - 1)) :] if limit else expected)

    @pytest.mark.guarantee("C4")
    async def test_originals(self, engine: ContextEngine) -> None:
        """All of them can be read, the newest of them, and those behind each summary."""
        originals = await engine.get_conversation_history("s", include_compacted=True)
        assert texts(originals) == said_in(chat(80))
        newest = await engine.get_conversation_history("s", limit=7, include_compacted=True)
        assert newest == originals[-7:]
        (summary,) = await engine.get_conversation_history("s", limit=1)
        assert await engine.expand_summary("s", summary.version) == originals[:75]
        assert await engine.expand_summary("s", 41) == originals[:35]

    @pytest.mark.parametrize("version", [0, 1, 40, 42, 10**6, -1, "41", None, True])
    async def test_there_is_no_summary(self, engine: ContextEngine, version: Any) -> None:
        """What is no compaction's version is refused, and so is an unknown session."""
        with pytest.raises(InvalidInput):
            await engine.expand_summary("s", version)
        with pytest.raises(InvalidInput):
            await engine.expand_summary("nobody", 1)

    async def test_formats(self, engine: ContextEngine) -> None:
        """The compressed context comes in every format, with its summary, compacted first if asked for."""
        messages = await engine.get_compressed_context("s")
        assert messages == await all_of(engine)
        assert await engine.get_compressed_context("s", format="dict") == [message.to_dict() for message in messages]
        text = await engine.get_compressed_context("s", format="string")
        assert text.startswith("[20")
        assert "system: [Summary of 75 earlier messages]\n\nSummary 2." in text
        engine.compression_config = CompressionConfig("summarize", keep_recent=2)
        compressed = await engine.get_compressed_context("s", compress_first=True)
        assert texts(compressed)[1:] == said_in(chat(2, 78))
        assert await engine.get_compressed_context("nobody", compress_first=True) == []
        with pytest.raises(InvalidInput, match="format"):
            await engine.get_compressed_context("s", format="xml")

    async def test_the_session_counts_what_was_said(self, engine: ContextEngine) -> None:
        """Messages ever added are still counted, and a compaction is no sign of life."""
        session = await engine.get_session("s")
        assert session
        assert session.message_count == 80
        await engine.add_conversation_messages("s", chat(9))
        before = await engine.get_session("s")
        assert before
        await engine.compress_conversation("s", "summarize", CompressionConfig(keep_recent=2))
        after = await engine.get_session("s")
        assert after
        assert (after.last_activity, after.message_count) == (before.last_activity, 89)
        assert after.version == before.version + 1
        assert (await engine.get_global_metrics())["total_messages"] == 89

    async def test_cleared(self, engine: ContextEngine) -> None:
        """A clear takes the summary along; what comes then begins anew."""
        await engine.end_session("s", status="cleared")
        assert await all_of(engine) == []
        assert await engine.get_conversation_history("s", include_compacted=True) == []
        await engine.add_conversation_messages("s", chat(20))
        await engine.compress_conversation("s", "summarize")
        assert (await all_of(engine))[0].metadata["summarized_count"] == 10
        await check_summaries(engine)


class TestRaces:
    @pytest.mark.guarantee("C3")
    async def test_what_arrives_during_a_summary_stays(self, engines: Callable[..., Any]) -> None:
        """Messages, updates and contexts that come while the model writes are there afterwards, in order."""
        model = Slow()
        engine = await engines(compression_config=CompressionConfig("summarize", **AUTO), llm_client=model)
        await engine.add_conversation_messages("s", chat(20))
        await model.asked.wait()
        await engine.add_conversation_messages("s", chat(30, 20))
        await engine.set_context("s", "key", "value")
        await engine.update_session("s", increment_requests=True)
        assert texts(await all_of(engine)) == said_in(chat(50))
        model.answers.set()
        await looked_at(engine)
        await until(lambda: len(model.prompts) == 2)
        await looked_at(engine)
        summary, *rest = await all_of(engine)
        assert texts(rest) == said_in(chat(4, 46))
        assert summary.metadata["summarized_count"] == 46
        assert texts(await engine.get_conversation_history("s", include_compacted=True)) == said_in(chat(50))
        assert await engine.get_context("s", "key") == "value"
        await check_summaries(engine)

    @pytest.mark.guarantee("C3")
    async def test_a_clear_during_a_summary(self, engines: Callable[..., Any]) -> None:
        """The history stays cleared, the compaction fails and says so."""
        model = Slow()
        engine = await engines(workers=False, llm_client=model)
        await engine.add_conversation_messages("s", chat(20))
        compressing = asyncio.create_task(engine.compress_conversation("s", "summarize"))
        await model.asked.wait()
        await engine.end_session("s", status="cleared")
        await engine.add_conversation_messages("s", chat(3))
        model.answers.set()
        report = await compressing
        assert (report["success"], report["strategy"]) == (False, "summarize")
        assert "rewritten" in report["error"]
        assert texts(await all_of(engine)) == said_in(chat(3))

    @pytest.mark.guarantee("C1")
    async def test_two_engines(self, engines: Callable[..., Any], url: str) -> None:
        """Engines that see the same threshold reached pay for one summary, and one compaction takes effect."""
        if url == "memory://":
            pytest.skip("an engine in memory is alone")
        model = Slow()
        config = CompressionConfig("summarize", **AUTO)
        pair = [await engines(compression_config=config, llm_client=model) for _ in range(2)]
        await pair[0].add_conversation_messages("s", chat(20))
        await model.asked.wait()
        calls = [asyncio.create_task(engine.auto_compress_on_limit("s")) for engine in pair]
        agents = await asyncio.gather(*(engine.compress_on_append_if_needed("s") for engine in pair))
        assert agents == [None, None]
        model.answers.set()
        assert await asyncio.gather(*calls) == [None, None]
        for engine in pair:
            await looked_at(engine)
        assert len(model.prompts) == 1
        assert await effective(pair[0]) == [21]
        await check_summaries(pair[1])

    @pytest.mark.guarantee("C1")
    async def test_two_calls(self, engines: Callable[..., Any]) -> None:
        """Calls at the same time share one summary, and report the same compaction."""
        model = Slow()
        engine = await engines(workers=False, llm_client=model)
        await engine.add_conversation_messages("s", chat(30))
        calls = [asyncio.create_task(engine.compress_conversation("s", "summarize")) for _ in range(3)]
        await model.asked.wait()
        model.answers.set()
        reports = await asyncio.gather(*calls)
        assert [report["success"] for report in reports] == [True] * 3
        assert {report["version"] for report in reports} == {31}
        assert {report["compressed_count"] for report in reports} == {11}
        assert len(model.prompts) == 1

    async def test_what_was_undone_meanwhile_is_no_compaction(
        self, engines: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A call that had to wait, while messages were undone, compacts: an earlier compaction is not its answer."""
        engine = await engines(workers=False)
        await engine.add_conversation_messages("s", chat(30))
        first = (await engine.compress_conversation("s", "summarize"))["version"]
        await engine.add_conversation_messages("s", chat(20))
        views = runtime_of(engine).compactor._views
        assert await views.lease("s", "another", 60)
        waiting = asyncio.create_task(engine.compress_conversation("s", "summarize"))
        tries = 0
        lease = views.lease

        async def counted(session_id: str, holder: str, seconds: float) -> bool:
            nonlocal tries
            tries += 1
            return bool(await lease(session_id, holder, seconds))

        monkeypatch.setattr(views, "lease", counted)
        await until(lambda: tries > 1)
        await engine.undo_messages("s", first + 15)
        await views.release("s", "another")
        assert (await waiting)["version"] > first

    @pytest.mark.guarantee("C1")
    async def test_without_a_lease(self, engines: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """Even if nothing keeps compactors apart, the first of those that planned from one history takes effect."""
        model = Slow()
        engine = await engines(workers=False, llm_client=model)

        async def lease(session_id: str, holder: str, seconds: float) -> bool:
            return True

        monkeypatch.setattr(runtime_of(engine).compactor._views, "lease", lease)
        await engine.add_conversation_messages("s", chat(30))
        tasks = [asyncio.create_task(engine.compress_conversation("s", "summarize")) for _ in range(3)]
        await until(lambda: len(model.prompts) == 3)
        await engine.add_conversation_messages("s", chat(5, 30))
        model.answers.set()
        reports = await asyncio.gather(*tasks)
        assert sorted(report["success"] for report in reports) == [False, False, True]
        assert len(await effective(engine)) == 1
        assert texts(await all_of(engine))[1:] == said_in(chat(15, 20))
        await check_summaries(engine)

    async def test_a_closed_engine_lets_others(self, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An engine that is closed while its model writes leaves the history as it was, and the session to others."""
        if url == "memory://":
            pytest.skip("nothing is kept")
        monkeypatch.setattr("contextengine.runtime.DRAIN", 0.01)
        model = Slow()
        config = CompressionConfig("summarize", **AUTO)
        async with ContextEngine(url, namespace=namespace, compression_config=config, llm_client=model) as engine:
            await engine.add_conversation_messages("s", chat(20))
            await model.asked.wait()
        async with ContextEngine(url, namespace=namespace, compression_config=config, workers=False) as engine:
            assert len(await all_of(engine)) == 20
            async with asyncio.timeout(5):
                report = await engine.auto_compress_on_limit("s")
            assert report
            assert report["success"]


async def effective(engine: ContextEngine) -> list[int]:
    """Return the versions of the compactions of a session whose summary can be seen at some version."""
    seen = []
    store = runtime_of(engine).store
    change = HistoryChange()
    for event in await store.read("s"):
        change = fold(change, [event])
        if change.compaction and change.compaction.version not in seen:
            seen.append(change.compaction.version)
    return seen


class Policy:
    """A compression policy as agents set it."""

    def __init__(self, **fields: Any) -> None:
        self.enabled = True
        self.context_window_tokens = 20_000
        self.buffer_tokens = 13_000
        self.preserve_recent = 6
        self.summary_role = "system"
        self.__dict__ |= fields


class TestAgents:
    async def test_a_threshold_below_zero(self, engine: ContextEngine) -> None:
        """The policy of an agent with default settings does not compact everything at every turn."""
        await engine.add_conversation_messages("s", [said("word " * 1000) for _ in range(30)])
        for threshold in ({}, {"auto_compact_threshold_tokens": -13_000}, {"auto_compact_threshold_tokens": 0}):
            engine.compression_policy = Policy(**threshold)
            steps = ("microcompact", "collapse", "session_memory", "llm")
            assert await engine.compress_on_append_if_needed("s", strategy=steps) is None
        assert len(await all_of(engine)) == 30

    @pytest.mark.parametrize(("fields", "kept"), [({}, 6), ({"preserve_recent": 60}, 60), ({"preserve_recent": 0}, 10)])
    async def test_a_policy(self, engine: ContextEngine, fields: dict[str, Any], kept: int) -> None:
        """A policy with a threshold in tokens is kept to: its newest messages and its role for the summary hold."""
        engine.compression_policy = Policy(auto_compact_threshold_tokens=5000, summary_role="user", **fields)
        await engine.add_conversation_messages("s", [said(f"{n} " + "word " * 100) for n in range(20)])
        assert await engine.compress_on_append_if_needed("s") is None
        await engine.add_conversation_messages("s", [said(f"{n} " + "word " * 100) for n in range(20, 100)])
        report = await engine.compress_on_append_if_needed("s", strategy=("microcompact", "llm"))
        assert report
        assert (report["success"], report["strategy"]) == (True, "summarize")
        summary, *rest = await all_of(engine)
        assert (summary.role, len(rest)) == ("user", kept)
        await check_summaries(engine)

    async def test_one_of_our_strategies(self, engines: Callable[..., Any]) -> None:
        """A name that is one of ours is used."""
        engine = await engines(workers=False, compression_config=CompressionConfig("summarize", **AUTO))
        await engine.add_conversation_messages("s", chat(30))
        report = await engine.compress_on_append_if_needed("s", strategy="truncate")
        assert report
        assert (report["strategy"], report["compressed_count"]) == ("truncate", 10)

    @pytest.mark.parametrize(
        "policy",
        [
            None,
            5,
            Policy(auto_compact_threshold_tokens="many", context_window_tokens="x"),
            Policy(auto_compact_threshold_tokens=1, preserve_recent=-5),
            Policy(auto_compact_threshold_tokens=10**12),
            Policy(auto_compact_threshold_tokens=100, summary_role=5, buffer_tokens=None),
            type("Raises", (), {"enabled": property(lambda self: {"": 0}["x"])})(),
        ],
        ids=["none", "number", "texts", "tiny", "huge", "odd", "raising"],
    )
    async def test_never_raises(self, engine: ContextEngine, policy: Any) -> None:
        """Whatever it is given, and whatever the policy is, an agent's task goes on."""
        await engine.add_conversation_messages("s", chat(3))
        engine.compression_policy = policy
        odd: list[dict[str, Any]] = [
            *({"session_id": odd} for odd in (None, "", ["s"], 5)),
            *({"strategy": odd} for odd in (5, [["x"], {}], "collapse", object(), {"truncate": 1})),
        ]
        for arguments in odd:
            outcome = await engine.compress_on_append_if_needed(**{"session_id": "s"} | arguments)
            assert outcome is None or outcome["success"] in (True, False)

    async def test_never_raises_where_compacting_fails(self, engines: Callable[..., Any]) -> None:
        """A strategy that fails, or an engine that is closed, is told of in the report."""
        register_strategy("contract-fails", Failing())
        config = CompressionConfig("contract-fails", **AUTO)
        engine = await engines(workers=False, compression_config=config)
        await engine.add_conversation_messages("s", chat(30))
        report = await engine.compress_on_append_if_needed("s")
        assert (report["success"], "no plan" in report["error"]) == (False, True)
        await engine.close()
        report = await engine.compress_on_append_if_needed("s")
        assert (report["success"], "NotInitialized" in report["error"]) == (False, True)
        with pytest.raises(NotInitialized):
            await engine.compress_conversation("s")


class TestConstructor:
    """No store is needed for these, so they run once."""

    def test_defaults(self) -> None:
        """An engine compacts nothing unless it is told to, and says how it is set."""
        engine = ContextEngine("memory://")
        assert engine.compression_config == CompressionConfig()
        assert (engine.llm_client, engine.compression_policy, engine.compress_on_append) == (None, None, False)

    @pytest.mark.parametrize("role", ["system", "user"])
    def test_arguments_of_the_original(self, role: str) -> None:
        """They are honoured."""
        model, policy = Model(), Policy()
        engine = ContextEngine(
            "memory://",
            use_existing_redis=True,
            compression_config=CompressionConfig("summarize"),
            llm_client=model,
            compression_policy=policy,
            compress_on_append=True,
            compression_summary_role=role,
            permanent_backend=None,
        )
        assert (engine.llm_client, engine.compression_policy, engine.compress_on_append) == (model, policy, True)
        assert (engine.compression_config.strategy, engine.compression_config.summary_role) == ("summarize", role)
        assert engine.compression_config.auto_compress_enabled

    @pytest.mark.parametrize("name", ["permanent_backend", "hook_executor", "progress_emitter"])
    def test_what_cannot_be_honoured_is_refused(self, name: str) -> None:
        """The error names the argument, and says what to do instead."""
        with pytest.raises(InvalidInput, match=rf"{name}.*(subscribe|log)"):
            ContextEngine("memory://", **{name: object()})  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "arguments",
        [
            {"compression_config": {"strategy": "truncate"}},
            {"compression_config": "truncate"},
            {"llm_client": 5},
            {"llm_client": object()},
            {"compression_summary_role": "assistant"},
            {"compression_summary_role": 5},
            {"compress_on_append": True, "compression_config": CompressionConfig(keep_recent=100)},
        ],
        ids=",".join,
    )
    def test_what_cannot_be_is_refused(self, arguments: dict[str, Any]) -> None:
        """At once, not when the first history has grown long."""
        with pytest.raises(InvalidInput):
            ContextEngine("memory://", **arguments)
