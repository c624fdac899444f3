"""What goes when a history is compacted: pure planners behind one protocol.

A planner is told which units may go and how many messages and tokens must, and answers which of them go, and which of
these a summary shall stand for. It does no I/O. What must never go (the newest messages, the opening system messages,
calls that wait for their results) it is not even shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from eventstore.errors import InvalidInput
from workers.compaction.transcript import Unit

if TYPE_CHECKING:
    from workers.compaction.config import CompressionConfig

Vector = Sequence[float]


class Task(msgspec.Struct, frozen=True):
    """What a planner has to do.

    Attributes:
        older: The units that may go, oldest first.
        recent: The newest units, which stay.
        messages: How many messages of ``older`` must go.
        tokens: How many tokens of ``older`` must go.
        asked: Whether somebody asked for this compaction, so that even what fits is to become less.
        config: The configuration.
        vector: Returns a unit's embedding; None unless the strategy `embeds`.
        others: How many messages stay that are not shown: the opening ones, waiting calls, a summary.
    """

    older: Sequence[Unit]
    recent: Sequence[Unit]
    messages: int
    tokens: int
    asked: bool
    config: CompressionConfig
    vector: Callable[[Unit], Vector] | None = None
    others: int = 0

    def after(self, plan: Plan) -> Task:
        """Return what is left to do after a plan."""
        gone = {unit.places for unit in (*plan.dropped, *plan.summarized)}
        left = [unit for unit in self.older if unit.places not in gone]
        went = [unit for unit in self.older if unit.places in gone]
        return msgspec.structs.replace(
            self,
            older=left,
            messages=max(0, self.messages - sum(len(unit.places) for unit in went)),
            tokens=max(0, self.tokens - sum(unit.tokens for unit in went)),
        )


class Plan(msgspec.Struct, frozen=True):
    """Which units go: without a trace in the history, or into a summary."""

    dropped: Sequence[Unit] = ()
    summarized: Sequence[Unit] = ()


class Strategy(Protocol):
    """A planner."""

    def embeds(self, config: CompressionConfig) -> bool:
        """Whether it needs the embeddings of the units."""
        ...

    def summarizes(self, config: CompressionConfig) -> bool:
        """Whether its plans may ask for a summary."""
        ...

    def plan(self, task: Task) -> Plan:
        """Choose what goes."""
        ...


class Truncate:
    """The oldest go. What stays is `max_messages`; if that fits already and somebody asked, `keep_recent`."""

    def embeds(self, config: CompressionConfig) -> bool:  # noqa: ARG002 - the protocol's argument
        """No."""
        return False

    def summarizes(self, config: CompressionConfig) -> bool:  # noqa: ARG002 - the protocol's argument
        """No."""
        return False

    def plan(self, task: Task) -> Plan:
        """Take the oldest until enough has gone."""
        there = task.others + sum(len(unit.places) for unit in (*task.older, *task.recent))
        over = there - task.config.max_messages
        if over <= 0 and not task.messages and not task.tokens and task.asked:
            return Plan(dropped=task.older)
        return Plan(dropped=oldest(task.older, max(over, task.messages), task.tokens))


class Summarize:
    """All that may go goes, into a summary."""

    def embeds(self, config: CompressionConfig) -> bool:  # noqa: ARG002 - the protocol's argument
        """No."""
        return False

    def summarizes(self, config: CompressionConfig) -> bool:  # noqa: ARG002 - the protocol's argument
        """Yes."""
        return True

    def plan(self, task: Task) -> Plan:
        """Take all."""
        return Plan(summarized=task.older)


class Semantic:
    """What a newer message says nearly the same as goes; and then the oldest, if that was not enough."""

    def embeds(self, config: CompressionConfig) -> bool:  # noqa: ARG002 - the protocol's argument
        """Yes."""
        return True

    def summarizes(self, config: CompressionConfig) -> bool:  # noqa: ARG002 - the protocol's argument
        """No."""
        return False

    def plan(self, task: Task) -> Plan:
        """Look for repetitions, the newest first, so that of each group the newest stays."""
        assert task.vector is not None  # noqa: S101 - it says that it embeds
        kept = [_normal(task.vector(unit)) for unit in task.recent]
        repeated = []
        for unit in reversed(task.older):
            vector = _normal(task.vector(unit))
            if any(_dot(vector, other) >= task.config.similarity_threshold for other in kept):
                repeated.append(unit)
            else:
                kept.append(vector)
        plan = Plan(dropped=repeated[::-1])
        left = task.after(plan)
        return Plan(dropped=[*plan.dropped, *oldest(left.older, left.messages, left.tokens)])


class Hybrid:
    """One strategy after the other, each on what the one before has left."""

    def embeds(self, config: CompressionConfig) -> bool:
        """Whether one of them does."""
        return any(strategy.embeds(config) for strategy in self._chain(config))

    def summarizes(self, config: CompressionConfig) -> bool:
        """Whether one of them does."""
        return any(strategy.summarizes(config) for strategy in self._chain(config))

    def plan(self, task: Task) -> Plan:
        """Apply them in turn."""
        whole = Plan()
        for strategy in self._chain(task.config):
            plan = strategy.plan(task)
            whole = Plan([*whole.dropped, *plan.dropped], [*whole.summarized, *plan.summarized])
            task = task.after(plan)
        return whole

    def _chain(self, config: CompressionConfig) -> list[Strategy]:
        return [strategy_named(name) for name in config.hybrid_strategies or ()]


_STRATEGIES: dict[str, Strategy] = {
    "truncate": Truncate(),
    "summarize": Summarize(),
    "semantic": Semantic(),
    "hybrid": Hybrid(),
}
OURS = frozenset(_STRATEGIES)


def register_strategy(name: str, strategy: Strategy) -> None:
    """Make a strategy known under a name, in this process, in place of any that was registered under it before.

    Raises:
        InvalidInput: The name is one of ours, or empty; or the strategy lacks a method.
    """
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"A strategy's name must be a str that is not empty, not {name!r:.80}.")
    if not all(callable(getattr(strategy, method, None)) for method in ("embeds", "summarizes", "plan")):
        raise InvalidInput(f"{type(strategy).__name__} is no strategy: it needs the methods embeds, summarizes, plan.")
    if name in OURS:
        raise InvalidInput(f"There is a strategy {name!r} already.")
    _STRATEGIES[name] = strategy


def strategy_named(name: str) -> Strategy:
    """Return the strategy of a name.

    Raises:
        InvalidInput: There is none.
    """
    try:
        return _STRATEGIES[name]
    except (KeyError, TypeError):
        raise InvalidInput(f"Invalid strategy {name!r:.80}: must be one of {', '.join(known_strategies())}.") from None


def known_strategies() -> Mapping[str, Strategy]:
    """Return all strategies by their names."""
    return dict(_STRATEGIES)


def oldest(units: Sequence[Unit], messages: int, tokens: int) -> list[Unit]:
    """Return the oldest units that have so many messages and so many tokens together, all if they have not."""
    taken = []
    for unit in units:
        if messages <= 0 and tokens <= 0:
            break
        taken.append(unit)
        messages -= len(unit.places)
        tokens -= unit.tokens
    return taken


def _normal(vector: Vector) -> list[float]:
    length = math.sqrt(sum(part * part for part in vector))
    return [part / length for part in vector] if length else [0.0] * len(vector)


def _dot(one: Vector, other: Vector) -> float:
    return sum(map(float.__mul__, one, other))
