"""How histories are compacted: `CompressionConfig`."""

from __future__ import annotations

import dataclasses
import math
import string
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from eventstore.errors import InvalidInput, shown
from workers.compaction.strategies import known_strategies
from workers.compaction.tokens import TokenCounter, estimate_tokens

Embeddings: TypeAlias = Callable[[list[str]], Awaitable[Sequence[Sequence[float]]]]
"""Returns a vector for each text."""

TARGET = 50
WITHOUT_SUMMARY = frozenset({"truncate", "semantic"})
CALLABLES = frozenset({"token_counter", "embeddings"})
"""The settings that no session can have of its own, because a log cannot hold them."""


@dataclasses.dataclass(frozen=True)
class CompressionConfig:
    """When a history is compacted, and what becomes of its older part. The log keeps every original.

    Args:
        strategy: ``truncate``, ``summarize``, ``semantic``, ``hybrid``, or one of `register_strategy`.
        max_messages: What ``truncate`` leaves.
        keep_recent: So many of the newest messages stay as they are, whatever the strategy. A tool call and its results
            stay or go together, so it may be a few more.
        summary_prompt_template: The prompt of a summary: a text with ``{messages}``, and if you like ``{summary}`` (the
            earlier summary) and ``{max_tokens}``.
        summary_max_tokens: The length of a summary.
        include_summary_in_history: Whether the history begins with the summary.
        similarity_threshold: For ``semantic``: the cosine, 0 to 1, from which two messages count as the same.
        embedding_model: For ``semantic``: the model to ask the LLM client's ``get_embeddings`` for.
        hybrid_strategies: The strategies that ``hybrid`` applies one after the other.
        auto_compress_enabled: Whether histories are compacted by themselves.
        auto_compress_threshold: Reaching so many messages starts a compaction.
        auto_compress_target: So many messages it leaves at most. By default 50, or half of a threshold below 100, or
            what `keep_recent` and a summary need.
        compression_timeout: Seconds that a model may take; then the built-in summarizer does it.
        auto_compress_token_threshold: Reaching so many tokens starts a compaction too; None for no such budget.
        auto_compress_token_target: So many tokens it tries to leave at most. By default half of the threshold, or what
            a summary needs.
        token_counter: How tokens are counted: a function from a text to a number. By default an estimate.
        summary_window_tokens: What is given to a model at once. A longer past is summarized in steps.
        summary_role: The role of the message that holds a summary.
        embeddings: For ``semantic``: an async function from texts to vectors, instead of the LLM client's.

    Raises:
        InvalidInput: A value cannot be accepted, or compactions would not lead below the thresholds.
    """

    strategy: str = "truncate"
    max_messages: int = 50
    keep_recent: int = 10
    summary_prompt_template: str | None = None
    summary_max_tokens: int = 500
    include_summary_in_history: bool = True
    similarity_threshold: float = 0.95
    embedding_model: str = "text-embedding-ada-002"
    hybrid_strategies: list[str] | None = None
    auto_compress_enabled: bool = False
    auto_compress_threshold: int = 100
    auto_compress_target: int | None = None
    compression_timeout: float = 30.0
    auto_compress_token_threshold: int | None = None
    auto_compress_token_target: int | None = None
    token_counter: TokenCounter = estimate_tokens
    summary_window_tokens: int = 8000
    summary_role: str = "system"
    embeddings: Embeddings | None = None

    _derived: ClassVar[tuple[str, ...]] = ()  # of an instance: the settings that follow from others

    def __post_init__(self) -> None:
        """Fill in what follows from the rest, and refuse what cannot be."""
        object.__setattr__(self, "_derived", ())
        if self.hybrid_strategies is None:
            self._fill("hybrid_strategies", ["truncate", "summarize"])
        self._check_types()
        if self.auto_compress_target is None:
            likely = max(min(TARGET, self.auto_compress_threshold // 2), self.keep_recent + self._summaries)
            self._fill("auto_compress_target", max(1, min(likely, self.auto_compress_threshold - 1)))
        if self.auto_compress_token_threshold is not None and self.auto_compress_token_target is None:
            likely = max(self.auto_compress_token_threshold // 2, self._summaries * (self.summary_max_tokens + 1))
            self._fill("auto_compress_token_target", max(1, min(likely, self.auto_compress_token_threshold - 1)))
        if self.auto_compress_enabled:
            self._check_convergence()

    def changed(self, settings: Mapping[str, Any]) -> CompressionConfig:
        """Return a configuration with other values.

        Raises:
            InvalidInput: There is no such setting, or the value cannot be accepted.
        """
        unknown = settings.keys() - {field.name for field in dataclasses.fields(self)}
        if unknown:
            raise InvalidInput(f"CompressionConfig has no {', '.join(sorted(map(repr, unknown)))}.")
        # What nobody has set follows from the new settings, as it followed from the old ones.
        values: dict[str, Any] = {**dict.fromkeys(self._derived), **settings}
        return dataclasses.replace(self, **values)

    @property
    def target(self) -> int:
        """The target, which has been filled in."""
        assert self.auto_compress_target is not None  # noqa: S101 - `__post_init__` has filled it in
        return self.auto_compress_target

    def _fill(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        object.__setattr__(self, "_derived", (*self._derived, name))

    def _check_types(self) -> None:
        self._check_strategies()
        for name, least in _WHOLE.items():
            _check_whole(name, getattr(self, name), least)
        for name in ("include_summary_in_history", "auto_compress_enabled"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInput(f"{name} must be True or False, not {shown(getattr(self, name))}.")
        _check_number("similarity_threshold", self.similarity_threshold, 0, 1)
        _check_number("compression_timeout", self.compression_timeout, 0, 86_400)
        for name in ("embedding_model", "summary_role"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise InvalidInput(f"{name} must be a str that is not empty, not {shown(getattr(self, name))}.")
        if not callable(self.token_counter):
            raise InvalidInput("token_counter must be a function from a text to a number of tokens.")
        if self.embeddings is not None and not callable(self.embeddings):
            raise InvalidInput("embeddings must be an async function from a list of texts to a list of vectors.")
        if self.summary_prompt_template is not None:
            _check_template(self.summary_prompt_template)

    def _check_strategies(self) -> None:
        names = known_strategies()
        chain = [(strategy, " in hybrid_strategies") for strategy in _list("hybrid_strategies", self.hybrid_strategies)]
        for strategy, where in [(self.strategy, ""), *chain]:
            if not isinstance(strategy, str) or strategy not in names:
                raise InvalidInput(
                    f"Invalid strategy {shown(strategy)}{where}: must be one of {', '.join(sorted(names))}."
                )
        if not self.hybrid_strategies or "hybrid" in self.hybrid_strategies:
            raise InvalidInput("hybrid_strategies must name at least one strategy, and not 'hybrid' itself.")

    @property
    def _summaries(self) -> int:
        """How many summaries a compacted history may begin with: 1 or 0."""
        chain = self.hybrid_strategies or [] if self.strategy == "hybrid" else [self.strategy]
        return int(self.include_summary_in_history and not set(chain) <= WITHOUT_SUMMARY)

    def _check_convergence(self) -> None:
        summary = self._summaries
        least = self.keep_recent + summary
        if self.target >= self.auto_compress_threshold:
            raise InvalidInput(
                f"auto_compress_target ({self.target}) must be below auto_compress_threshold "
                f"({self.auto_compress_threshold}), or every message would start another compaction."
            )
        if least > self.target:
            raise InvalidInput(
                f"keep_recent ({self.keep_recent}){' and the summary' if summary else ''} do not fit into "
                f"auto_compress_target ({self.target}): raise the target or keep fewer."
            )
        if self.auto_compress_token_threshold is None:
            return
        assert self.auto_compress_token_target is not None  # noqa: S101 - `__post_init__` has filled it in
        if self.auto_compress_token_target >= self.auto_compress_token_threshold:
            raise InvalidInput("auto_compress_token_target must be below auto_compress_token_threshold.")
        if summary and self.summary_max_tokens >= self.auto_compress_token_target:
            raise InvalidInput(
                f"summary_max_tokens ({self.summary_max_tokens}) does not fit into auto_compress_token_target "
                f"({self.auto_compress_token_target})."
            )


_WHOLE = {
    "max_messages": 1,
    "keep_recent": 0,
    "summary_max_tokens": 1,
    "auto_compress_threshold": 1,
    "auto_compress_target": 1,
    "auto_compress_token_threshold": 1,
    "auto_compress_token_target": 1,
    "summary_window_tokens": 100,
}
OPTIONAL = frozenset({"auto_compress_target", "auto_compress_token_threshold", "auto_compress_token_target"})


def _check_whole(name: str, value: object, least: int) -> None:
    if value is None and name in OPTIONAL:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 10**9:
        raise InvalidInput(f"{name} must be a whole number from {least}, not {shown(value)}.")


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most or math.isnan(value):
        raise InvalidInput(f"{name} must be a number from {least} to {most}, not {shown(value)}.")


def _check_template(template: object) -> None:
    if not isinstance(template, str):
        raise InvalidInput("summary_prompt_template must be a text with {messages} in it.")
    try:
        template.format(messages="", summary="", max_tokens=0)
        if "messages" not in {name for _, name, _, _ in string.Formatter().parse(template)}:
            raise InvalidInput("summary_prompt_template must be a text with {messages} in it.")
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise InvalidInput(
            "summary_prompt_template may have {messages}, {summary} and {max_tokens}; other braces must be doubled "
            f"({type(error).__name__}: {error})."
        ) from None


def _list(name: str, value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise InvalidInput(f"{name} must be a list, not {shown(value)}.")
    return list(value)
