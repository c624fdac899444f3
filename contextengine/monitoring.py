"""The engine's health."""

from __future__ import annotations

from typing import Any

from contextengine.runtime import Open
from eventstore import ContextEngineError
from eventstore.memory.store import MemoryStore

DEAD_AFTER = 5.0
"""Seconds without a sign of life after which a worker counts as dead. It gives one every second."""


class Monitoring(Open):
    """Health: of the server, the workers, the views."""

    async def health_check(self) -> dict[str, Any]:
        """Return how the engine fares. What could not be found out is None, never 0.

        Returns:
            ``status`` (``healthy``, ``degraded`` or ``unhealthy``), ``storage_backend`` (``redis`` or ``memory``),
            ``redis_connected``, ``issues`` (sentences), ``workers`` (seconds since each one's last sign of life),
            ``lag`` (feed entries that wait to be projected), ``parked_sessions`` (ids).
        """
        runtime = self._here()
        in_memory = isinstance(runtime.store, MemoryStore)
        health: dict[str, Any] = {
            "status": "healthy",
            "storage_backend": "memory" if in_memory else "redis",
            "redis_connected": False,
            "issues": [],
            "workers": None,
            "lag": None,
            "parked_sessions": None,
        }
        try:
            health["workers"] = await runtime.store.feed.heartbeats(runtime.views.group)
            health["lag"] = sum(
                partition.waiting for partition in await runtime.store.feed.progress(runtime.views.group)
            )
            health["parked_sessions"] = [parked.session_id for parked in await runtime.views.parked()]
            health["redis_connected"] = not in_memory
        except ContextEngineError as error:
            health["status"] = "unhealthy"
            health["issues"].append(f"The store does not answer: {error}")
            return health
        health["issues"] += self._issues(health)
        if health["issues"]:
            health["status"] = "degraded"
        return health

    def _issues(self, health: dict[str, Any]) -> list[str]:
        failures = self._here().worker_failures
        issues = [f"The {name} in this process died: {failure}." for name, failure in failures.items()]
        dead = [name for name, age in health["workers"].items() if age > DEAD_AFTER]
        if dead:
            issues.append(f"No sign of life from: {', '.join(sorted(dead))}.")
        if health["lag"] and len(dead) == len(health["workers"]):
            issues.append("No worker is alive, and appends wait to be projected: reads are right, but do the work.")
        if health["parked_sessions"]:
            issues.append(
                f"{len(health['parked_sessions'])} session(s) are parked: their views are not kept up to date."
            )
        return issues
