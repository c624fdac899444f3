"""What the random tests and the search around them have found, each in its smallest form.

A test that is expected to fail shows a bug that is known and not yet mended; whoever mends it takes the mark away.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from contextengine import ContextEngine, InvalidInput
from eventstore import (
    EXISTS,
    NO_STREAM,
    Append,
    Event,
    MessageAdded,
    SessionStarted,
    SessionUpdated,
    WrongExpectedVersion,
    open_store,
)
from eventstore.redis.store import RedisStore
from projections import Projector, open_views

SAID = MessageAdded("user", "text")


@pytest.mark.guarantee("L4")
async def test_the_loser_of_a_race_gets_what_the_winner_wrote(redis_url: str, namespace: str) -> None:
    """A conflict carries the winner's events even when both appends leave in one call."""
    async with open_store(redis_url, namespace=namespace) as store:
        winner, loser = await asyncio.gather(
            store.append("s", SAID, expected_version=NO_STREAM),
            store.append("s", SAID, expected_version=NO_STREAM),
            return_exceptions=True,
        )
        assert not isinstance(winner, BaseException)
        assert isinstance(loser, WrongExpectedVersion)
        assert loser.version == 1
        assert [event.event_id for event in loser.events] == winner.event_ids


@pytest.mark.guarantee("L4")
async def test_a_conflict_carries_nothing_that_came_later(redis_url: str, namespace: str) -> None:
    """A conflict's events reach up to the version that it names, whatever the same call wrote after it."""
    async with open_store(redis_url, namespace=namespace) as store:
        conflict, _ = await store.append_many([Append("s", [SAID], EXISTS), Append("s", [SAID])])
        assert isinstance(conflict, WrongExpectedVersion)
        assert (conflict.version, conflict.events) == (0, [])


@pytest.mark.guarantee("L8")
@pytest.mark.parametrize("expected", [2**64 - 2, 2**64, 10**30])
async def test_an_absurd_expectation_harms_nobody_else(redis_url: str, namespace: str, expected: int) -> None:
    """An append that expects a version beyond all bounds is refused alone; what leaves beside it is stored."""
    async with open_store(redis_url, namespace=namespace, partitions=1) as store:
        absurd, neighbour = await asyncio.gather(
            store.append("s", SAID, expected_version=expected), store.append("t", SAID), return_exceptions=True
        )
        assert isinstance(absurd, WrongExpectedVersion | InvalidInput)
        assert not isinstance(neighbour, BaseException)
        assert await store.version("t") == 1


@pytest.mark.parametrize("bounds", [{"after": 2**64}, {"until": 2**64}])
async def test_absurd_bounds_of_a_read(redis_url: str, namespace: str, bounds: dict[str, int]) -> None:
    """A bound beyond all versions is like any other that no version reaches, or is refused as bad input."""
    async with open_store(redis_url, namespace=namespace) as store:
        await store.append("s", SAID)
        with contextlib.suppress(InvalidInput):
            assert len(await store.read("s", **bounds)) == int("until" in bounds)  # type: ignore[arg-type]


async def test_absurd_limits(redis_url: str, namespace: str) -> None:
    """A limit beyond all counts is no limit, or is refused as bad input."""
    async with ContextEngine(redis_url, namespace=namespace, workers=False) as engine:
        await engine.add_conversation_message("s", "user", "text")
        with contextlib.suppress(InvalidInput):
            assert len(await engine.get_conversation_history("s", limit=2**64)) == 1
        with contextlib.suppress(InvalidInput):
            assert len(await engine.list_sessions(limit=2**64)) == 1


async def bad_beside_good(url: str, namespace: str, bad: list[Event]) -> None:
    """Project a session with bad events beside a good one, and see that the good one does not suffer."""
    async with open_store(url, namespace=namespace) as store:
        await store.append("bad", bad)
        await store.append("good", SAID)
        views = open_views(store)
        projector = Projector(store, views)
        await projector.project_or_park(["bad", "good"])
        await store.append("bad", SAID)
        await store.append("good", SAID)
        await projector.project_or_park(["bad", "good"])
        (good,) = await views.read_sessions(["good"])
        assert (good.version, good.state.message_count) == (2, 2)


@pytest.mark.guarantee("W2")
@pytest.mark.parametrize(
    "bad",
    [
        [SessionUpdated(processing_time=1.7e308), SessionUpdated(processing_time=1.7e308)],
        [SessionUpdated(changes={"total_processing_time": 10**400})],
        [SessionUpdated(changes={"request_count": "many"})],
        [SessionUpdated(changes={"user_id": 5})],
        [SessionUpdated(changes={"status": ["odd"]})],
        [SessionUpdated(changes={"status": "odd"}), SessionUpdated(changes={"user_id": {"not": "a text"}})],
        [SessionUpdated(requests=10**4300 - 1), SessionUpdated(requests=1)],
    ],
    ids=["endless time", "huge time", "count", "user", "status", "late", "digits"],
)
async def test_a_bad_event_stops_its_own_session_only(redis_url: str, namespace: str, bad: list[Event]) -> None:
    """Whatever an event says, the sessions that are projected beside it do not suffer."""
    await bad_beside_good(redis_url, namespace, bad)


@pytest.mark.guarantee("W2")
async def test_a_bad_event_that_the_fold_refuses_stops_its_own_session_only(redis_url: str, namespace: str) -> None:
    """An event that cannot be folded parks its session, and the one beside it is projected."""
    await bad_beside_good(redis_url, namespace, [SessionStarted(), SessionUpdated(changes={"metadata": "no dict"})])


class TestProcessingTime:
    async def test_cannot_grow_beyond_what_can_be_kept(self, redis_url: str, namespace: str) -> None:
        """However much time is added, the session and the lists can still be read."""
        async with ContextEngine(redis_url, namespace=namespace, workers=False) as engine:
            await engine.create_session("s")
            with contextlib.suppress(InvalidInput):
                await engine.update_session("s", add_processing_time=1.7e308)
                await engine.update_session("s", add_processing_time=1.7e308)
            assert len(await engine.list_sessions()) == 1
            assert len(await engine.list_sessions()) == 1
            assert await engine.get_session("s") is not None

    async def test_cannot_be_replaced_by_what_cannot_be_kept(self, redis_url: str, namespace: str) -> None:
        """A time that no float can hold is refused."""
        async with ContextEngine(redis_url, namespace=namespace, workers=False) as engine:
            await engine.create_session("s")
            with contextlib.suppress(InvalidInput):
                await engine.update_session("s", {"total_processing_time": 10**400})
            assert len(await engine.list_sessions()) == 1
            assert await engine.get_session("s") is not None

    async def test_that_is_added_has_to_be_a_number_that_can_be_kept(self) -> None:
        """Seconds that no float can hold are refused as bad input."""
        async with ContextEngine("memory://", workers=False) as engine:
            await engine.create_session("s")
            with pytest.raises(InvalidInput):
                await engine.update_session("s", add_processing_time=10**400)

    @pytest.mark.guarantee("V2")
    @pytest.mark.parametrize("seconds", [5, 10**12 - 1])
    async def test_is_the_same_before_and_after_it_is_stored(
        self, redis_url: str, namespace: str, seconds: int
    ) -> None:
        """A time that was given as a whole number reads the same from the log and from the view."""
        async with ContextEngine(redis_url, namespace=namespace, workers=False) as engine:
            await engine.create_session("s")
            await engine.update_session("s", {"total_processing_time": seconds})
            times: list[Any] = []
            for _ in range(2):
                session = await engine.get_session("s")
                assert session is not None
                times.append(session["total_processing_time"])
                await engine.list_sessions()
            assert times[0] == times[1]
            assert type(times[0]) is type(times[1])


@pytest.mark.guarantee("V2")
async def test_what_was_handed_out_is_the_callers_own() -> None:
    """A caller that changes what it was given does not change the session."""
    async with ContextEngine("memory://", workers=False) as engine:
        await engine.create_session("s", metadata={"plan": {"name": "free"}})
        await engine.list_sessions()
        session = await engine.get_session("s")
        assert session is not None
        session["metadata"]["plan"]["name"] = "paid"
        session["metadata"]["more"] = 1
        session = await engine.get_session("s")
        assert session is not None
        assert session["metadata"] == {"plan": {"name": "free"}}


async def test_a_position_after_which_nothing_was_dropped_is_still_good(redis_url: str, namespace: str) -> None:
    """A feed that was trimmed up to a position can be read from that position."""
    async with open_store(redis_url, namespace=namespace, partitions=1) as store:
        consumer = await store.feed.join("g", "c")
        await store.append("s", SAID)
        first = await consumer.take(count=1, wait=0)
        position = await store.position()
        newer = await store.append("s", SAID, expected_version=EXISTS)
        await consumer.take(count=1, wait=0)
        await consumer.ack(first)
        await store.feed.trim()
        assert [event.event_id for event in await store.read_all(after=position)] == newer.event_ids
        consumer.abandon()


async def test_a_cursor_of_bytes_is_bad_input() -> None:
    """A cursor that is not a text is refused as bad input."""
    async with ContextEngine("memory://", workers=False) as engine:
        with pytest.raises(InvalidInput):
            await engine.list_sessions(cursor=b"1:s")  # type: ignore[arg-type]


async def test_messages_that_are_no_messages_are_bad_input() -> None:
    """Messages that cannot be iterated over are refused as bad input."""
    async with ContextEngine("memory://", workers=False) as engine:
        with pytest.raises(InvalidInput):
            await engine.add_conversation_messages("s", None)  # type: ignore[arg-type]


async def test_attempts_are_known_of_everything_that_is_claimed(redis_url: str, namespace: str) -> None:
    """A consumer that holds something of its own hears how often each claimed entry has been handed out."""
    async with open_store(redis_url, namespace=namespace, partitions=1) as store:
        assert isinstance(store, RedisStore)
        dead, heir = await store.feed.join("g", "dead"), await store.feed.join("g", "heir")
        held = []
        for consumer in (dead, heir, dead):
            await store.append("s", SAID)
            held += await consumer.take(count=1, wait=0)
        first, _, last = ["{}-{}".format(*delivery.entry_id) for delivery in held]
        longest_ago = ("IDLE", 60_000, "RETRYCOUNT", 5)
        await store.links.call("XCLAIM", store.keys.feed(0), "g", "dead", 0, first, last, *longest_ago)
        claimed = await heir.claim(idle=30, count=10)
        assert [delivery.attempts for delivery in claimed] == [6, 6]
        dead.abandon()
        heir.abandon()
