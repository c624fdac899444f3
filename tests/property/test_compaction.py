"""Compactions of random histories under random configurations: what must stay true whatever is chosen."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from support.summarizers import Model
from support.transcripts import calls, check_pairs, history, open_calls, pairs, repeated, result, said, shipped

from contextengine import CompressionConfig, ContextEngine, Message
from eventstore import HistoryCompacted
from workers.compaction import Plan, Task, register_strategy
from workers.compaction.transcript import OPENING, calls_of, results_of

IDS = ["a", "b", "c"]
TOPICS = ["cats are fine animals", "dogs run far and wide", "the sea is deep", "ships sail on the sea"]


class Scattered:
    """A strategy of a user's, which takes some units from anywhere and asks for a summary of others."""

    def embeds(self, config: CompressionConfig) -> bool:
        return False

    def summarizes(self, config: CompressionConfig) -> bool:
        return True

    def plan(self, task: Task) -> Plan:
        chance = random.Random(len(task.older))
        taken = [unit for unit in task.older if chance.random() < 0.5]
        cut = chance.randint(0, len(taken))
        return Plan(dropped=taken[:cut], summarized=taken[cut:])


register_strategy("property-scattered", Scattered())
NAMES = ["truncate", "summarize", "semantic", "hybrid", "property-scattered"]

messages = st.one_of(
    st.sampled_from(TOPICS).map(said),
    st.sampled_from(TOPICS).map(lambda text: said(text, "assistant")),
    st.sampled_from(TOPICS).map(lambda text: said(text, "system")),
    st.lists(st.sampled_from(IDS), min_size=1, max_size=3).map(lambda ids: calls(*ids)),
    st.sampled_from(IDS).map(result),
)
"""Anything after anything: results without calls, calls without results, ids again and again."""

rounds = st.lists(st.sampled_from(IDS), min_size=1, max_size=3).flatmap(
    lambda ids: st.permutations(ids).map(lambda answers: [said("go"), calls(*ids), *map(result, answers), said("ok")])
)
"""A user's turn with calls and all of their results, in some order."""

openings = st.lists(st.sampled_from(["system", "developer"]).map(lambda role: said("Be kind.", role)), max_size=2)


@st.composite
def transcripts(draw: st.DrawFn, least: int = 0, most: int = 40) -> list[dict[str, Any]]:
    """Return a conversation: a well-formed one, one of anything at all, or a mixture."""
    pieces = draw(st.lists(rounds | st.lists(messages, min_size=1, max_size=3), min_size=least, max_size=10))
    return [*draw(openings), *itertools.chain.from_iterable(pieces)][:most]


@st.composite
def configs(draw: st.DrawFn) -> CompressionConfig:
    """Return a configuration that compacts by itself."""
    keep = draw(st.integers(0, 5))
    target = draw(st.integers(keep + 1, 12))
    names = st.sampled_from(NAMES)
    return CompressionConfig(
        draw(names),
        max_messages=draw(st.integers(1, 20)),
        keep_recent=keep,
        include_summary_in_history=draw(st.booleans()),
        similarity_threshold=draw(st.sampled_from([0.5, 0.99])),
        hybrid_strategies=draw(st.lists(names.filter(lambda name: name != "hybrid"), min_size=1, max_size=3)),
        auto_compress_enabled=True,
        auto_compress_threshold=draw(st.integers(target + 1, 24)),
        auto_compress_target=target,
    )


def in_memory(
    scenario: Callable[[ContextEngine], Awaitable[None]], config: CompressionConfig, client: Any = None
) -> None:
    """Run a scenario on an engine in memory, where nobody works in the background."""

    async def run() -> None:
        async with ContextEngine("memory://", workers=False, compression_config=config, llm_client=client) as engine:
            await scenario(engine)

    asyncio.run(run())


class Conversation:
    """A session, everything that was said in it since it was last cleared, and what must be true of it."""

    def __init__(self, engine: ContextEngine, config: CompressionConfig) -> None:
        self.engine = engine
        self.config = config
        self.said: list[Message] = []
        self.compactions: list[int] = []

    async def add(self, messages: Sequence[dict[str, Any]]) -> None:
        """Say something."""
        if messages:
            await self.engine.add_conversation_messages("s", messages)
            self.said = await self.engine.get_conversation_history("s", include_compacted=True)

    async def clear(self) -> None:
        """Clear the history."""
        await self.engine.end_session("s", status="cleared")
        self.said = []

    async def staying(self) -> tuple[Message | None, list[Message]]:
        """Return the summary and the messages of the current history."""
        current = await self.engine.get_conversation_history("s", limit=0)
        if current and current[0].metadata.get("type") == "summary":
            return current[0], current[1:]
        return None, current

    async def compact(self, *, asked: bool) -> dict[str, Any] | None:
        """Compact it, by itself or because somebody asks, and check what came of it."""
        before = await self.engine.get_conversation_history("s", limit=0)
        self.said = await self.engine.get_conversation_history("s", include_compacted=True)
        compress = self.engine.compress_conversation if asked else self.engine.auto_compress_on_limit
        report = await compress("s")
        if report is not None and report["success"] and report["version"]:
            assert report["original_count"] == len(before)
            self.compactions.append(report["version"])
        await self.check()
        return report

    async def check(self) -> None:
        """Check everything that must be true at any time."""
        summary, staying = await self.staying()
        originals = await self.engine.get_conversation_history("s", include_compacted=True)
        assert [m.version for m in originals][: len(self.said)] == [m.version for m in self.said]
        there = [message.version for message in staying]
        by_version = {message.version: message for message in originals}
        assert staying == [by_version[version] for version in there], "a message is not as it was said"
        assert there == sorted(set(there)), "messages do not stand in order"
        keep = self.config.keep_recent
        assert there[len(there) - min(keep, len(originals)) :] == [m.version for m in originals][-keep:] or not keep
        opens = itertools.takewhile(lambda message: message.role in OPENING, originals)
        assert {message.version for message in opens} <= set(there), "what opens the conversation is gone"
        check_pairs(originals, there)
        assert self.compactions == sorted(set(self.compactions)), "versions do not increase"
        if summary is not None:
            behind = await self.engine.expand_summary("s", summary.version)
            assert len(behind) == summary.metadata["summarized_count"]
            assert sorted(there + [message.version for message in behind]) == sorted(by_version)
            first = await self.engine.get_conversation_history("s", limit=1)
            assert first == [summary]

    def least(self) -> int:
        """Return how many messages stay whatever is chosen: opening, newest, open, and what belongs to them."""
        count, keep = len(self.said), self.config.keep_recent
        first = next((n for n, message in enumerate(self.said) if message.role not in OPENING), count)
        stay = {*range(first), *range(max(0, count - keep), count), *open_calls(self.said)}
        together = [*pairs(self.said), *repeated(self.said)]
        for _ in range(count):  # what belongs to what stays, until nothing more does
            more = {place for pair in together if stay & {*pair} for place in pair} - stay
            if not more:
                break
            stay |= more
        return len(stay)


@given(transcript=transcripts(), config=configs(), asked=st.booleans())
@settings(max_examples=150, deadline=None)
@pytest.mark.guarantee("C2", "C4", "C6")
def test_one_compaction(transcript: list[dict[str, Any]], config: CompressionConfig, asked: bool) -> None:
    """Pairs, opening and newest messages stay, the target is reached where it can be, and nothing is hidden.

    It can be reached by whoever compacts because a threshold is reached, if the messages that may never go, and a
    summary where the strategy writes one, are not more than the target.
    """

    async def scenario(engine: ContextEngine) -> None:
        conversation = Conversation(engine, config)
        await conversation.add(transcript)
        due = len(transcript) >= config.auto_compress_threshold
        report = await conversation.compact(asked=asked)
        summary, staying = await conversation.staying()
        room = config.target - conversation.least() - bool(summary)
        if not asked and not due:
            assert report is None, "nobody asked for it, and nothing is due"
        if due and room >= 0 and (asked or report):
            event("the target is reached")
            assert len(staying) + bool(summary) <= config.target < config.auto_compress_threshold
        if due and room >= 0 and not asked:
            assert report, "it is due, and nothing was done"

    in_memory(scenario, config)


@given(
    pieces=st.lists(transcripts(least=4), min_size=2, max_size=4),
    config=configs(),
    chance=st.integers(0, 2**32).map(random.Random),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.guarantee("C2", "C3", "C4")
def test_compactions_in_a_row(
    pieces: list[list[dict[str, Any]]], config: CompressionConfig, chance: random.Random
) -> None:
    """However often a history is compacted, by whichever strategies, each summary stands for all that ever went."""

    async def scenario(engine: ContextEngine) -> None:
        await engine.create_session("s")
        conversation = Conversation(engine, config)
        for piece in pieces:
            await conversation.add(piece)
            engine.compression_config = config.changed({"strategy": chance.choice([config.strategy, *NAMES])})
            await conversation.compact(asked=chance.random() < 0.6)
            if chance.random() < 0.1:
                await conversation.clear()
                await conversation.check()
        runtime = engine._runtime
        assert runtime is not None
        for logged in await runtime.store.read("s") if conversation.said else []:
            if isinstance(logged.data, HistoryCompacted):
                assert len(await engine.expand_summary("s", logged.version)) == logged.data.stands_for

    in_memory(scenario, config)


@given(
    transcript=transcripts(),
    config=configs(),
    meanwhile=st.lists(transcripts(most=20) | st.sampled_from(["clear", "compact"]), max_size=4),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.guarantee("C1", "C2", "C3")
def test_what_happens_meanwhile(
    transcript: list[dict[str, Any]], config: CompressionConfig, meanwhile: list[Any]
) -> None:
    """Whatever is said, cleared or compacted while a summary is written, nothing is lost, reordered or brought back."""

    async def scenario(engine: ContextEngine) -> None:
        conversation = Conversation(engine, config)
        left = iter(meanwhile)
        cleared = False

        async def happens() -> None:
            nonlocal cleared
            for what in left:
                if what == "clear":
                    cleared = True
                    await conversation.clear()
                elif what == "compact":
                    await engine.compress_on_append_if_needed("s")
                else:
                    await conversation.add(what)

        engine.llm_client = Model(happens)
        await conversation.add(transcript)
        if not transcript:
            return
        report = await engine.compress_conversation("s")
        await conversation.check()
        _, staying = await conversation.staying()
        if cleared:
            assert not report["success"]
            assert staying == conversation.said
        if report["success"]:
            assert report["compressed_count"] <= report["original_count"]

    in_memory(scenario, config)


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.guarantee("C2", "C4")
def test_real_conversations(strategy: str) -> None:
    """The shipped conversations, cut at every place: no strategy parts a pair."""
    for messages in shipped():
        for keep in (0, 1, 3):
            check_every_cut(messages, strategy, keep)


def check_every_cut(messages: list[dict[str, Any]], strategy: str, keep: int) -> None:
    """Compact each beginning of a conversation, and go on from there."""
    config = CompressionConfig(strategy, keep_recent=keep, max_messages=max(1, len(messages) // 2))

    async def scenario(engine: ContextEngine) -> None:
        conversation = Conversation(engine, config)
        for start in range(0, len(messages), 3):
            await conversation.add(messages[start : start + 3])
            await conversation.compact(asked=True)

    in_memory(scenario, config)


def test_the_checks_know_calls_and_results() -> None:
    """The checks pair what is in the shipped conversations: a check that sees no pairs would prove nothing."""
    for messages in shipped():
        stored = history(*messages)
        assert len(list(pairs(stored))) == sum(len(results_of(message)) for message in stored)
        assert {call for call, _ in pairs(stored)} == {n for n, message in enumerate(stored) if calls_of(message)}
        assert open_calls(stored) == set()
