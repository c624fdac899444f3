"""`CompressionConfig`: what it takes, what it fills in, what it refuses, and in which words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import contextengine
from contextengine import CompressionConfig, InvalidInput

OF_THE_ORIGINAL: dict[str, Any] = {
    "strategy": "truncate",
    "max_messages": 50,
    "keep_recent": 10,
    "summary_prompt_template": None,
    "summary_max_tokens": 500,
    "include_summary_in_history": True,
    "similarity_threshold": 0.95,
    "embedding_model": "text-embedding-ada-002",
    "hybrid_strategies": ["truncate", "summarize"],
    "auto_compress_enabled": False,
    "auto_compress_threshold": 100,
    "auto_compress_target": 50,
    "compression_timeout": 30.0,
}

REFUSED: dict[str, list[Any]] = {
    "strategy": ["", "TRUNCATE", "microcompact", None, 5, ["truncate"], {}],
    "max_messages": [0, -1, 1.5, "50", None, True, 10**10],
    "keep_recent": [-1, 1.5, "10", None, True],
    "summary_prompt_template": [
        "",
        "no place",
        5,
        "{messages} {other}",
        "{messages} {}",
        "{messages} {",
        "{messages.x}",
    ],
    "summary_max_tokens": [0, -1, None, "500"],
    "include_summary_in_history": [None, 1, "yes"],
    "similarity_threshold": [-0.1, 1.1, float("nan"), "0.9", None, True],
    "embedding_model": ["", None, 5],
    "hybrid_strategies": [[], ["hybrid"], ["truncate", "hybrid"], ["nonsense"], "truncate", 5, [5], [[]], {"a": 1}],
    "auto_compress_enabled": [None, 1, "true"],
    "auto_compress_threshold": [0, -13000, None, 1.5, float("inf")],
    "auto_compress_target": [0, -1, "50", 1.5],
    "compression_timeout": [-1, float("nan"), float("inf"), None, "30"],
    "auto_compress_token_threshold": [0, -1, 1.5, "1000"],
    "auto_compress_token_target": [0, -1, 1.5],
    "token_counter": [None, 5, "len"],
    "summary_window_tokens": [0, 99, None],
    "summary_role": ["", None, 5],
    "embeddings": [5, "model"],
}

AUTO: dict[str, Any] = {"auto_compress_enabled": True}
CANNOT_CONVERGE: dict[str, tuple[dict[str, Any], str]] = {
    "a target that is the threshold": ({"auto_compress_threshold": 50, "auto_compress_target": 50}, "below"),
    "a target above the threshold": ({"auto_compress_threshold": 50, "auto_compress_target": 60}, "below"),
    "more kept than the target": ({"keep_recent": 51, "auto_compress_target": 50}, "keep_recent"),
    "no room for the summary": ({"strategy": "summarize", "keep_recent": 50, "auto_compress_target": 50}, "summary"),
    "no room for the summary of a chain": (
        {"strategy": "hybrid", "keep_recent": 50, "auto_compress_target": 50},
        "summary",
    ),
    "everything kept": ({"keep_recent": 100}, "keep_recent"),
    "a threshold of 1": ({"auto_compress_threshold": 1, "keep_recent": 0}, "below"),
    "tokens: a target that is the threshold": (
        {"auto_compress_token_threshold": 500, "auto_compress_token_target": 500},
        "auto_compress_token_target",
    ),
    "tokens: no room for the summary": (
        {"strategy": "summarize", "auto_compress_token_threshold": 5000, "auto_compress_token_target": 400},
        "summary_max_tokens",
    ),
    "tokens: a summary as long as the threshold": (
        {"strategy": "summarize", "auto_compress_token_threshold": 500},
        "summary_max_tokens",
    ),
}


def test_defaults_are_those_of_the_original() -> None:
    """Every field of the original is there, with its default; a token budget is not set."""
    config = CompressionConfig()
    assert {name: getattr(config, name) for name in OF_THE_ORIGINAL} == OF_THE_ORIGINAL
    assert CompressionConfig(**OF_THE_ORIGINAL) == config
    assert config.auto_compress_token_threshold is None
    assert config.token_counter("a text") > 0
    assert contextengine.CompressionConfig is CompressionConfig


def test_fields_stand_in_the_order_of_the_original() -> None:
    """Positional arguments mean the same."""
    assert [field.name for field in dataclasses.fields(CompressionConfig)][: len(OF_THE_ORIGINAL)] == [*OF_THE_ORIGINAL]
    assert CompressionConfig("summarize", 20, 5).keep_recent == 5


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_what_cannot_be_is_refused(name: str, value: Any) -> None:
    """The error names the field."""
    with pytest.raises(InvalidInput, match=name if name != "strategy" else "Invalid strategy"):
        CompressionConfig(**{name: value})
    assert issubclass(InvalidInput, ValueError)


def test_every_field_is_tried() -> None:
    """No field is taken unchecked."""
    assert {field.name for field in dataclasses.fields(CompressionConfig)} == set(REFUSED)


def test_an_unknown_strategy_is_told_which_there_are() -> None:
    """The error lists the names."""
    with pytest.raises(InvalidInput, match=r"hybrid, .*semantic, summarize, truncate"):
        CompressionConfig(strategy="collapse")


@pytest.mark.parametrize("case", CANNOT_CONVERGE)
@pytest.mark.guarantee("C6")
def test_what_cannot_converge_is_refused(case: str) -> None:
    """Compactions that would not lead below the thresholds are refused where they are to happen by themselves."""
    settings, reason = CANNOT_CONVERGE[case]
    with pytest.raises(InvalidInput, match=reason):
        CompressionConfig(**AUTO, **settings)
    CompressionConfig(**settings)


@pytest.mark.parametrize("threshold", [2, 5, 12, 20, 99, 100, 10_000])
@pytest.mark.parametrize("strategy", ["truncate", "summarize", "semantic", "hybrid"])
@pytest.mark.parametrize("keep_recent", [0, 1, 10, 60])
@pytest.mark.guarantee("C6")
def test_a_target_that_was_left_out_fits(threshold: int, strategy: str, keep_recent: int) -> None:
    """It is 50 or half of the threshold, or more if the newest messages and a summary need it, below the threshold."""
    summary = strategy in {"summarize", "hybrid"}
    settings: dict[str, Any] = {"strategy": strategy, "keep_recent": keep_recent, "auto_compress_threshold": threshold}
    if keep_recent + summary >= threshold:
        with pytest.raises(InvalidInput, match="keep_recent"):
            CompressionConfig(**AUTO, **settings)
        return
    config = CompressionConfig(**AUTO, **settings)
    assert config.target == max(min(50, threshold // 2), keep_recent + summary)


@pytest.mark.parametrize(("threshold", "target"), [(501, None), (502, 501), (1000, 501), (2000, 1000)])
def test_a_token_target_that_was_left_out_fits(threshold: int, target: int | None) -> None:
    """It is half of the threshold, or more if the summary needs it."""
    settings: dict[str, Any] = {"strategy": "summarize", "auto_compress_token_threshold": threshold}
    if target is None:
        with pytest.raises(InvalidInput, match="summary_max_tokens"):
            CompressionConfig(**AUTO, **settings)
    else:
        assert CompressionConfig(**AUTO, **settings).auto_compress_token_target == target
    assert CompressionConfig(auto_compress_token_threshold=threshold).auto_compress_token_target == threshold // 2


def test_changed() -> None:
    """Other values, checked likewise; what followed from a value follows from the new one."""
    config = CompressionConfig(**AUTO).changed({"auto_compress_threshold": 40, "auto_compress_token_threshold": 2000})
    assert (config.auto_compress_target, config.auto_compress_token_target) == (20, 1000)
    assert config.changed({"keep_recent": 5}).auto_compress_target == 20
    assert config.changed({"auto_compress_threshold": 30, "auto_compress_target": 25}).auto_compress_target == 25
    assert config.changed({}) == config
    with pytest.raises(InvalidInput, match="'nonsense'"):
        config.changed({"nonsense": 1, "keep_recent": 1})
    with pytest.raises(InvalidInput, match="keep_recent"):
        config.changed({"keep_recent": 40})


@pytest.mark.parametrize(
    "template", ["{messages}", "In short:\n\n{messages}\n\n{{json}}", "{summary} {messages} {max_tokens}"]
)
def test_templates(template: str) -> None:
    """A template with a place for the messages, in the original's form, is taken."""
    assert CompressionConfig(summary_prompt_template=template).summary_prompt_template == template


def test_what_nobody_has_set_follows_the_new_settings() -> None:
    """A target that was filled in is filled in anew where other settings change: it is not the user's own."""
    config = CompressionConfig(auto_compress_enabled=True, auto_compress_threshold=20)
    assert config.target == 10
    assert config.changed({"strategy": "summarize"}).target == 11
    assert config.changed({"keep_recent": 15}).target == 15
    chosen = CompressionConfig(auto_compress_enabled=True, auto_compress_threshold=20, auto_compress_target=10)
    with pytest.raises(InvalidInput, match="keep_recent"):
        chosen.changed({"keep_recent": 15})


@pytest.mark.parametrize("template", ["{{messages}} x", "{summary}", "messages", "{messages"])
def test_a_template_that_does_not_tell_the_messages(template: str) -> None:
    """A template in which the messages do not come is refused; one with another form of them is not."""
    with pytest.raises(InvalidInput, match="summary_prompt_template"):
        CompressionConfig(summary_prompt_template=template)
    assert CompressionConfig(summary_prompt_template="{messages!s} {{}}")
