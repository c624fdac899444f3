"""The engine's health."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from contextengine.runtime import Open
from eventstore import ContextEngineError, StoreUnavailable
from eventstore.feed import Feed
from eventstore.memory.store import MemoryStore
from workers.compaction import worker as compaction

PATIENCE = 2.0
"""Seconds for which the store may take to answer. A server that is paused or frozen does not answer at all."""
DEAD_AFTER = 5.0
"""Seconds without a sign of life after which a worker counts as dead. It gives one every second."""
STUCK_AFTER = 5.0
"""Seconds for which a worker may have work in its hands. It takes under one."""
ATTEMPTS = 3
"""How often the same work may have been handed out: each further time somebody did not finish it."""


class Monitoring(Open):
    """Health: of the server, the workers, the views."""

    async def health_check(self) -> dict[str, Any]:
        """Return how the engine fares, within seconds. What could not be found out is None, never 0.

        Returns:
            ``status`` (``healthy``; ``degraded``: something needs doing, answers are right; ``unhealthy``: the store
            does not serve), ``storage_backend`` (``redis`` or ``memory``), ``redis_connected`` (whether it answered
            just now), ``issues`` (sentences), ``parked_sessions`` (ids), ``forked_views`` (how often views
            were made anew because their log had lost events, in a failover, say); of those who keep views up to date:
            ``workers`` (seconds since each one's last sign of life), ``lag`` (feed entries that wait), ``lag_seconds``
            (since the oldest of these was appended), ``stuck_partitions`` (who holds unfinished work, for how long);
            and in ``compaction`` the same of those who compact, None where there never was one.
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
            "lag_seconds": None,
            "stuck_partitions": None,
            "parked_sessions": None,
            "forked_views": None,
            "compaction": None,
        }
        try:
            async with asyncio.timeout(PATIENCE):
                await self._look(health)
        except StoreUnavailable as error:
            health |= {"status": "unhealthy", "redis_connected": False}
            health["issues"].append(f"The store does not answer: {error}")
        except ContextEngineError as error:
            health["status"] = "unhealthy"
            health["issues"].append(f"The store does not serve: {error}")
        except TimeoutError:
            health["status"] = "unhealthy"
            health["issues"].append(
                f"The server answers, but ran no script within {PATIENCE:g} s: it is paused for writes, or busy."
                if health["redis_connected"]
                else f"The server does not answer within {PATIENCE:g} s: it is paused, frozen, or out of reach."
            )
        health["issues"] += self._issues(health)
        if health["issues"] and health["status"] == "healthy":
            health["status"] = "degraded"
        return health

    async def _look(self, health: dict[str, Any]) -> None:
        """Find out one thing after the other; what was found when the time is up is kept."""
        runtime = self._here()
        feed = runtime.store.feed
        await runtime.store.now()
        health["redis_connected"] = health["storage_backend"] == "redis"
        health["workers"] = await feed.heartbeats(runtime.views.group)
        health["parked_sessions"] = [parked.session_id for parked in await runtime.views.parked()]
        health["forked_views"] = await runtime.views.forked()
        patience = STUCK_AFTER + 2 * runtime.compactor.defaults.config.compression_timeout
        health |= await _group(feed, runtime.views.group, STUCK_AFTER) or {}
        beats = await feed.heartbeats(compaction.GROUP)
        found = await _group(feed, compaction.GROUP, patience)
        if beats or found is not None:
            health["compaction"] = {"workers": beats, **(found or {})}

    def _issues(self, health: dict[str, Any]) -> Iterator[str]:
        for name, failure in self._here().worker_failures.items():
            yield f"The {name} in this process died: {failure}."
        yield from _of_workers(health, "worker")
        yield from _of_workers(health["compaction"] or {}, "compaction worker")
        alive = [name for name, age in (health["workers"] or {}).items() if age <= DEAD_AFTER]
        if health["lag"] and not alive:
            yield "No worker is alive, and appends wait to be projected: reads are right, but do the work."
        elif health["lag"] and (health["lag_seconds"] or 0) > STUCK_AFTER:
            yield f"The workers are {health['lag_seconds']:.0f} s behind: reads are right, but do the work."
        if parked := health["parked_sessions"]:
            yield f"{len(parked)} session(s) are parked: their views are not kept up to date. See scripts/parked.py."


async def _group(feed: Feed, group: str, patience: float) -> dict[str, Any] | None:
    """Return how far a consumer group has come, None for the compaction workers' group if nobody ever joined it."""
    progress = await feed.progress(group)
    if group == compaction.GROUP and not any(partition.joined for partition in progress):
        return None
    waited = [partition.waited for partition in progress if partition.waiting]
    known = [seconds for seconds in waited if seconds is not None]
    return {
        "lag": sum(partition.waiting for partition in progress),
        "lag_seconds": max(known, default=None if waited else 0.0),
        "stuck_partitions": {
            partition.partition: {"held_by": held.consumer, "seconds": held.seconds, "attempts": held.attempts}
            for partition in progress
            if (held := partition.held) and (held.seconds > patience or held.attempts > ATTEMPTS)
        },
    }


def _of_workers(told: dict[str, Any], kind: str) -> Iterator[str]:
    """Say what is wrong with the workers of a group."""
    dead = sorted(name for name, age in (told.get("workers") or {}).items() if age > DEAD_AFTER)
    if dead:
        yield f"No sign of life from the {kind}(s) {', '.join(dead)}."
    for partition, held in (told.get("stuck_partitions") or {}).items():
        yield (
            f"Partition {partition} is stuck: {kind} {held['held_by']} has had its oldest entry for "
            f"{held['seconds']:.0f} s (attempt {held['attempts']}) and does not finish it."
        )
