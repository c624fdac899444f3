"""The engine's metrics: counts over all sessions, which can be had without waiting as well."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

from contextengine.runtime import Open, Runtime
from eventstore.memory.store import MemoryStore
from projections import Totals


class GlobalMetrics(dict[str, int]):
    """Counts as they were known at once; await it for the exact ones."""

    def __init__(self, totals: Totals, runtime: Runtime) -> None:
        """Take what is known, and whom to ask for more."""
        super().__init__(_counts(totals))
        self._runtime = runtime

    def __await__(self) -> Generator[Any, None, dict[str, int]]:
        """Ask for the counts of all that has been acknowledged by now."""
        return self._exact().__await__()

    async def _exact(self) -> dict[str, int]:
        return _counts(await self._runtime.queries.totals())


class Metrics(Open):
    """Metrics: counts over all sessions."""

    def get_global_metrics(self) -> GlobalMetrics:
        """Return counts over all sessions, without awaiting or after.

        Without ``await``: what this engine did is in it at once, what others did within a second (while writes are
        under way, a few of this engine's may count twice for so long). With ``await``: exact.

        Returns:
            ``total_sessions``, ``active_sessions``, ``total_messages``, ``total_context_operations``,
            ``total_checkpoints``.
        """
        runtime = self._here()
        return GlobalMetrics(runtime.tally.totals, runtime)

    async def get_metrics(self) -> dict[str, Any]:
        """Return the exact counts, where the engine runs, and the time (naive UTC, ISO 8601)."""
        runtime = self._here()
        in_memory = isinstance(runtime.store, MemoryStore)
        return {
            **_counts(await runtime.queries.totals()),
            "storage_backend": "memory" if in_memory else "redis",
            "redis_connected": not in_memory,
            "timestamp": datetime.now(UTC).replace(tzinfo=None).isoformat(),
        }


def _counts(totals: Totals) -> dict[str, int]:
    return {
        "total_sessions": totals.sessions,
        "active_sessions": totals.active_sessions,
        "total_messages": totals.messages,
        "total_context_operations": totals.context_operations,
        "total_checkpoints": totals.checkpoints,
    }
