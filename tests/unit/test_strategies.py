"""Strategies: given a history and a configuration, when one plans, then these messages go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from support.transcripts import calls, chat, history, result, said

from eventstore import CompactionFailed, HistoryCompacted, InvalidInput
from projections import HistoryAt, SessionState
from projections.history import Compaction, History
from workers.compaction import CompressionConfig, Plan, Task, Unit, register_strategy
from workers.compaction.planning import Situation, compacted, may_be_due, plan
from workers.compaction.strategies import Vector, known_strategies, strategy_named
from workers.compaction.summarizer import Summary
from workers.compaction.transcript import text_of

ALIKE: dict[str, Vector] = {
    "a": [1, 0, 0],
    "b": [0, 1, 0],
    "c": [0, 0, 1],
    "nearly a": [0.99, 0.1, 0],
    "none": [0, 0, 0],
}


def given(*messages: Mapping[str, Any], earlier: HistoryCompacted | None = None, **settings: Any) -> Situation:
    """Return a history under a configuration."""
    compaction = Compaction(900, 0, earlier) if earlier else None
    rewritten = 900 if earlier else 0
    at = HistoryAt(1000, SessionState(rewritten=rewritten), History(history(*messages), compaction))
    return Situation.of(at, CompressionConfig(**settings))


def summary_of(stands_for: int, *, first: int = 0, last: int = 0, shown: bool = True) -> HistoryCompacted:
    """Return an earlier compaction."""
    return HistoryCompacted(0, first, last, stands_for, 0, stands_for, "summarize", summary="What was.", shown=shown)


def alike(unit: Unit) -> Vector:
    """Return the vector of a unit by the text of its first message."""
    return ALIKE[text_of(unit.messages[0])]


def planned(situation: Situation, *, asked: bool = True) -> Plan:
    """Have the configured strategy plan."""
    return plan(strategy_named(situation.config.strategy), situation, alike, asked=asked)


def gone(chosen: Plan) -> tuple[list[int], list[int]]:
    """Return the versions of the messages that are dropped, and of those that are summarized."""
    return versions(chosen.dropped), versions(chosen.summarized)


def versions(units: Sequence[Unit]) -> list[int]:
    """Return the versions of the messages of units, in order."""
    return sorted(message["version"] for unit in units for message in unit.messages)


class TestTruncate:
    def test_leaves_max_messages(self) -> None:
        """The oldest go without a trace until so many are left."""
        chosen = planned(given(*chat(10), max_messages=6, keep_recent=2))
        assert gone(chosen) == ([1, 2, 3, 4], [])

    def test_counts_what_stays_anyway(self) -> None:
        """The opening system message and an earlier summary are among those that are left."""
        situation = given(said(role="system"), *chat(9), earlier=summary_of(5, first=2), max_messages=6, keep_recent=2)
        assert versions(planned(situation).dropped) == [2, 3, 4, 5, 6]

    def test_leaves_keep_recent_at_least(self) -> None:
        """The newest stay, even if they are more than that."""
        assert versions(planned(given(*chat(10), max_messages=2, keep_recent=7)).dropped) == [1, 2, 3]

    def test_what_fits_is_made_less_for_who_asks(self) -> None:
        """Somebody who asks for less gets the newest; nobody else does."""
        situation = given(*chat(10), max_messages=50, keep_recent=3)
        assert versions(planned(situation).dropped) == [1, 2, 3, 4, 5, 6, 7]
        assert gone(planned(situation, asked=False)) == ([], [])

    @pytest.mark.guarantee("C2")
    def test_takes_whole_units(self) -> None:
        """Rather one message too many goes than half a pair."""
        situation = given(calls("a"), result("a"), *chat(4), max_messages=5, keep_recent=2)
        assert versions(planned(situation).dropped) == [1, 2]

    @pytest.mark.guarantee("C2")
    def test_takes_no_open_call(self) -> None:
        """A call that waits for its result stays, and so does what opens the conversation."""
        situation = given(said(role="system"), calls("a"), *chat(6), max_messages=4, keep_recent=1)
        assert versions(planned(situation).dropped) == [3, 4, 5, 6]

    @pytest.mark.guarantee("C6")
    def test_leads_to_the_target(self) -> None:
        """Under a budget, as many go as it asks for, even if fewer would be enough for the strategy."""
        budget: dict[str, Any] = {
            "auto_compress_enabled": True,
            "auto_compress_threshold": 10,
            "auto_compress_target": 5,
        }
        situation = given(*chat(10), max_messages=50, keep_recent=2, **budget)
        assert situation.due
        assert versions(planned(situation, asked=False).dropped) == [1, 2, 3, 4, 5]


class TestSummarize:
    def test_takes_all_that_may_go(self) -> None:
        """All but the newest and the opening go into the summary."""
        situation = given(said(role="system"), *chat(5), strategy="summarize", keep_recent=2)
        chosen = planned(situation)
        assert gone(chosen) == ([], [2, 3, 4])


class TestSemantic:
    def given(self, *texts: str, keep: int = 1, **settings: Any) -> Situation:
        """Return a history of these texts."""
        return given(*(said(text) for text in texts), strategy="semantic", keep_recent=keep, **settings)

    def test_of_each_group_the_newest_stays(self) -> None:
        """What a newer message says nearly the same as goes."""
        situation = self.given("a", "b", "nearly a", "b", "b", "c", keep=1)
        assert versions(planned(situation).dropped) == [1, 2, 4]

    def test_the_newest_messages_stay_even_if_they_repeat(self) -> None:
        """Repetitions among those that are kept anyway stay; what they repeat goes."""
        situation = self.given("a", "b", "a", "nearly a", "a", keep=3)
        assert versions(planned(situation).dropped) == [1]

    def test_threshold(self) -> None:
        """How alike two messages must be is configured."""
        situation = self.given("a", "nearly a", "c", similarity_threshold=1)
        assert gone(planned(situation)) == ([], [])

    def test_texts_without_a_direction_repeat_nothing(self) -> None:
        """A vector of zeros is like no other."""
        assert gone(planned(self.given("none", "none", "none"))) == ([], [])

    @pytest.mark.guarantee("C6")
    def test_the_oldest_go_where_repetitions_are_not_enough(self) -> None:
        """Under a budget, the oldest of what is left go too."""
        budget: dict[str, Any] = {
            "auto_compress_enabled": True,
            "auto_compress_threshold": 6,
            "auto_compress_target": 3,
        }
        situation = self.given("c", "a", "b", "a", "none", "none", **budget)
        assert versions(planned(situation, asked=False).dropped) == [1, 2, 3]


class TestHybrid:
    def test_each_step_works_on_what_the_one_before_left(self) -> None:
        """First truncated to a number, then the rest summarized."""
        situation = given(*chat(10), strategy="hybrid", max_messages=7, keep_recent=2)
        chosen = planned(situation)
        assert gone(chosen) == ([1, 2, 3], [4, 5, 6, 7, 8])

    def test_steps_in_the_order_given(self) -> None:
        """What a summary took, nobody drops."""
        steps = ["summarize", "truncate"]
        chosen = planned(given(*chat(10), strategy="hybrid", hybrid_strategies=steps, max_messages=7, keep_recent=2))
        assert gone(chosen) == ([], [1, 2, 3, 4, 5, 6, 7, 8])

    def test_semantic_as_a_step(self) -> None:
        """Repetitions go without a trace, the rest into a summary."""
        texts = [said(text) for text in ("a", "b", "a", "c")]
        steps = ["semantic", "summarize"]
        chosen = planned(given(*texts, strategy="hybrid", hybrid_strategies=steps, keep_recent=1))
        assert gone(chosen) == ([1], [2, 3])


class Own:
    """A strategy of a user's: its plan is a function."""

    def __init__(self, planner: Any, *, summarizes: bool = False) -> None:
        self.planner = planner
        self._summarizes = summarizes

    def embeds(self, config: CompressionConfig) -> bool:
        return False

    def summarizes(self, config: CompressionConfig) -> bool:
        return self._summarizes

    def plan(self, task: Task) -> Plan:
        plan: Plan = self.planner(task)
        return plan


class TestOwn:
    @pytest.mark.parametrize("summarizes", [False, True])
    @pytest.mark.guarantee("C6")
    def test_a_plan_that_is_not_enough_is_completed(self, summarizes: bool) -> None:
        """The oldest go too, the way that the strategy lets messages go."""
        budget: dict[str, Any] = {
            "auto_compress_enabled": True,
            "auto_compress_threshold": 8,
            "auto_compress_target": 5,
        }
        situation = given(*chat(8), keep_recent=2, **budget)
        own = Own(lambda task: Plan(dropped=task.older[3:4]), summarizes=summarizes)
        chosen = plan(own, situation, None, asked=False)
        if summarizes:
            assert gone(chosen) == ([4], [1, 2, 3])
        else:
            assert gone(chosen) == ([1, 2, 4], [])

    @pytest.mark.parametrize(
        "planner",
        [
            lambda task: Plan(dropped=[*task.older, task.older[0]]),
            lambda task: Plan(dropped=task.older, summarized=task.older[:1]),
            lambda task: Plan(dropped=task.recent),
            lambda task: Plan(dropped=[Unit((1, 2), (), 0)]),
            lambda task: None,
            lambda task: Plan(dropped=5),  # type: ignore[arg-type]
            lambda task: {}[task],
        ],
    )
    @pytest.mark.guarantee("C2")
    def test_a_plan_that_cannot_be_is_refused(self, planner: Any) -> None:
        """A plan that takes what it was not shown, or is none, is an error, and nothing goes."""
        with pytest.raises(CompactionFailed, match=r"strategy|plan"):
            plan(Own(planner), given(*chat(9), keep_recent=2), None, asked=True)

    def test_registered_under_a_name(self) -> None:
        """It can be configured, alone and in a chain, and replaced; the names of ours cannot be taken."""
        own = Own(lambda task: Plan())
        register_strategy("unit-test-own", Own(lambda task: Plan()))
        register_strategy("unit-test-own", own)
        assert known_strategies()["unit-test-own"] is own
        CompressionConfig(strategy="unit-test-own")
        CompressionConfig(strategy="hybrid", hybrid_strategies=["unit-test-own", "summarize"])
        with pytest.raises(InvalidInput, match="already"):
            register_strategy("truncate", own)

    @pytest.mark.parametrize("name", ["", None, 5])
    def test_a_name_is_a_text(self, name: Any) -> None:
        """Anything else is refused."""
        with pytest.raises(InvalidInput, match="name"):
            register_strategy(name, Own(lambda task: Plan()))

    @pytest.mark.parametrize("strategy", [None, object(), lambda task: Plan(), "truncate"])
    def test_what_is_no_strategy_is_refused(self, strategy: Any) -> None:
        """A strategy has three methods."""
        with pytest.raises(InvalidInput, match="embeds, summarizes, plan"):
            register_strategy("unit-test-odd", strategy)
        assert "unit-test-odd" not in known_strategies()


class TestDue:
    BUDGET: dict[str, Any] = {"auto_compress_enabled": True, "auto_compress_threshold": 10, "keep_recent": 2}  # noqa: RUF012

    @pytest.mark.parametrize(("count", "due"), [(9, False), (10, True), (11, True)])
    def test_by_messages(self, count: int, due: bool) -> None:
        """Reaching the threshold is enough, the summary included; not without being enabled."""
        assert given(*chat(count), **self.BUDGET).due is due
        assert given(*chat(count - 1), earlier=summary_of(9), **self.BUDGET).due is due
        assert not given(*chat(count), **{**self.BUDGET, "auto_compress_enabled": False}).due

    def test_a_summary_that_is_not_shown_is_no_message(self) -> None:
        """What a reader does not see is not counted."""
        assert not given(*chat(9), earlier=summary_of(9, shown=False), **self.BUDGET).due

    @pytest.mark.parametrize(("threshold", "due"), [(140, True), (141, False)])
    def test_by_tokens(self, threshold: int, due: bool) -> None:
        """Reaching the threshold in tokens is enough too; a message costs four beside its text."""
        settings = self.BUDGET | {"auto_compress_token_threshold": threshold, "token_counter": len}
        assert given(*(said("x" * 24) for _ in range(5)), **settings).due is due

    def test_what_cannot_become_less_is_not_due(self) -> None:
        """Messages that must stay do not start a compaction after every message."""
        assert not given(*(said(role="system") for _ in range(20)), **self.BUDGET).due
        assert not given(*(calls(f"{n}") for n in range(20)), **self.BUDGET).due
        tokens = self.BUDGET | {"auto_compress_token_threshold": 100, "token_counter": len}
        assert not given(said(), *(said("x" * 1000) for _ in range(2)), **tokens).due

    @pytest.mark.parametrize("text", ["", "x", "words of a text", "é" * 9, "日本語" * 5])
    @pytest.mark.parametrize("count", [1, 7, 40])
    @pytest.mark.parametrize("earlier", [None, summary_of(5)])
    def test_a_first_look_misses_nothing(self, text: str, count: int, earlier: HistoryCompacted | None) -> None:
        """What is due by tokens may be due by what is known without reading the history."""
        messages = [said(text) for _ in range(count)]
        tokens = given(*messages, earlier=earlier).tokens
        state = SessionState(
            history_messages=count, history_bytes=count * len(text.encode()), summary_bytes=9 if earlier else 0
        )
        config = CompressionConfig(
            auto_compress_enabled=True, auto_compress_threshold=1000, auto_compress_token_threshold=max(2, tokens)
        )
        assert may_be_due(state, config)


class TestEvent:
    """The event that a plan becomes."""

    def test_says_what_goes_and_what_stays(self) -> None:
        """Versions, counts and sizes, before and after."""
        situation = given(said(role="system"), *chat(5), strategy="summarize", keep_recent=2, token_counter=len)
        event = compacted(situation, planned(situation), Summary("What was.", "model-1", "slow"), "a remark")
        assert (event.first, event.last, event.replaced, event.stands_for, event.kept) == (2, 4, 3, 3, [1])
        assert (event.messages_before, event.messages_after) == (6, 4)
        assert event.replaced_bytes == 3 * len("message <0>")
        assert event.tokens_before - event.tokens_after == 3 * (4 + 11) - 4 - len(
            "[Summary of 3 earlier messages]\n\nWhat was."
        )
        assert (event.summary, event.summarizer, event.remark) == ("What was.", "model-1", "a remark; slow")

    def test_stands_for_what_the_earlier_stood_for(self) -> None:
        """The new one takes the place of the old."""
        messages = history(*chat(8))
        situation = given(*messages[4:], earlier=summary_of(4, first=1, last=4), strategy="summarize", keep_recent=2)
        event = compacted(situation, planned(situation), Summary("All.", "model-1"), None)
        assert (event.base, event.first, event.last, event.stands_for, event.replaced) == (900, 1, 6, 6, 2)

    def test_a_truncation_keeps_the_earlier_summary(self) -> None:
        """Which then stands for what was dropped, too."""
        messages = history(*chat(8))
        situation = given(*messages[4:], earlier=summary_of(4, first=1, last=4), keep_recent=2)
        event = compacted(situation, planned(situation), None, None)
        assert (event.summary, event.stands_for) == ("What was.", 6)

    @pytest.mark.guarantee("C4")
    def test_stands_for_a_range_even_if_earlier_ones_took_from_its_middle(self) -> None:
        """The range reaches from the oldest to the newest that ever went, but for what is still there."""
        messages = [message for message in history(*chat(9)) if message["version"] != 5]
        earlier = HistoryCompacted(0, 5, 5, 1, 0, 1, "semantic", kept=[1, 2, 3, 4])
        situation = given(*messages, earlier=earlier, max_messages=6, keep_recent=2)
        event = compacted(situation, planned(situation), None, None)
        assert (event.first, event.last, event.kept, event.stands_for) == (1, 5, [3, 4], 3)
