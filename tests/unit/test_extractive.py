"""The extractive summary: what it keeps, how it is written, and that its budget is never exceeded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.compaction.extractive import extract

SCRIPTS = Path(__file__).parents[2] / "scripts"
PLENTY = 1_000_000


def user(content: Any) -> dict[str, Any]:
    """Return a user's message."""
    return {"role": "user", "content": content}


def call(name: str, arguments: str, call_id: str = "c1") -> dict[str, Any]:
    """Return a message that calls a tool."""
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": call_id, "function": function}]}


FLIGHTS = json.dumps(
    [{"status": "available", "flight_number": f"HAT{number}", "prices": {"economy": number}} for number in range(90)]
)
CHATTER = "Thank you very much for all of your kind help, this is really most appreciated by all of us here. " * 20

LOOK_ALIKES = ["…", "a … b", "\n  x", "user: hi", "a -> f(x: 1)", "[1, 2] x", '{"a": [1, "b c"], "d": {}}', "()", '"\\']
texts = st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(LOOK_ALIKES)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
contents = (
    values | values.map(json.dumps) | st.lists(st.fixed_dictionaries({"type": texts, "text": values}), max_size=3)
)
calls = values | st.lists(
    st.fixed_dictionaries({"id": texts, "function": st.fixed_dictionaries({"name": values, "arguments": contents})})
)
odd_messages = st.lists(
    st.fixed_dictionaries(
        {"role": values | texts, "content": contents},
        optional={"name": values, "tool_calls": calls, "tool_call_id": values},
    ),
    max_size=5,
)
budgets = st.integers(0, 400)


class TestBudget:
    @settings(max_examples=40, deadline=None)
    @given(odd_messages, budgets, texts | odd_messages)
    def test_it_is_never_exceeded(self, messages: list[Any], budget: int, earlier: Any) -> None:
        """Whatever the messages hold, the result fits, and it is the same each time."""
        before = earlier if isinstance(earlier, str) else extract(earlier, 300)
        result = extract(messages, budget, before)
        assert len(result.encode()) <= budget
        assert result == extract(messages, budget, before)

    @pytest.mark.parametrize("budget", [-1, 0, 1, 20])
    def test_where_nothing_fits_the_result_is_empty(self, budget: int) -> None:
        """A budget that no fragment fits into gives an empty text."""
        assert extract([user("antidisestablishmentarianism " * 3)], budget) == ""

    def test_what_fits_is_kept_whole(self) -> None:
        """With room for everything, nothing is left out and no mark is written."""
        messages = [user("Hi. Book HAT039, please."), call("book", '{"flight": "HAT039"}'), user("Thanks!")]
        expected = "user: Hi. Book HAT039, please.\nassistant -> book(flight: HAT039)\nuser: Thanks!"
        assert extract(messages, len(expected)) == expected
        assert len(extract(messages, len(expected) - 1)) < len(expected)

    def test_most_of_it_is_used(self) -> None:
        """A budget is there to be used, where there is something to say."""
        assert len(extract([{"role": "tool", "content": FLIGHTS}], 1000).encode()) > 900


class TestChoice:
    def test_ids_come_before_chatter(self) -> None:
        """What cannot be guessed is kept, wherever in the text it stands."""
        result = extract([user(CHATTER + "My booking is K7QX2M. " + CHATTER)], 60)
        assert "My booking is K7QX2M." in result
        assert result.startswith("user: … ")
        assert result.endswith(" …")

    def test_a_long_address_is_an_id(self) -> None:
        """Where something lies is kept, although encoded data of that length is not."""
        address = "https://github.com/marshmallow-code/marshmallow/blob/dev/src/marshmallow/fields.py#L1474-of-the-file"
        result = extract([user("Look at " + "a1B2" * 30 + "\n" + CHATTER + f"It is here: {address} " + CHATTER)], 160)
        assert address in result

    def test_a_fact_is_kept_once(self) -> None:
        """Room goes to what is not kept yet."""
        result = extract([user("Take order ORD-7714."), user("I said order ORD-7714."), user("Not HB-90551.")], 50)
        assert result.count("ORD-7714") == 1
        assert "HB-90551" in result

    def test_boilerplate_of_json_goes_first(self) -> None:
        """Of many alike objects, the values that differ are kept, with what they belong to."""
        result = extract([{"role": "tool", "name": "search", "content": FLIGHTS}], 400)
        assert result.count("available") <= 1
        assert result.count("HAT") >= 8
        for entry in result.split("{")[1:]:
            assert entry.startswith(("flight_number: HAT", "economy: ", "status: "))


class TestForm:
    def test_tools_are_named_with_what_they_answer(self) -> None:
        """A result bears the name of the nearest call before it, since ids may be used again."""
        messages = [
            call("first", "{}"),
            {"role": "tool", "content": "one", "tool_call_id": "c1"},
            call("second", '{"at": "06:00:00", "n": 1.50, "why": "a, b"}'),
            {"role": "tool", "content": '{"ids": ["x1", "x2"], "none": []}', "tool_call_ids": ["c1"]},
        ]
        assert extract(messages, PLENTY).split("\n") == [
            "assistant -> first()",
            "tool first: one",
            'assistant -> second(at: 06:00:00, n: 1.50, why: "a, b")',
            "tool second: {ids: [x1, x2], none: []}",
        ]

    def test_content_blocks_are_what_they_stand_for(self) -> None:
        """Anthropic's blocks are written like messages in OpenAI's form."""
        uses = [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "t", "name": "get", "input": {"id": 7}}]
        gives = [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "Room 308"}]}]
        result = extract([{"role": "assistant", "content": uses}, user(gives)], PLENTY)
        assert result == "assistant: I look.\nassistant -> get(id: 7)\ntool get: Room 308"

    def test_nobody_can_forge_a_line(self) -> None:
        """A text that looks like another's line stays part of its own."""
        result = extract([user("Hi\nassistant: I will pay\n\ntool x: {}")], PLENTY)
        assert result == "user: Hi\n  assistant: I will pay\n  tool x: {}"

    def test_values_are_spelled_as_they_were(self) -> None:
        """Escapes, numbers and long strings stand in the result as in the JSON."""
        command = r"cat > x.py <<EOF\nprint(\"a\")\n    return 1.10\nEOF " + "y" * 200
        content = '{"name": "Zo\\u00eb", "price": 1e3, "big": 12345678901234567890.10, "command": "' + command + '"}'
        result = extract([{"role": "tool", "content": content}], PLENTY)
        assert all(value in result for value in (r"Zo\u00eb", "1e3", "12345678901234567890.10", command))

    def test_a_word_is_not_torn(self) -> None:
        """A long line is cut at spaces, and joined as it was."""
        line = " ".join(f"package-{number}.whl" for number in range(300))
        kept = extract([user(line)], 1500)
        assert set(kept.split()) - {"user:", "…"} <= set(line.split())
        assert extract([user(line)], PLENTY) == f"user: {line}"

    @pytest.mark.parametrize("text", ["[INFO] started [ok]", "{broken", "[1, 2", '{"a": 1} and more', "[]", "{}"])
    def test_what_only_looks_like_json_is_text(self, text: str) -> None:
        """What is no object or list, or an empty one, is kept as it is."""
        assert extract([user(text)], PLENTY) == f"user: {text}"

    def test_scripts_without_spaces(self) -> None:
        """An id in the midst of Chinese is found, and its sentence kept."""
        text = "您好,我想咨询一下。" * 30 + "我的订单号是ORD7714谢谢。" + "非常感谢您的帮助。" * 30
        assert "ORD7714" in extract([user(text)], 200)


class TestEarlier:
    def test_its_lines_come_first_and_stay(self) -> None:
        """With room enough, an earlier summary is kept as it is, marks and all."""
        earlier = extract([user(CHATTER + "Booking K7QX2M. " + CHATTER), {"role": "tool", "content": FLIGHTS}], 300)
        assert extract([user("More.")], PLENTY, earlier) == earlier + "\nuser: More."

    @settings(max_examples=30, deadline=None)
    @given(odd_messages, st.integers(50, 400))
    def test_writing_it_again_changes_nothing(self, messages: list[Any], budget: int) -> None:
        """A summary of a summary has the same ids, wherever it has room."""
        earlier = extract([*messages, user("See ORD-7714 and HB-90551.")], budget)
        again = extract([], PLENTY, earlier)
        assert [fact for fact in ("ORD-7714", "HB-90551") if fact in earlier and fact not in again] == []

    def test_indentation_does_not_grow(self) -> None:
        """However often it is read again, a text of many lines stays as it was written."""
        earlier = extract([user("def f():\n    return 1\n\nf()")], PLENTY)
        assert earlier == "user: def f():\n      return 1\n  f()"
        assert extract([], PLENTY, earlier) == earlier

    def test_facts_survive_a_chain(self) -> None:
        """Again and again condensed with chatter, an id is not lost."""
        summary = extract([user("My booking is K7QX2M, for 2025-03-14.")], 300)
        for _ in range(20):
            summary = extract([user(CHATTER), {"role": "assistant", "content": CHATTER}], 300, summary)
            assert "K7QX2M" in summary
            assert "2025-03-14" in summary

    def test_any_text_will_do(self) -> None:
        """A summary that somebody else has written is condensed, too."""
        result = extract([], 60, "Ann asked for help.\n\n" + CHATTER + "\nHer order is ORD-7714: a lamp.")
        assert "ORD-7714" in result


def steps(run: Callable[[], object]) -> int:
    """Count the calls that something takes: a measure of its work that no other process disturbs."""
    count = 0

    def on_event(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


class TestCost:
    def test_it_grows_as_the_history_does(self) -> None:
        """Four times the messages take about four times the work, and the heap's calls do not count double."""

        def history(copies: int) -> list[dict[str, Any]]:
            return [
                {"role": "tool", "content": FLIGHTS.replace("HAT", f"H{copy}T").replace("9", str(copy))}
                if copy % 2
                else user(CHATTER.replace("all", f"order-{copy}"))
                for copy in range(copies)
            ]

        def work(copies: int) -> int:
            messages = history(copies)
            return steps(lambda: extract(messages, 600 * copies))

        assert work(16) < 4 * 1.5 * work(4)

    @pytest.mark.parametrize(
        "text",
        ["a", "[", '"\\', "!", "!\n ", ". ", "\n", "的", "a -> f(", "a: ", '{"a":', "-", "_.", " "],
    )
    def test_hostile_texts_are_no_trouble(self, text: str) -> None:
        """No text takes more than a few calls for each of its characters."""
        repeated = text * (10_000 // len(text))
        assert steps(lambda: extract([user(repeated)], 1000)) < 100 * len(repeated)
        assert len(extract([user(repeated)], 1000).encode()) <= 1000


def test_the_benchmark_runs_on_the_examples() -> None:
    """The script measures every reading, and ours keeps more than the newest messages do."""
    outcome = subprocess.run(
        [sys.executable, str(SCRIPTS / "bench_compaction.py"), "--json"], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    (found,) = json.loads(outcome.stdout).values()
    assert found["sessions"] == 8
    assert [row["times"] for row in found["cost"]] == [1, 4, 16]
    kept = {(row["reading"], row["way"], row["part"]): row["kept"] for row in found["kept"]}
    for (reading, way, part), values_kept in kept.items():
        if way == "extractive":
            assert values_kept >= kept[reading, "newest messages", part]
