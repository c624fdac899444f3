"""The past of any session, at any version, is what the oracle says; and a fork of it is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import events
from support.conversation import fitted
from support.model import Oracle, same

from eventstore import Event, EventStore, open_store
from eventstore.forking import fork
from projections.past import Past, past
from projections.replaying import Moment, difference, replay

SETTINGS = settings(deadline=None, max_examples=60)
logs = st.lists(events, min_size=1, max_size=25).map(lambda wanted: fitted([], wanted))
TIMES = {"timestamp", "created_at"}


def timeless(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave the times out."""
    return [{key: value for key, value in each.items() if key not in TIMES} for each in found]


def check(found: Past, oracle: Oracle, version: int) -> None:
    """Hold what a session was against the oracle."""
    assert found.version == version
    assert same(timeless(found.history.messages), oracle.history("s", version))
    assert same(found.context, oracle.context("s", version))
    assert same(timeless([*reversed(found.checkpoints.values())]), oracle.checkpoints("s", version))
    for checkpoint_id in oracle.checkpoint_ids("s"):
        written = [writes for (owner, _), writes in found.writes.items() if owner == checkpoint_id]
        assert same(sorted(written, key=lambda each: each["version"]), oracle.writes("s", checkpoint_id, version))
    expected = oracle.session("s", version)
    state = msgspec.structs.asdict(found.state)
    assert expected is None or same({name: state[name] for name in expected}, expected)


def run(log: Sequence[Event], test: Any) -> None:
    """Run something with a log in a store, and the oracle that has heard of it."""

    async def with_store() -> None:
        async with open_store("memory://", partitions=2) as store:
            oracle = Oracle()
            oracle.append("s", log)
            await store.append("s", log)
            await test(store, oracle)

    asyncio.run(with_store())


@SETTINGS
@given(log=logs)
@pytest.mark.guarantee("R1")
def test_every_version(log: list[Event]) -> None:
    """Folded to any version, a session is what the oracle says of its first so many events, however it was folded."""

    async def every(store: EventStore, oracle: Oracle) -> None:
        whole, grown = await store.read("s"), Past("s")
        for version in range(len(log) + 1):
            check(await past(store, "s", at_version=version), oracle, version)
            grown.take(whole[version - 1 : version] if version else [])
            check(grown, oracle, version)

    run(log, every)


@SETTINGS
@given(log=logs, data=st.data())
@pytest.mark.guarantee("R2")
def test_forks(log: list[Event], data: st.DataObject) -> None:
    """A fork is at each of its versions what the oracle says of its origin, and the origin is not touched."""
    at = data.draw(st.integers(1, len(log)))

    async def forked(store: EventStore, oracle: Oracle) -> None:
        before = await store.read("s")
        async for _ in fork(store, "s", at, "f"):
            pass
        assert await store.read("s") == before
        for version in range(at + 1):
            found = await past(store, "f", at_version=version)
            assert {stored["thread_id"] for stored in found.checkpoints.values()} <= {"f"}
            found.checkpoints = {name: {**each, "thread_id": "s"} for name, each in found.checkpoints.items()}
            check(found, oracle, version)
        assert await store.version("f") == at

    run(log, forked)


@SETTINGS
@given(log=logs, data=st.data())
def test_differences(log: list[Event], data: st.DataObject) -> None:
    """What changed between two versions turns the context and what a reader sees of the one into those of the other."""
    one, other = (data.draw(st.integers(0, len(log))) for _ in range(2))

    async def between(store: EventStore, _oracle: Oracle) -> None:
        before, after = [
            each
            for version in (one, other)
            async for each in replay(store, ["s"], Moment(version))
            if isinstance(each, Past)
        ]
        changed = difference(before, after)
        context = {key: value for key, value in before.context.items() if key not in changed["context"]["deleted"]}
        context |= changed["context"]["set"] | {key: new for key, (_, new) in changed["context"]["changed"].items()}
        assert context == after.context
        gone = {message["version"] for message in changed["messages"]["gone"]}
        stayed = [message for message in before.history.newest(None) if message["version"] not in gone]
        summary = after.history.compaction.version if after.history.compaction else None
        seen = sorted([*stayed, *changed["messages"]["added"]], key=lambda m: (m["version"] != summary, m["version"]))
        assert seen == after.history.newest(None)

    run(log, between)
