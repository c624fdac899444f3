"""From a history to the event that compacts it, without I/O: is it due, what goes, and what that comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from eventstore import CompactionFailed, HistoryCompacted
from projections import HistoryAt, SessionState
from projections.history import Compaction, size_of, summary_message
from workers.compaction.config import CompressionConfig
from workers.compaction.strategies import Plan, Strategy, Task, Vector, oldest
from workers.compaction.summarizer import Summary
from workers.compaction.tokens import estimate_tokens
from workers.compaction.transcript import PER_MESSAGE, Transcript, Unit, message_tokens, transcript

WORTHWHILE = 10
"""A budget of tokens is worth a compaction when a tenth of it may go: else every message would start one."""

HEADING = 100
"""Bytes of a summary's message that are not the summary, at most."""


class Situation(msgspec.Struct, frozen=True):
    """A history, what of it may go, and how much it is.

    Attributes:
        at: The history.
        parts: What may go and what may not.
        config: What holds for it.
        summarized: Whether it begins with a summary.
        messages: Its messages, the summary included.
        tokens: What they cost a model.
    """

    at: HistoryAt
    parts: Transcript
    config: CompressionConfig
    summarized: bool
    messages: int
    tokens: int

    @classmethod
    def of(cls, at: HistoryAt, config: CompressionConfig) -> Situation:
        """Look at a history."""
        earlier = at.history.compaction
        since = earlier.event.first if earlier else None
        parts = transcript(at.history.messages, config.keep_recent, config.token_counter, since)
        summary = at.history.summary
        tokens = parts.tokens + (message_tokens(summary, config.token_counter) if summary else 0)
        return cls(at, parts, config, summary is not None, len(at.history.messages) + bool(summary), tokens)

    @property
    def due(self) -> bool:
        """Whether it has reached a threshold, and enough of it may go."""
        config, older = self.config, self.parts.older
        if not config.auto_compress_enabled:
            return False
        enough = max(1, (config.auto_compress_threshold - config.target) // 2)
        if self.messages >= config.auto_compress_threshold and messages_of(older) >= enough:
            return True
        budget = config.auto_compress_token_threshold
        return budget is not None and self.tokens >= budget and tokens_of(older) >= max(1, budget // WORTHWHILE)


def may_be_due(state: SessionState, config: CompressionConfig) -> bool:
    """Whether a history may have reached a threshold, by what is known of it without reading it."""
    if not config.auto_compress_enabled:
        return False
    messages = state.history_messages + (state.summary_bytes > 0)
    if messages >= config.auto_compress_threshold:
        return True
    # No counter finds more tokens in a text than it has bytes, and the estimate finds two in three at most, rounded up.
    text = state.history_bytes + state.summary_bytes + HEADING * (state.summary_bytes > 0)
    most = (PER_MESSAGE + 1) * messages + (text * 2 // 3 if config.token_counter is estimate_tokens else text)
    return config.auto_compress_token_threshold is not None and most >= config.auto_compress_token_threshold


def plan(strategy: Strategy, situation: Situation, vector: Callable[[Unit], Vector] | None, *, asked: bool) -> Plan:
    """Have a strategy choose what goes, and let more of the oldest go if that does not lead to the target.

    Raises:
        CompactionFailed: The strategy, which may be a user's, failed or chose what it was not shown.
    """
    task = _task(strategy, situation, vector, asked=asked)
    try:
        chosen = _checked(strategy.plan(task), task.older)
    except CompactionFailed:
        raise
    except Exception as error:
        raise CompactionFailed(f"The strategy failed ({type(error).__name__}: {error}).") from error
    left = task.after(chosen)
    rest = oldest(left.older, left.messages, left.tokens)
    if strategy.summarizes(situation.config):
        return Plan(chosen.dropped, [*chosen.summarized, *rest])
    return Plan([*chosen.dropped, *rest], chosen.summarized)


def compacted(situation: Situation, chosen: Plan, summary: Summary | None, remark: str | None) -> HistoryCompacted:
    """Return the event that says what goes and what stands for it. At least one message must go."""
    at, config = situation.at, situation.config
    messages, earlier = at.history.messages, at.history.compaction
    gone = sorted(place for unit in (*chosen.dropped, *chosen.summarized) for place in unit.places)
    going = [messages[place] for place in gone]
    first, last = going[0]["version"], going[-1]["version"]
    if earlier is not None:  # it may have left messages older than some that it took
        first, last = min(first, earlier.event.first), max(last, earlier.event.last)
    reach = set(gone)
    event = HistoryCompacted(
        base=at.state.rewritten,
        first=first,
        last=last,
        replaced=len(gone),
        replaced_bytes=sum(size_of(message["content"], message.get("tool_calls")) for message in going),
        stands_for=len(gone) + (earlier.event.stands_for if earlier else 0),
        left_out=messages_of(chosen.dropped) + (earlier.event.left_out if earlier else 0),
        strategy=config.strategy,
        kept=[
            message["version"]
            for place, message in enumerate(messages)
            if message["version"] <= last and place not in reach
        ],
        role=config.summary_role,
        shown=config.include_summary_in_history,
        summary=summary.text if summary else earlier.event.summary if earlier else None,
        summarizer=summary.summarizer if summary else earlier.event.summarizer if earlier else None,
        remark="; ".join(filter(None, (remark, summary.remark if summary else None))) or None,
        messages_before=situation.messages,
        tokens_before=situation.tokens,
    )
    shown = summary_message(Compaction(0, 0, event))
    staying = situation.parts.tokens - tokens_of([*chosen.dropped, *chosen.summarized])
    return msgspec.structs.replace(
        event,
        messages_after=len(messages) - len(gone) + bool(shown),
        tokens_after=staying + (message_tokens(shown, config.token_counter) if shown else 0),
    )


def messages_of(units: Sequence[Unit]) -> int:
    """Return how many messages units have."""
    return sum(len(unit.places) for unit in units)


def tokens_of(units: Sequence[Unit]) -> int:
    """Return what units cost a model."""
    return sum(unit.tokens for unit in units)


def _task(strategy: Strategy, situation: Situation, vector: Callable[[Unit], Vector] | None, *, asked: bool) -> Task:
    config, parts = situation.config, situation.parts
    others = situation.messages - messages_of([*parts.older, *parts.recent])
    task = Task(parts.older, parts.recent, 0, 0, asked, config, vector, others)
    if not config.auto_compress_enabled:
        return task
    summary = config.include_summary_in_history and not situation.summarized and strategy.summarizes(config)
    tokens = 0
    if config.auto_compress_token_target is not None:
        grown = situation.tokens + (config.summary_max_tokens if summary else 0)
        tokens = max(0, grown - config.auto_compress_token_target)
    return msgspec.structs.replace(task, messages=max(0, situation.messages + summary - config.target), tokens=tokens)


def _checked(chosen: Plan, older: Sequence[Unit]) -> Plan:
    """Refuse a plan that takes what it was not shown, or takes something twice."""
    places = [unit.places for unit in (*chosen.dropped, *chosen.summarized)]
    if len(set(places)) != len(places) or not set(places) <= {unit.places for unit in older}:
        raise CompactionFailed("The strategy's plan takes units twice, or units that may not go.")
    return chosen
