"""Compaction workers where no other workers have ever been."""

from __future__ import annotations

import asyncio

import pytest
from support.waiting import until

from contextengine import CompressionConfig, ContextEngine
from eventstore import EventStore, MessageAdded
from projections import Projector, Queries, open_views
from workers import CompactionWorker, Compactor, following
from workers.compaction import CompactionDefaults
from workers.compaction.worker import GROUP as COMPACTION


@pytest.mark.guarantee("V4")
async def test_lists_know_what_only_a_compaction_worker_has_seen(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compaction worker drops nothing from the feeds that those who make the lists have not seen yet."""
    monkeypatch.setattr(following, "TRIM_EVERY", 0)
    views = open_views(store)
    config = CompressionConfig(auto_compress_enabled=True)
    worker = CompactionWorker(store, Compactor(store, views, CompactionDefaults(config)), name="c")
    working = asyncio.create_task(worker.run())

    async def seen() -> bool:
        return sum(partition.waiting for partition in await store.feed.progress(COMPACTION)) == 0

    for session_id in ("s", "t"):  # before it looks at the second, it may drop the first
        await store.append(session_id, MessageAdded("user", "x"))
        await until(seen)
    await worker.stop()
    await working
    page = await Queries(store, views, Projector(store, views)).sessions()
    assert {session.session_id for session in page.sessions} == {"s", "t"}


async def test_an_engine_trims(redis_url: str, namespace: str) -> None:
    """What all groups have seen is dropped from the feeds by the workers that keep views up to date."""
    async with ContextEngine(redis_url, namespace=namespace) as engine:
        await engine.add_conversation_message("s", "user", "x")
        await engine.list_sessions()
    async with ContextEngine(redis_url, namespace=namespace) as engine:
        store = engine._here().store

        async def trimmed() -> bool:
            return any(place != (0, 0) for place in await store.position()) and not await pointers()

        async def pointers() -> int:
            return sum(partition.waiting for partition in await store.feed.progress("nobody"))

        await until(trimmed)
