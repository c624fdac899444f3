"""What every event store does, on memory and on each server alike."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

import anyio
import pytest
from support.waiting import under_way

from eventstore import (
    ANY,
    EXISTS,
    NO_STREAM,
    Append,
    ContextSet,
    EventStore,
    EventTooLarge,
    InvalidEvent,
    InvalidInput,
    InvalidSessionId,
    MessageAdded,
    SessionStarted,
    WrongExpectedVersion,
)


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


async def texts(store: EventStore, session_id: str, **bounds: int | bool) -> list[str]:
    """Return what was said in a session."""
    return [event.data.content async for event in store.read(session_id, **bounds)]  # type: ignore[arg-type, union-attr]


class TestAppend:
    @pytest.mark.guarantee("L1", "L3")
    async def test_versions_are_gapless_from_1(self, store: EventStore) -> None:
        """A session's events are numbered 1, 2, 3 ..., over all appends."""
        first = await store.append("s", [said("a"), said("b")])
        second = await store.append("s", said("c"))
        assert (first.version, second.version) == (2, 3)
        assert [event.version for event in await store.read("s")] == [1, 2, 3]
        assert await store.version("s") == 3

    @pytest.mark.guarantee("L7")
    async def test_an_event_comes_back_as_it_was_given(self, store: EventStore) -> None:
        """Tool calls, null content, nested metadata, meta and odd texts survive unchanged."""
        odd = "".join(map(chr, [0, 1, 0x7F, 0x85, 0x2028, 0xFFFF, 0x1F469, 0x200D, 0x10FFFF]))
        message = MessageAdded(
            role="assistant",
            content=None,
            metadata={odd: [1, 1.5, True, None, {"deep": [[]]}, 2**70, -0.0]},
            name="agent",
            tool_calls=[{"id": "call_1", "function": {"name": "f", "arguments": '{"x": "' + odd + '"}'}}],
        )
        await store.append("s", [message, MessageAdded("user", [{"type": "text", "text": odd}])], meta={"actor": odd})
        first, second = await store.read("s")
        assert first.data == message
        assert second.data == MessageAdded("user", [{"type": "text", "text": odd}])
        assert first.meta == second.meta == {"actor": odd}

    async def test_result_names_the_events(self, store: EventStore) -> None:
        """The ids that an append returns are those in the log, and all differ."""
        appended = await store.append("s", [said("a"), said("b")])
        assert [event.event_id for event in await store.read("s")] == appended.event_ids
        assert len(set(appended.event_ids)) == 2

    @pytest.mark.guarantee("L3")
    async def test_time_never_goes_back(self, store: EventStore) -> None:
        """An event is never recorded before the one in front of it."""
        for number in range(20):
            await store.append("s", said(str(number)))
        times = [event.recorded_ms for event in await store.read("s")]
        assert times == sorted(times)

    @pytest.mark.parametrize(
        "session_id", ["a b", "a\nb", "{x}", "a:b", "日本語", "{contextengine:0}:log:s", "'", "*", "%s"]
    )
    async def test_any_session_id_is_a_session_of_its_own(self, store: EventStore, session_id: str) -> None:
        """Whatever characters an id has, it names its own session and no other's keys."""
        await store.append("s", said("mine"))
        await store.append(session_id, said("yours"))
        assert await texts(store, session_id) == ["yours"]
        assert await texts(store, "s") == ["mine"]

    @pytest.mark.guarantee("L1", "L3")
    async def test_concurrent_appends_to_one_session_all_count(self, store: EventStore) -> None:
        """500 appends in flight at once: none is lost, none doubled, and each task's own order holds."""

        async def writer(name: int) -> None:
            for number in range(10):
                await store.append("s", said(f"{name} {number}"))

        await asyncio.gather(*(writer(name) for name in range(50)))
        said_by: dict[str, list[int]] = {}
        for text in await texts(store, "s"):
            name, number = text.split()
            said_by.setdefault(name, []).append(int(number))
        assert said_by == {str(name): list(range(10)) for name in range(50)}

    async def test_a_cancelled_caller_neither_loses_nor_doubles(self, store: EventStore) -> None:
        """An append whose caller goes away is stored once or not at all, and harms nobody's."""
        tasks = await under_way(*(store.append("s", said(str(number))) for number in range(100)))
        for task in tasks[::2]:
            task.cancel()
        await asyncio.wait(tasks)
        counts = Counter(await texts(store, "s"))
        assert all(counts[str(number)] == 1 for number in range(1, 100, 2))
        assert max(counts.values()) == 1


class TestExpectedVersion:
    @pytest.mark.parametrize("expected", [ANY, NO_STREAM, 0])
    async def test_accepted_on_a_new_session(self, store: EventStore, expected: int) -> None:
        """A session that does not exist is at version 0."""
        assert (await store.append("s", said("a"), expected_version=expected)).version == 1

    @pytest.mark.parametrize("expected", [ANY, EXISTS, 2])
    async def test_accepted_on_an_existing_session(self, store: EventStore, expected: int) -> None:
        """A session is at the version of its last event."""
        await store.append("s", [said("a"), said("b")])
        assert (await store.append("s", said("c"), expected_version=expected)).version == 3

    @pytest.mark.parametrize(("expected", "missed"), [(NO_STREAM, ["a", "b"]), (0, ["a", "b"]), (1, ["b"]), (3, [])])
    @pytest.mark.guarantee("L4", "L8")
    async def test_conflict_carries_what_got_there_first(
        self, store: EventStore, expected: int, missed: list[str]
    ) -> None:
        """A conflict writes nothing, and brings the events after the expected version."""
        await store.append("s", [said("a"), said("b")])
        with pytest.raises(WrongExpectedVersion) as raised:
            await store.append("s", said("c"), expected_version=expected)
        assert [event.data.content for event in raised.value.events] == missed  # type: ignore[union-attr]
        assert (raised.value.session_id, raised.value.version) == ("s", 2)
        assert await texts(store, "s") == ["a", "b"]

    async def test_exists_refuses_a_new_session(self, store: EventStore) -> None:
        """EXISTS on a session without events is a conflict at version 0."""
        with pytest.raises(WrongExpectedVersion) as raised:
            await store.append("s", said("a"), expected_version=EXISTS)
        assert raised.value.version == 0
        assert await store.version("s") == 0

    @pytest.mark.guarantee("L4")
    async def test_one_of_many_racers_wins(self, store: EventStore) -> None:
        """Of 50 that expect the same version, exactly one appends."""
        results = await asyncio.gather(
            *(store.append("s", said(str(n)), expected_version=NO_STREAM) for n in range(50)), return_exceptions=True
        )
        assert sum(isinstance(result, WrongExpectedVersion) for result in results) == 49
        assert await store.version("s") == 1


class TestAppendMany:
    async def test_each_append_stands_for_itself(self, store: EventStore) -> None:
        """One append's conflict stands in its place, and the others happen."""
        await store.append("b", said("first"))
        results = await store.append_many(
            [Append("a", [said("1"), said("2")]), Append("b", [said("3")], NO_STREAM), Append("a", [said("4")])]
        )
        assert [getattr(result, "version", None) for result in results] == [2, 1, 3]
        assert isinstance(results[1], WrongExpectedVersion)
        assert await texts(store, "a") == ["1", "2", "4"]
        assert await texts(store, "b") == ["first"]

    async def test_who_is_cancelled_leaves_no_noise(self, store: EventStore) -> None:
        """Errors of appends whose caller was cancelled are no errors of the event loop."""
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        for turns in range(4):
            appending = asyncio.create_task(store.append_many([Append("s", [said("1")], 99)] * 3))
            for _ in range(turns):
                await asyncio.sleep(0)  # no-sleep-ok: the task has its turn
            appending.cancel()
            await asyncio.wait([appending])
        await store.append("s", said("behind them"))
        gc.collect()
        assert told == []

    @pytest.mark.guarantee("L2", "L8")
    async def test_bad_input_in_one_writes_none(self, store: EventStore) -> None:
        """Arguments are checked before anything is sent."""
        with pytest.raises(InvalidInput):
            await store.append_many([Append("a", [said("1")]), Append("", [said("2")])])
        assert await store.version("a") == 0


class TestRead:
    async def test_bounds(self, store: EventStore) -> None:
        """``after`` is exclusive, ``until`` inclusive, ``limit`` counts from the end at which the read begins."""
        await store.append("s", [said(str(n)) for n in range(1, 10)])
        assert await texts(store, "s", after=7) == ["8", "9"]
        assert await texts(store, "s", until=2) == ["1", "2"]
        assert await texts(store, "s", after=2, until=4) == ["3", "4"]
        assert await texts(store, "s", after=2, limit=2) == ["3", "4"]
        assert await texts(store, "s", limit=2, backwards=True) == ["9", "8"]
        assert await texts(store, "s", after=6, backwards=True) == ["9", "8", "7"]
        assert await texts(store, "s", until=3, limit=2, backwards=True) == ["3", "2"]
        assert await texts(store, "s", limit=0) == []
        assert await texts(store, "s", after=9) == []
        assert await texts(store, "s", after=5, until=3) == []

    async def test_unknown_session_has_no_events(self, store: EventStore) -> None:
        """An unknown session reads as empty, at version 0."""
        assert await store.read("nobody") == []
        assert await store.version("nobody") == 0

    async def test_long_sessions_come_whole(self, store: EventStore) -> None:
        """More events than fit a page come in order, both ways."""
        for start in range(0, 1200, 400):
            await store.append("s", [said(str(n)) for n in range(start, start + 400)])
        assert await texts(store, "s") == [str(n) for n in range(1200)]
        assert await texts(store, "s", backwards=True) == [str(n) for n in reversed(range(1200))]
        assert await texts(store, "s", after=100, limit=600) == [str(n) for n in range(100, 700)]

    @pytest.mark.parametrize("bounds", [{"after": -1}, {"after": None}, {"limit": -1}, {"until": 1.5}, {"limit": True}])
    async def test_bad_bounds_are_refused(self, store: EventStore, bounds: dict[str, object]) -> None:
        """A bound is a whole number from 0."""
        with pytest.raises(InvalidInput):
            await store.read("s", **bounds)  # type: ignore[arg-type]


class TestReadAll:
    async def test_everything_of_every_session(self, store: EventStore) -> None:
        """All events come, each session's in order, even after the feeds have been trimmed."""
        for number in range(60):
            await store.append(f"s{number % 20}", [said(str(number)), said(f"{number}+")])
        consumer = await store.feed.join("g", "c")
        await consumer.ack(await consumer.take(count=1000, wait=0))
        await store.feed.trim()
        seen: dict[str, list[str]] = {}
        async for event in store.read_all():
            seen.setdefault(event.session_id, []).append(event.data.content)  # type: ignore[union-attr]
        expected = {f"s{n}": [f"{m}{x}" for m in range(n, 60, 20) for x in ("", "+")] for n in range(20)}
        assert seen == expected

    async def test_after_a_position_only_what_came_later(self, store: EventStore) -> None:
        """A position taken before some appends gives these appends and no others."""
        await store.append("old", [said("1"), said("2")])
        position = await store.position()
        await store.append("old", said("3"))
        await store.append("new", [said("4"), said("5")])
        found = [(event.session_id, event.version) async for event in store.read_all(after=position)]
        assert sorted(found) == [("new", 1), ("new", 2), ("old", 3)]
        assert await store.read_all(after=await store.position()) == []

    async def test_appends_that_left_together(self, store: EventStore) -> None:
        """Many appends at once to one session and to others come once each, conflicts and retries among them aside."""
        await store.append("hot", said("0"))
        position = await store.position()
        appends = [store.append("hot" if n % 2 else f"s{n}", [said(str(n))] * (n % 3 + 1)) for n in range(60)]
        conflicts = [store.append("hot", said("never"), expected_version=0) for _ in range(3)]
        done = await asyncio.gather(*appends, *conflicts, return_exceptions=True)
        assert [type(each).__name__ for each in done[60:]] == ["WrongExpectedVersion"] * 3
        found = [(event.session_id, event.version) async for event in store.read_all(after=position)]
        expected = [("hot", version) for version in range(2, 62)]
        expected += [(f"s{n}", version) for n in range(0, 60, 2) for version in range(1, n % 3 + 2)]
        assert sorted(found) == sorted(expected)

    async def test_from_where_a_group_stands(self, store: EventStore) -> None:
        """What a group has taken and not acknowledged comes after the place that its progress tells."""
        await store.append("done", said("1"))
        consumer = await store.feed.join("g", "c")
        await consumer.ack(await consumer.take(count=10, wait=0))
        await store.append("done", said("2"))
        await store.append("in hand", said("3"))
        await consumer.take(count=10, wait=0)
        await store.append("new", said("4"))
        place = tuple(partition.done for partition in await store.feed.progress("g"))
        found = [(event.session_id, event.version) async for event in store.read_all(after=place)]
        assert sorted(found) == [("done", 2), ("in hand", 1), ("new", 1)]

    async def test_a_position_that_was_trimmed_away_is_refused(self, store: EventStore) -> None:
        """Events that the feeds have forgotten are not passed over in silence."""
        position = await store.position()
        await store.append("s", said("1"))
        consumer = await store.feed.join("g", "c")
        await consumer.ack(await consumer.take(count=10, wait=0))
        await store.feed.trim()
        with pytest.raises(InvalidInput, match="trimmed"):
            await store.read_all(after=position)
        await store.append("s", said("2"))
        with pytest.raises(InvalidInput, match="trimmed"):
            await store.read_all(after=position)


class TestSubscribe:
    @pytest.mark.guarantee("L9")
    async def test_history_and_then_live_without_gap_or_double(self, store: EventStore) -> None:
        """A subscription begins after a version and goes on with what is appended meanwhile."""
        await store.append("s", [said(str(n)) for n in range(1, 301)])
        versions: list[int] = []

        async def follow() -> None:
            async for event in store.subscribe("s", after=10):
                versions.append(event.version)
                if event.version == 600:
                    return

        async def write() -> None:
            for number in range(301, 601):
                await store.append("s", said(str(number)))

        with anyio.fail_after(20):
            await asyncio.gather(follow(), write())
        assert versions == list(range(11, 601))

    async def test_waits_for_a_session_that_does_not_exist_yet(self, store: EventStore) -> None:
        """A subscription may come before the session."""
        subscription = store.subscribe("s")
        (waiting,) = await under_way(anext(subscription))
        await store.append("s", said("a"))
        with anyio.fail_after(20):
            assert (await waiting).version == 1
        await subscription.aclose()


class TestBadInput:
    @pytest.mark.parametrize("session_id", ["", "x" * 513, "é" * 257, "a\0b", "\ud800", None, 5, b"s", ["s"]])
    async def test_bad_session_ids(self, store: EventStore, session_id: str) -> None:
        """A session id is 1 to 512 bytes of text without NUL."""
        with pytest.raises(InvalidSessionId):
            await store.append(session_id, said("a"))
        with pytest.raises(InvalidSessionId):
            await store.read(session_id)
        with pytest.raises(InvalidSessionId):
            await store.version(session_id)
        assert await store.read_all() == []

    async def test_longest_session_id(self, store: EventStore) -> None:
        """512 bytes are allowed."""
        await store.append("é" * 256, said("a"))
        assert await store.version("é" * 256) == 1

    @pytest.mark.parametrize(
        ("event", "named"),
        [
            (MessageAdded("user", float("nan")), "content is nan"),
            (MessageAdded("user", [1, {"x": float("inf")}]), r"content\[1\]\['x'\]"),
            (MessageAdded("user", "a", {"t": (1, 2)}), r"metadata\['t'\].*tuple"),
            (MessageAdded("user", "a", {1: 2}), "str keys"),  # type: ignore[dict-item]
            (MessageAdded("user", "a", {"x": object()}), "object"),
            (MessageAdded("user", "a", {"x": {1, 2}}), "set"),
            (MessageAdded("user", "a", {"x": b"bytes"}), "bytes"),
            (MessageAdded("user", "\ud800"), "surrogates"),
            (MessageAdded("user", "a", {"\udfff": 1}), "surrogates"),
            (MessageAdded(5, "a"), "int"),  # type: ignore[arg-type]
            (MessageAdded("user", "a", ["x"]), "array"),  # type: ignore[arg-type]
            (MessageAdded("user", "a", tool_calls="x"), "str"),  # type: ignore[arg-type]
            (SessionStarted(user_id=5), "int"),  # type: ignore[arg-type]
            (ContextSet("k", float("-inf")), "value"),
        ],
        ids=lambda value: str(value)[:40],
    )
    @pytest.mark.guarantee("L2", "L7", "L8")
    async def test_what_json_cannot_give_back(self, store: EventStore, event: MessageAdded, named: str) -> None:
        """An event that would come back changed is refused, and the message names the place."""
        with pytest.raises(InvalidEvent, match=named):
            await store.append("s", [said("fine"), event])
        assert await store.version("s") == 0

    async def test_cycles_and_great_depth(self, store: EventStore) -> None:
        """Values without end or nested beyond reason are refused; 90 levels are fine."""
        cycle: list[object] = []
        cycle.append(cycle)
        deep: object = "x"
        for _ in range(90):
            deep = [deep]
        await store.append("s", MessageAdded("user", deep))
        for _ in range(20):
            deep = {"x": deep}
        for bad in (cycle, deep):
            with pytest.raises(InvalidEvent):
                await store.append("s", MessageAdded("user", bad))
        assert [event.version for event in await store.read("s")] == [1]

    @pytest.mark.parametrize("events", [[], "text", None, ["text"], [{"type": "MessageAdded"}], 5])
    async def test_wrong_kinds_of_events(self, store: EventStore, events: list[MessageAdded]) -> None:
        """An append takes events, at least one."""
        with pytest.raises(InvalidInput):
            await store.append("s", events)
        assert await store.version("s") == 0

    @pytest.mark.parametrize("expected", [-1, 1.0, "1", None, True])
    async def test_wrong_kinds_of_expected_version(self, store: EventStore, expected: int) -> None:
        """An expected version is one of the three names or a whole number."""
        with pytest.raises(InvalidInput):
            await store.append("s", said("a"), expected_version=expected)

    @pytest.mark.parametrize("meta", ["x", [1], {"schema": 1}, {"x": float("nan")}, {1: 1}])
    async def test_wrong_kinds_of_meta(self, store: EventStore, meta: dict[str, object]) -> None:
        """Meta is a JSON object, in which 'schema' is taken."""
        with pytest.raises(InvalidInput):
            await store.append("s", said("a"), meta=meta)
        assert await store.version("s") == 0

    async def test_too_large(self, store: EventStore) -> None:
        """An event over 1 MiB encoded is refused, one of just that size is not."""
        await store.append("s", said("x"))
        overhead = len((await store.read("s"))[0].entry) - 1
        await store.append("s", said("x" * (1024 * 1024 - overhead)))
        with pytest.raises(EventTooLarge, match="1,048,576"):
            await store.append("s", said("x" * (1024 * 1024 - overhead + 1)))
        assert await store.version("s") == 2


class TestFeed:
    async def test_every_append_is_announced_once_to_a_group(self, store: EventStore) -> None:
        """Consumers of a group share the feed; each append reaches one of them."""
        for number in range(40):
            await store.append(f"s{number}", [said("a"), said("b")])
        one, two = await store.feed.join("g", "one"), await store.feed.join("g", "two")
        taken = [await one.take(count=2, wait=0), await two.take(count=100, wait=0)]
        pointers = [pointer for deliveries in taken for delivery in deliveries for pointer in delivery.pointers]
        assert sorted(pointers) == sorted((f"s{number}", 2, 2) for number in range(40))
        assert await one.take(count=10, wait=0) == []

    async def test_waits_for_news_and_can_be_woken(self, store: EventStore) -> None:
        """A take under way ends with the next append, or when it is woken."""
        consumer = await store.feed.join("g", "c")
        (taking,) = await under_way(consumer.take(count=10, wait=5))
        await store.append("s", said("a"))
        with anyio.fail_after(4):
            assert [delivery.pointers for delivery in await taking] == [[("s", 1, 1)]]
        taking = asyncio.create_task(consumer.take(count=10, wait=5))
        with anyio.fail_after(4):
            while not taking.done():
                await consumer.wake()
                await asyncio.sleep(0.001)  # no-sleep-ok: the wake may come before the wait begins
        assert await taking == []

    @pytest.mark.guarantee("W1")
    async def test_unfinished_work_can_be_claimed_and_is_counted(self, store: EventStore) -> None:
        """What a consumer did not acknowledge goes to another, with the number of times that it was handed out."""
        await store.append("s", said("a"))
        dead, heir = await store.feed.join("g", "dead"), await store.feed.join("g", "heir")
        assert len(await dead.take(count=10, wait=0)) == 1
        assert await heir.claim(idle=1000, count=10) == []
        for attempts in (2, 3):
            (claimed,) = await heir.claim(idle=0, count=10)
            assert (claimed.pointers, claimed.attempts) == ([("s", 1, 1)], attempts)
        await heir.ack([claimed])
        assert await heir.claim(idle=0, count=10) == []

    @pytest.mark.guarantee("W1")
    async def test_who_comes_back_has_what_it_had_in_hand(self, store: EventStore) -> None:
        """By its name a consumer is told what it was handed and did not acknowledge, but not what others have."""
        await store.append("s", said("a"))
        before, other = await store.feed.join("g", "same"), await store.feed.join("g", "other")
        assert len(await before.take(count=10, wait=0)) == 1
        await store.append("t", said("b"))
        assert len(await other.take(count=10, wait=0)) == 1
        back = await store.feed.join("g", "same")
        (left,) = await back.unfinished(count=10)
        assert (left.pointers, left.attempts) == ([("s", 1, 1)], 2)
        await back.ack([left])
        assert await back.unfinished(count=10) == []
        assert len(await other.unfinished(count=10)) == 1

    async def test_progress_tells_done_from_waiting(self, store: EventStore) -> None:
        """Progress knows what was never taken, what is in hand and what is done."""

        async def counts() -> tuple[int, bool]:
            progress = await store.feed.progress("g")
            return sum(p.waiting for p in progress), all(p.done >= p.end for p in progress)

        for number in range(10):
            await store.append(f"s{number}", said("a"))
        assert await counts() == (10, False)
        consumer = await store.feed.join("g", "c")
        assert await counts() == (10, False)
        taken = await consumer.take(count=10, wait=0)
        assert await counts() == (10, False)
        await consumer.ack(taken[1:])
        assert await counts() == (1, False)
        await consumer.ack(taken)
        assert await counts() == (0, True)
        await store.feed.trim()
        assert await counts() == (0, True)

    async def test_trim_keeps_what_any_group_needs(self, store: EventStore) -> None:
        """The slowest group decides what may go."""
        for number in range(10):
            await store.append(f"s{number}", said("a"))
        await store.feed.trim()
        fast, slow = await store.feed.join("fast", "c"), await store.feed.join("slow", "c")
        await fast.ack(await fast.take(count=10, wait=0))
        await slow.take(count=10, wait=0)
        await store.feed.trim()
        assert len(await slow.claim(idle=0, count=100)) == 10

    async def test_who_founds_a_group_is_told(self, store: EventStore) -> None:
        """A consumer knows whether its group was made for it, and may have missed what is not in the feed any more."""
        assert (await store.feed.join("g", "first")).founded
        assert not (await store.feed.join("g", "second")).founded
        await store.feed.disband("g")
        assert (await store.feed.join("g", "third")).founded

    async def test_leaving_loses_nothing(self, store: EventStore) -> None:
        """A consumer that leaves with work in hand is kept, so that others can claim it."""
        await store.append("s", said("a"))
        leaver, heir = await store.feed.join("g", "leaver"), await store.feed.join("g", "heir")
        await leaver.take(count=10, wait=0)
        await leaver.leave()
        assert len(await heir.claim(idle=0, count=10)) == 1

    async def test_heartbeats(self, store: EventStore) -> None:
        """A consumer's sign of life has an age, and goes when it leaves."""
        consumer = await store.feed.join("g", "c")
        assert await store.feed.heartbeats("g") == {}
        await consumer.beat()
        assert 0 <= (await store.feed.heartbeats("g"))["c"] < 5
        assert await store.feed.heartbeats("other") == {}
        await consumer.leave()
        assert await store.feed.heartbeats("g") == {}
