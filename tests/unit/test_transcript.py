"""Units: what of a history stays or goes together, and what may not go at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from support.transcripts import calls, chat, history, result, said, shipped, used, uses

from eventstore import CompactionFailed
from workers.compaction.tokens import estimate_tokens
from workers.compaction.transcript import Transcript, Unit, message_tokens, text_of, transcript, units_of


def places(*messages: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Return where the messages of each unit stand."""
    return [unit.places for unit in units_of(history(*messages), estimate_tokens)]


def open_at(*messages: Mapping[str, Any]) -> list[int]:
    """Return where units with open calls begin."""
    return [unit.places[0] for unit in units_of(history(*messages), estimate_tokens) if unit.open]


def versions(units: list[Unit]) -> list[int]:
    """Return the versions of the messages of units."""
    return [message["version"] for unit in units for message in unit.messages]


PAIRED: dict[str, tuple[list[dict[str, Any]], list[tuple[int, ...]]]] = {
    "no calls": (chat(3), [(0,), (1,), (2,)]),
    "a call": ([said(), calls("a"), result("a"), said()], [(0,), (1, 2), (3,)]),
    "several calls in one message": ([calls("a", "b"), result("b"), result("a")], [(0, 1, 2)]),
    "the same id twice in one message": ([calls("a", "a"), result("a"), result("a"), said()], [(0, 1, 2), (3,)]),
    "an id that is used again": ([calls("a"), result("a"), calls("a"), result("a")], [(0, 1), (2, 3)]),
    "an id that is used again while open": ([calls("a"), calls("a"), result("a")], [(0,), (1, 2)]),
    "an id that is used again while open, both answered": (
        [calls("a"), calls("a"), result("a"), result("a")],
        [(0, 3), (1, 2)],
    ),
    "messages in between": ([calls("a"), said(), said(), result("a")], [(0, 3), (1,), (2,)]),
    "calls in between": ([calls("a"), calls("b"), result("a"), result("b")], [(0, 2), (1, 3)]),
    "a result that comes again": ([calls("a"), result("a"), said(), result("a")], [(0, 1, 3), (2,)]),
    "a result that comes again after another call": (
        [calls("a"), result("a"), calls("a"), result("a"), result("a")],
        [(0, 1), (2, 3, 4)],
    ),
    "results without an id": ([calls("a", "b"), result(), result(), said()], [(0, 1, 2), (3,)]),
    "a result without an id goes to the last call": ([calls("a"), calls("b"), result()], [(0,), (1, 2)]),
    "a call without an id": ([calls(None), result("a"), said()], [(0, 1), (2,)]),
    "ids that are empty": ([calls(""), {**result(), "tool_call_id": ""}, said()], [(0, 1), (2,)]),
    "a result without a call": ([result("a"), said(), calls("a"), result("a")], [(0,), (1,), (2, 3)]),
    "a result of an unknown id": ([calls("a"), result("b"), result("a")], [(0, 2), (1,)]),
    "a result without anything": ([result()], [(0,)]),
    "anthropic": ([said(), uses("a"), used("a"), said()], [(0,), (1, 2), (3,)]),
    "anthropic, several": ([uses("a", "b"), used("b", "a"), uses("a"), used("a")], [(0, 1), (2, 3)]),
    "anthropic, results of two messages": ([uses("a"), uses("b"), used("a", "b")], [(0, 1, 2)]),
    "anthropic results in a tool's message": ([uses("a"), {**used("a"), "role": "tool"}], [(0, 1)]),
    "the old form of OpenAI": (
        [
            said(role="assistant", metadata={"function_call": {"name": "f"}}),
            said(role="function", name="f"),
            said(),
        ],
        [(0, 1), (2,)],
    ),
    "calls in the metadata": (
        [
            said(role="assistant", metadata={"tool_calls": [{"id": "a"}, {"id": "b"}]}),
            said(role="tool", metadata={"tool_call_ids": ["a", "b"]}),
            said(role="tool", metadata={"tool_call_id": "a"}),
        ],
        [(0, 1, 2)],
    ),
}

ODD: dict[str, list[Any]] = {
    "tool_calls": [5, True, "text", {"id": "a"}, [[]], 1.5],
    "function_call": [5, True, "text", [1]],
    "tool_call_id": [5, True, {}, [], [[]], {"a": 1}],
    "tool_call_ids": [5, True, {}, [{}], [None, [], 1.5]],
    "content": [None, 5, True, {}, [], [None, 5, "text", {"type": "tool_use"}, {"type": []}]],
}
HOSTILE: list[dict[str, Any]] = [
    {"tool_calls": [None, 5, "text", [], {}, {"id": None}, {"id": {}}, {"id": []}, {"id": True}, {"id": 1.5}]},
    {"tool_calls": []},
    *({"role": role, "metadata": {name: odd}} for role in ("assistant", "tool") for name in ODD for odd in ODD[name]),
    *({"content": odd} for odd in ODD["content"]),
    {"content": [{"type": "tool_use", "id": {}}, {"type": "tool_result", "tool_use_id": []}]},
    {"content": {"type": "tool_use", "id": "a"}},
    {"role": "", "name": "x", "tool_call_id": "a"},
]


class TestPairs:
    @pytest.mark.parametrize("case", PAIRED)
    @pytest.mark.guarantee("C2")
    def test_calls_and_results_are_one_unit(self, case: str) -> None:
        """Results belong to the nearest call of their id before them, or to the last call where there is no id."""
        messages, expected = PAIRED[case]
        assert places(*messages) == expected

    def test_units_hold_every_message_once(self) -> None:
        """No message of the shipped conversations is missing or doubled, and units stand in order."""
        for messages in shipped():
            units = units_of(history(*messages), estimate_tokens)
            assert sorted(place for unit in units for place in unit.places) == list(range(len(messages)))
            assert [unit.places[0] for unit in units] == sorted(unit.places[0] for unit in units)
            assert all(list(unit.places) == sorted(unit.places) for unit in units)

    @pytest.mark.parametrize("odd", HOSTILE, ids=str)
    def test_whatever_somebody_stored_is_taken(self, odd: dict[str, Any]) -> None:
        """Odd calls, ids and contents are no reason to fail, nor do they pull others apart."""
        units = units_of(history(said(), odd := said() | odd, calls("z"), result("z"), odd, odd), estimate_tokens)
        assert sorted(place for unit in units for place in unit.places) == [0, 1, 2, 3, 4, 5]
        assert any({2, 3} <= set(unit.places) for unit in units)


class TestOpenCalls:
    @pytest.mark.parametrize(
        ("messages", "expected"),
        [
            ([calls("a")], [0]),
            ([calls("a"), result("a")], []),
            ([calls("a", "b"), result("a")], [0]),
            ([calls("a", "b"), result("a"), result("b")], []),
            ([calls("a", "a"), result("a")], [0]),
            ([calls("a", "b"), result(), result()], []),
            ([calls(None), result("x")], []),
            ([calls("a"), said(), calls("a"), result("a")], [0]),
            ([calls("a"), result("b")], [0]),
            ([uses("a", "b"), used("b")], [0]),
            ([uses("a", "b"), used("b", "a")], []),
        ],
        ids=str,
    )
    def test_a_call_is_open_until_all_results_are_there(
        self, messages: list[dict[str, Any]], expected: list[int]
    ) -> None:
        """A unit is open as long as one of its calls waits for its result."""
        assert open_at(*messages) == expected


def divide(*messages: Mapping[str, Any], keep: int = 2, since: int | None = None) -> Transcript:
    """Divide a history."""
    return transcript(history(*messages), keep, estimate_tokens, since)


class TestParts:
    def test_each_message_is_in_one_part(self) -> None:
        """The system messages that open it, what may go, open calls, the newest."""
        parts = divide(said(role="system"), said(role="developer"), said(), calls("a"), said(), *chat(2))
        assert [versions(units) for units in (parts.opening, parts.older, parts.waiting, parts.recent)] == [
            [1, 2],
            [3, 5],
            [4],
            [6, 7],
        ]
        assert parts.messages == 7

    @pytest.mark.guarantee("C2")
    def test_what_belongs_to_the_newest_is_recent_too(self) -> None:
        """A result among the newest keeps its call, and the call's other results."""
        parts = divide(said(), calls("a", "b"), result("a"), said(), result("b"), said(), keep=2)
        assert (versions(parts.older), versions(parts.recent)) == ([1, 4], [2, 3, 5, 6])

    def test_a_later_system_message_may_go(self) -> None:
        """Only those with which the conversation opens stay."""
        parts = divide(said(role="system"), said(), said(role="system"), *chat(2))
        assert (versions(parts.opening), versions(parts.older)) == ([1], [2, 3])

    def test_a_later_system_message_may_go_even_if_it_is_the_first_by_now(self) -> None:
        """After a compaction, what stands first is not what the conversation opened with."""
        messages = history(said(role="system"), said(), said(role="system"), *chat(3))
        del messages[1]
        parts = transcript(messages, 2, estimate_tokens, 2)
        assert (versions(parts.opening), versions(parts.older)) == ([1], [3, 4])

    def test_a_conversation_of_system_messages_alone(self) -> None:
        """All of them open it."""
        parts = divide(said(role="system"), said(role="system"), keep=0)
        assert versions(parts.opening) == [1, 2]

    @pytest.mark.parametrize("keep", [0, 1, 3, 4, 99])
    def test_the_newest_stay(self, keep: int) -> None:
        """As many as are asked for, where there are so many."""
        parts = divide(*chat(4), keep=keep)
        assert versions(parts.recent) == [1, 2, 3, 4][max(0, 4 - keep) :]

    def test_nothing(self) -> None:
        """An empty history has no parts."""
        assert divide() == Transcript([], [], [], [])


class TestTokens:
    def test_calls_count(self) -> None:
        """What a model reads of a message is its content, whatever its shape, and its calls."""
        (plain, parts, call) = history(said("text"), said() | {"content": [{"text": "é"}]}, calls("a"))
        assert text_of(plain) == "text"
        assert text_of(parts) == '[{"text":"é"}]'
        assert '"id":"a"' in text_of(call)
        assert message_tokens(call, len) == 4 + len(text_of(call))

    def test_a_counter_may_count_in_fractions(self) -> None:
        """Fractions of a token are rounded up, for an event holds whole ones."""
        assert message_tokens(history(said("12345"))[0], lambda text: len(text) / 4) == 4 + 2  # type: ignore[arg-type,return-value]

    @pytest.mark.parametrize("odd", [None, "5", float("nan"), float("inf"), [1]])
    def test_a_counter_that_does_not_count(self, odd: Any) -> None:
        """It is named as what failed."""
        with pytest.raises(CompactionFailed, match="token_counter"):
            message_tokens(history(said())[0], lambda _text: odd)

    def test_a_counter_that_raises(self) -> None:
        """It is named as what failed, with its error."""
        with pytest.raises(CompactionFailed, match=r"token_counter failed.*KeyError"):
            message_tokens(history(said())[0], lambda text: {"": 0}[text])
