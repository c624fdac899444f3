"""Counting tokens: the estimate, and the exact counters of the extra ``tokens``."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.errors import InvalidInput
from workers.compaction.tokens import ENCODINGS, estimate_tokens, exact_counter

ROOT = Path(__file__).parents[2]


class TestEstimate:
    @pytest.mark.parametrize(
        ("text", "tokens"), [("", 0), ("a", 1), ("hello", 1), ("hello you", 2), ("123", 2), ("你好", 2), ("\ud800", 1)]
    )
    def test_it_counts_by_kinds_of_characters(self, text: str, tokens: int) -> None:
        """Letters, signs and other scripts weigh differently; nothing has no tokens."""
        assert estimate_tokens(text) == tokens

    @settings(max_examples=50)
    @given(st.text(), st.text())
    def test_more_text_has_more_tokens(self, one: str, other: str) -> None:
        """Two texts have as many tokens as both together, but for rounding."""
        both = estimate_tokens(one) + estimate_tokens(other)
        assert both - 1 <= estimate_tokens(one + other) <= both

    @pytest.mark.parametrize("encoding", ENCODINGS)
    @pytest.mark.parametrize("name", ["README.md", "scripts/conversations.jsonl", "workers/projection.py"])
    def test_it_is_slightly_high(self, name: str, encoding: str) -> None:
        """Prose, conversations and code of this repository come out up to a quarter too high, not too low."""
        pytest.importorskip("rs_bpe")
        text = (ROOT / name).read_text(encoding="utf-8")
        assert 0.97 < estimate_tokens(text) / exact_counter(encoding)(text) < 1.25


class TestExact:
    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_it_counts_the_tokens_of_the_vocabulary(self, encoding: str) -> None:
        """Known texts have their known counts, and a special token is the text that it is."""
        pytest.importorskip("rs_bpe")
        count = exact_counter(encoding)
        assert [count(text) for text in ("", "hello world", "a" * 8)] == [0, 2, 1]
        assert count("<|endoftext|>") > 1

    def test_a_long_text_of_one_character(self) -> None:
        """A megabyte of the same character is counted."""
        pytest.importorskip("rs_bpe")
        assert exact_counter()("a" * 2**20) == 2**17

    def test_it_may_be_called_from_threads(self) -> None:
        """One counter serves many threads."""
        pytest.importorskip("rs_bpe")
        count = exact_counter()
        texts = [json.dumps(list(range(number))) for number in range(0, 2000, 50)]
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(count, texts)) == [count(text) for text in texts]

    def test_an_unknown_encoding_is_refused(self) -> None:
        """The error names those that there are."""
        with pytest.raises(InvalidInput, match="o200k_base, cl100k_base"):
            exact_counter("p50k_base")

    def test_without_the_extra_the_error_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever lacks the package is told what to install."""
        monkeypatch.setitem(sys.modules, "rs_bpe", None)
        monkeypatch.setitem(sys.modules, "rs_bpe.bpe", None)
        with pytest.raises(InvalidInput, match=r"contextengine\[tokens\]"):
            exact_counter()
