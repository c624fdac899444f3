"""A machine that does at random what writers, readers and workers do, and that checks every answer with the oracle.

The work of a worker is cut into pieces (take, project, acknowledge, claim), so that a crash can fall between any two:
a piece that never comes is a crash. Changes of views are folded at one time and committed at another, in any order and
more than once. At the end one healthy worker does what is left, and everything must be as the oracle says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from strategies import (
    KEYS,
    SESSIONS,
    STATUSES,
    USERS,
    checkpoint_ids,
    checkpoints,
    events,
    keys,
    messages,
    objects,
    said,
    turns,
    wishes,
)
from support.conversation import Wanted, Wish
from world import EVERYTHING, Mark, Wanting, World

from eventstore import ANY, EXISTS, NO_STREAM, Event, HistoryCleared, SessionEnded
from eventstore.feed import Consumer, Delivery
from eventstore.store import ExpectedVersion
from projections import ViewsChange
from projections.views import TAIL

T = TypeVar("T")

AT_MOST = 60.0
"""Seconds after which a piece that does not end is a failure."""
LONG = [TAIL - 1, TAIL, TAIL + 1, 6 * TAIL]


class FromHead(NamedTuple):
    """An expected version, counted from the session's present one."""

    by: int


class Held(NamedTuple):
    """What a consumer was handed and has not acknowledged."""

    consumer: Consumer
    deliveries: list[Delivery]

    def sessions(self) -> list[str]:
        """Return the sessions that changed."""
        return [pointer.session_id for delivery in self.deliveries for pointer in delivery.pointers]


class Plan(NamedTuple):
    """A compaction that was planned and has not happened."""

    session_id: str
    events: Sequence[Event]


Expectation: TypeAlias = ExpectedVersion | FromHead

a_session = st.sampled_from(SESSIONS)
a_worker = st.integers(0, 1)
a_count = st.sampled_from([EVERYTHING, 2, 1])
an_expectation: st.SearchStrategy[Expectation] = st.one_of(
    st.just(ANY),
    st.sampled_from([NO_STREAM, EXISTS]),
    st.builds(FromHead, st.integers(-2, 1)),
    st.integers(0, 3) | st.just(2**53 - 1),
)
some_events = st.lists(events, min_size=1, max_size=5)
a_bound = st.sampled_from([0, 1, 2, 5, 100, 200])
a_limit = st.none() | st.integers(1, 3)


class SessionsMachine(RuleBasedStateMachine):
    """Sessions, their views, two workers and any number of readers, on one store."""

    held: Bundle[Held] = Bundle("held")
    stale: Bundle[ViewsChange] = Bundle("stale")
    marks: Bundle[Mark] = Bundle("marks")
    plans: Bundle[Plan] = Bundle("plans")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.failed = False
        self.runner = asyncio.Runner()
        self.world = self.run(World.open(url))

    def run(self, piece: Awaitable[T]) -> T:
        """Run a piece of the story on this machine's event loop."""

        async def to_its_end() -> T:
            async with asyncio.timeout(AT_MOST):
                return await piece

        try:
            return self.runner.run(to_its_end())
        except BaseException:
            self.failed = True
            raise

    # Writers

    @rule(session_id=a_session, new=some_events, expectation=an_expectation, meta=st.none() | objects)
    def append(self, session_id: str, new: list[Wanted], expectation: Expectation, meta: dict[str, Any] | None) -> None:
        """Append events, expecting the right version or a wrong one."""
        self.run(self.world.append_one(Wanting(session_id, new, self.expected(session_id, expectation), meta)))

    @rule(session_id=a_session, new=st.lists(messages, min_size=1, max_size=8))
    def append_messages(self, session_id: str, new: list[Wanted]) -> None:
        """Append messages of any content."""
        self.run(self.world.append_one(Wanting(session_id, new)))

    @rule(session_id=a_session, new=st.lists(checkpoints, min_size=1, max_size=5), again=st.none() | st.booleans())
    def append_checkpoints(self, session_id: str, new: list[Wanted], again: bool | None) -> None:
        """Append checkpoints and writes: perhaps to a stream that holds nothing else, and is no session.

        Perhaps append them once more, the other way round, before or after the views have seen them.
        """
        self.run(self.world.append_one(Wanting(session_id, new)))
        if again:
            self.run(self.world.projector.project_or_park([session_id]))
        if again is not None:
            self.run(self.world.append_one(Wanting(session_id, new[::-1])))

    @rule(appends=st.lists(st.tuples(a_session, some_events, an_expectation), min_size=1, max_size=5))
    def append_many(self, appends: list[tuple[str, list[Wanted], Expectation]]) -> None:
        """Append to several sessions in one go, to one more than once."""
        self.run(
            self.world.append_all([Wanting(s, new, self.expected(s, expectation)) for s, new, expectation in appends])
        )

    @rule(session_id=a_session, new=some_events, length=st.sampled_from(LONG), at_once=st.booleans())
    def append_long(self, session_id: str, new: list[Wanted], length: int, at_once: bool) -> None:
        """Append more than a reader gets in one round trip, in one append or in many that are in flight together."""
        long = [new[i % len(new)] for i in range(length)]
        parts = [long] if at_once else [[event] for event in long]
        self.run(self.world.append_all([Wanting(session_id, part) for part in parts]))

    @rule(session_id=a_session, new=st.lists(turns, max_size=6), wish=wishes, projected=st.booleans())
    def compact(self, session_id: str, new: list[Wanted], wish: Wish, projected: bool) -> None:
        """Compact a history, before or after the views have seen what came last."""
        if new:
            self.run(self.world.append_one(Wanting(session_id, new)))
        if projected:
            self.run(self.world.projector.project_or_park([session_id]))
        self.run(self.world.append_one(Wanting(session_id, [wish])))

    @rule(target=plans, session_id=a_session, new=st.lists(messages, min_size=1, max_size=4), wish=wishes)
    def plan_a_compaction(self, session_id: str, new: list[Wanted], wish: Wish) -> Plan:
        """Look at a history and plan how to compact it, as a compactor does before it asks for a summary."""
        self.run(self.world.append_one(Wanting(session_id, new)))
        (append,) = self.world.fit([Wanting(session_id, [wish])])
        return Plan(session_id, append.events)

    @rule(plan=plans)
    def carry_out(self, plan: Plan) -> None:
        """Compact as it was planned: perhaps more was said meanwhile, perhaps the history is another one by now."""
        self.run(self.world.append_one(Wanting(plan.session_id, plan.events)))

    # Archivists

    @rule(session_id=a_session, new=st.lists(events, max_size=3), after=a_bound, limit=st.none() | a_bound)
    def archive(self, session_id: str, new: list[Wanted], after: int, limit: int | None) -> None:
        """End a session, archive it, perhaps go on with it nevertheless, and read it from both ends."""
        self.run(self.world.append_one(Wanting(session_id, [SessionEnded("completed")])))
        self.run(self.world.archive(session_id))
        if new:
            self.run(self.world.append_one(Wanting(session_id, new)))
        for backwards in (False, True):
            self.run(self.world.check_part(session_id, after, None, limit, backwards=backwards))
        self.run(self.world.check_answers(session_id, limit or None, KEYS[0]))

    @rule(session_id=a_session)
    def restore(self, session_id: str) -> None:
        """Bring a session back, or what is there of one that was not archived."""
        self.run(self.world.restore(session_id))

    # Workers

    @rule(target=held, worker=a_worker, count=a_count, session_id=a_session, new=some_events)
    def take(self, worker: int, count: int, session_id: str, new: list[Wanted]) -> Held | MultipleResults[Held]:
        """Take what is new in the feeds, and no more: the worker may die with it in hand."""
        self.run(self.world.append_one(Wanting(session_id, new)))
        consumer = self.world.consumers[worker]
        return self.in_hand(consumer, self.run(consumer.take(count=count, wait=0)), new=True)

    @rule(target=held, worker=a_worker, count=a_count)
    def claim(self, worker: int, count: int) -> Held | MultipleResults[Held]:
        """Take over what any worker has in hand, a living one's too."""
        consumer = self.world.consumers[worker]
        return self.in_hand(consumer, self.run(consumer.claim(idle=0, count=count)), new=False)

    @rule(held=held)
    def project_without_ack(self, held: Held) -> None:
        """Do the work that was taken, and crash before it is acknowledged."""
        self.run(self.world.projector.project_or_park(held.sessions()))

    @rule(held=consumes(held))
    def finish(self, held: Held) -> None:
        """Do the work that was taken and acknowledge it; perhaps somebody else has taken it over meanwhile."""
        self.run(self.world.projector.finish(held.consumer, held.deliveries))

    @rule(worker=a_worker, count=a_count)
    def step(self, worker: int, count: int) -> None:
        """Take, project and acknowledge, as a worker in good health does."""
        self.run(self.world.projector.step(self.world.consumers[worker], wait=0, count=count))

    @rule(worker=a_worker, orderly=st.booleans())
    def restart(self, worker: int, orderly: bool) -> None:
        """Leave or die, and come back under another name."""
        self.run(self.world.replace(worker, orderly=orderly))

    @rule()
    def trim(self) -> None:
        """Drop what is done from the feeds."""
        self.run(self.world.trim())

    @rule(target=stale, session_id=a_session, new=some_events, at_a_time=st.integers(1, 5))
    def prepare(self, session_id: str, new: list[Wanted], at_a_time: int) -> MultipleResults[ViewsChange]:
        """Fold what the views have not seen, some events at a time, and keep the changes for later."""
        self.run(self.world.append_one(Wanting(session_id, new)))
        return multiple(*self.run(self.world.fold(session_id, at_a_time)))

    @rule(one=stale, two=stale, three=stale, how_many=st.integers(1, 3))
    def commit(self, one: ViewsChange, two: ViewsChange, three: ViewsChange, how_many: int) -> None:
        """Commit changes that were folded at some time: only those happen whose base is still the view's version."""
        self.run(self.world.commit_all([one, two, three][:how_many]))

    @rule(
        session_id=a_session,
        there=st.lists(said, min_size=2, max_size=5),
        new=st.lists(turns, min_size=2, max_size=8),
        at_a_time=st.integers(1, 5),
    )
    def commit_in_a_row(self, session_id: str, there: list[Wanted], new: list[Wanted], at_a_time: int) -> None:
        """Commit changes of one session in one go, of which each begins where the one before it ends."""
        self.run(self.world.append_one(Wanting(session_id, there)))
        self.run(self.world.projector.project_or_park([session_id]))
        self.run(self.world.append_one(Wanting(session_id, new)))
        self.run(self.world.commit_all(self.run(self.world.fold(session_id, at_a_time))))

    # Readers

    @rule(session_id=a_session, last=st.none() | st.integers(1, 150), key=keys)
    def read(self, session_id: str, last: int | None, key: str) -> None:
        """Ask everything about one session."""
        self.run(self.world.check_answers(session_id, last, key))

    @rule(session_id=a_session, limit=st.none() | st.integers(1, 4), checkpoint_id=checkpoint_ids)
    def read_checkpoints(self, session_id: str, limit: int | None, checkpoint_id: str) -> None:
        """Ask for the checkpoints of one stream, and for what was written beside them."""
        self.run(self.world.check_checkpoints(session_id, limit, checkpoint_id))

    @rule(
        session_id=a_session,
        after=a_bound,
        until=st.none() | a_bound,
        limit=st.none() | a_bound,
        backwards=st.booleans(),
    )
    def read_log(self, session_id: str, after: int, until: int | None, limit: int | None, backwards: bool) -> None:
        """Read a part of a log, and subscribe to it."""
        self.run(self.world.check_part(session_id, after, until, limit, backwards=backwards))
        self.run(self.world.check_subscription(session_id, after))

    @rule(target=marks)
    def mark(self) -> Mark:
        """Note where the feeds stand."""
        return self.run(self.world.mark())

    @rule(mark=marks)
    def read_since(self, mark: Mark) -> None:
        """Read what has been appended since a mark."""
        self.run(self.world.check_since(mark))

    @rule(status=st.none() | st.sampled_from(STATUSES), user_id=st.none() | st.sampled_from(USERS), limit=a_limit)
    def walk(self, status: str | None, user_id: str | None, limit: int | None) -> None:
        """Walk over all pages of a list, and ask for the totals."""
        self.run(self.world.check_list(status, user_id, limit))
        self.run(self.world.check_totals())

    @invariant()
    def answers_are_right(self) -> None:
        """Ask about every session after every step, but leave long tails, which a reader commits, to the rules."""
        self.run(self.world.check_short_tails())

    @rule(session_id=a_session, last=st.integers(1, 150), worker=a_worker)
    def all_at_once(self, session_id: str, last: int, worker: int) -> None:
        """Read while workers commit what is being read."""
        self.run(self.world.check_in_a_crowd(session_id, last, worker))

    @rule()
    def inspect(self) -> None:
        """Look at the views as they are stored: each is what its version says, and none goes back."""
        self.run(self.world.check_views())

    def teardown(self) -> None:
        """Let a worker do what is left, and check everything; at last let all sessions be active at one moment."""
        try:
            if not self.failed:
                self.run(self.world.drain())
                self.run(self.world.check_logs())
                self.run(self.world.check_views(final=True))
                self.run(self.world.check_totals())
                self.run(self.world.append_all([Wanting(session_id, [HistoryCleared()]) for session_id in SESSIONS]))
                self.run(self.world.check_list(None, None, 1))
        finally:
            self.runner.run(self.world.close())
            self.runner.close()

    def expected(self, session_id: str, expectation: Expectation) -> ExpectedVersion:
        """Return what an append is to expect."""
        if isinstance(expectation, FromHead):
            return max(0, self.world.oracle.version(session_id) + expectation.by)
        return expectation

    def in_hand(self, consumer: Consumer, deliveries: list[Delivery], *, new: bool) -> Held | MultipleResults[Held]:
        """Return what a consumer was handed, if anything."""
        self.world.check_deliveries(deliveries, new=new)
        return Held(consumer, deliveries) if deliveries else multiple()


SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def run_machine(url: str, using: settings) -> None:
    """Run the machine on stores of its own at a URL."""

    class Machine(SessionsMachine):
        def __init__(self) -> None:
            super().__init__(url)

    run_state_machine_as_test(Machine, settings=using)
