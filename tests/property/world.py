"""A store with its views, two workers and an oracle: what is done there, and what must hold."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from strategies import CHECKPOINTS, KEYS, SESSIONS
from support.conversation import Wanted, fitted
from support.model import Oracle, happened, happened_ms, same

from eventstore import (
    ANY,
    Append,
    Appended,
    ContextEngineError,
    EventStore,
    InvalidInput,
    RecordedEvent,
    WrongExpectedVersion,
    open_store,
)
from eventstore.archive.places import MemoryArchive
from eventstore.feed import Consumer, Delivery, Position
from eventstore.store import ExpectedVersion
from projections import GROUP, MISSING, Projector, Queries, SessionAt, SessionState, ViewsChange, open_views
from projections.archiving import Archivist, Outcome
from projections.changes import fold
from projections.views import TAIL

EVERYTHING = 100_000
TIMES = {"timestamp", "created_at"}


class Mark(NamedTuple):
    """A position of the feeds, the sessions' versions then, and how often the feeds had been trimmed."""

    position: Position
    versions: Mapping[str, int]
    trims: int


class Wanting(NamedTuple):
    """An append, of which the compactions have yet to be fitted to the log."""

    session_id: str
    new: Sequence[Wanted]
    expected: ExpectedVersion = ANY
    meta: Mapping[str, Any] | None = None


class World:
    """Sessions, their views, two workers and any number of readers, on one store. Make one with `open`."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.views = open_views(store)
        self.projector = Projector(store, self.views)
        self.queries = Queries(store, self.views, self.projector)
        self.consumers: list[Consumer] = []
        self.oracle = Oracle()
        self.recorded: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.seen: dict[str, int] = {}
        self.names = 0
        self.trims = 0

    @classmethod
    async def open(cls, url: str) -> World:
        """Open an empty store, of two partitions, so that sessions share them."""
        world = cls(await open_store(url, namespace=uuid.uuid4().hex, partitions=2, archive=MemoryArchive()))
        world.consumers = [await world.join(), await world.join()]
        return world

    async def join(self) -> Consumer:
        """Return a consumer under a name that is new."""
        self.names += 1
        return await self.store.feed.join(GROUP, f"worker {self.names}")

    async def append_one(self, wanted: Wanting) -> None:
        """Append, and compare what comes of it."""
        (append,) = self.fit([wanted])
        happens = self.oracle.accepts(append.session_id, append.expected_version)
        try:
            result: Appended | ContextEngineError = await self.store.append(
                append.session_id, append.events, expected_version=append.expected_version, meta=append.meta
            )
        except WrongExpectedVersion as conflict:
            result = conflict
        assert happens == isinstance(result, Appended)
        self.check_result(append, result)
        assert await self.store.version(append.session_id) == self.oracle.version(append.session_id)

    async def append_all(self, wanted: Sequence[Wanting]) -> None:
        """Append several, and compare each result in turn."""
        appends = self.fit(wanted)
        for append, result in zip(appends, await self.store.append_many(appends), strict=True):
            self.check_result(append, result)

    def fit(self, wanted: Sequence[Wanting]) -> list[Append]:
        """Return the appends that are wanted, with the compactions among them fitted to the logs as they will be."""
        logs, appends = Oracle(), []
        logs.logs = {session_id: [*log] for session_id, log in self.oracle.logs.items()}
        for session_id, new, expected, meta in wanted:
            events = fitted(logs.events(session_id), new)
            appends.append(Append(session_id, events, expected, meta))
            if logs.accepts(session_id, expected):
                logs.append(session_id, events)
        return appends

    def check_result(self, append: Append, result: Appended | ContextEngineError) -> None:
        """Compare the result of an append, and take note of its events."""
        session_id, expected = append.session_id, append.expected_version
        if self.oracle.accepts(session_id, expected):
            assert isinstance(result, Appended)
            assert result.session_id == session_id
            assert result.version == self.oracle.append(session_id, append.events)
            assert len(result.event_ids) == len(append.events)
            meta = dict(append.meta or {})
            self.recorded.setdefault(session_id, []).extend((event_id, meta) for event_id in result.event_ids)
        else:
            assert isinstance(result, WrongExpectedVersion)
            assert (result.session_id, result.version) == (session_id, self.oracle.version(session_id))
            missed = self.oracle.missed(session_id, expected)
            first = expected + 1 if isinstance(expected, int) else 1
            self.check_events(session_id, result.events, first, missed)

    async def replace(self, worker: int, *, orderly: bool) -> None:
        """Put a new consumer in a worker's place."""
        if orderly:
            await self.consumers[worker].leave()
        self.consumers[worker].abandon()
        self.consumers[worker] = await self.join()

    async def fold(self, session_id: str, at_a_time: int) -> list[ViewsChange]:
        """Return changes of a session's views, three at most, of which each begins where the one before it ends."""
        (snapshot,) = await self.views.read_sessions([session_id])
        if snapshot.short:
            return [await self.projector.change(snapshot, snapshot.tail)]
        unseen, version, state = snapshot.tail, snapshot.version, snapshot.state
        changes = []
        for start in range(0, min(len(unseen), 3 * at_a_time), at_a_time):
            changes.append(fold(session_id, version, state, unseen[start : start + at_a_time]))
            version, state = changes[-1].version, changes[-1].after
        return changes

    async def commit_all(self, changes: Sequence[ViewsChange]) -> None:
        """Commit changes in one go; of one that comes twice, at most one happens."""
        views = await self.views.read_sessions([change.session_id for change in changes])
        versions = {view.session_id: view.version for view in views}
        expected = []
        for change in changes:
            expected.append(versions[change.session_id] == change.base)
            if expected[-1]:
                versions[change.session_id] = change.version
        assert await self.views.commit(changes) == expected

    async def archive(self, session_id: str) -> None:
        """Archive a session that has ended, and see that only its log's end is left."""
        archivist = Archivist(self.store, self.views)
        assert (await archivist.archive(session_id)).outcome in (Outcome.ARCHIVED, Outcome.PRESENT)
        (snapshot,) = await self.views.read_sessions([session_id])
        assert (snapshot.let_go, snapshot.version) == (True, self.oracle.version(session_id))
        self.seen[session_id] = snapshot.version

    async def restore(self, session_id: str) -> None:
        """Bring a session back, archived or not, and see that it needs the archive no more."""
        archivist = Archivist(self.store, self.views)
        if not self.oracle.version(session_id):
            return
        assert (await archivist.restore(session_id)).outcome in (Outcome.RESTORED, Outcome.NOT_ARCHIVED)
        (snapshot,) = await self.views.read_sessions([session_id])
        assert not snapshot.let_go
        assert (await archivist.sweep(timedelta(0))).missing == []
        archive, self.store.archive = self.store.archive, None
        assert len(await self.store.read(session_id)) == self.oracle.version(session_id)
        self.store.archive = archive

    async def trim(self) -> None:
        """Drop what is done from the feeds."""
        self.trims += 1
        await self.store.feed.trim()

    async def mark(self) -> Mark:
        """Note where the feeds stand."""
        versions = {session_id: self.oracle.version(session_id) for session_id in SESSIONS}
        return Mark(await self.store.position(), versions, self.trims)

    async def drain(self) -> None:
        """Let one more worker do everything that is left, unfinished work of the dead included."""
        consumer = await self.join()
        await self.store.feed.trim()
        while await self.projector.step(consumer, wait=0):
            pass
        await self.projector.finish(consumer, await consumer.claim(idle=0, count=EVERYTHING))
        assert await consumer.claim(idle=0, count=EVERYTHING) == []
        await self.store.feed.trim()
        for partition in await self.store.feed.progress(GROUP):
            assert partition.waiting == 0
            assert partition.done >= partition.end
        assert await self.views.parked() == []

    async def close(self) -> None:
        """Let go of every connection."""
        for consumer in self.consumers:
            consumer.abandon()
        await self.store.aclose()

    # What must hold

    def check_events(
        self, session_id: str, found: Sequence[RecordedEvent], first: int, expected: Sequence[Any]
    ) -> None:
        """Compare events of the log, from a version on."""
        assert [event.version for event in found] == list(range(first, first + len(expected)))
        for event, data in zip(found, expected, strict=True):
            assert (event.session_id, event.type) == (session_id, type(data).__name__)
            assert same(msgspec.structs.asdict(event.data), msgspec.structs.asdict(data))
            event_id, meta = self.recorded[session_id][event.version - 1]
            assert event.event_id == event_id
            assert same(event.meta, meta)

    def check_deliveries(self, deliveries: Sequence[Delivery], *, new: bool) -> None:
        """Check what a consumer was handed: pointers to events that exist, for the first time or not."""
        for delivery in deliveries:
            assert (delivery.attempts == 1) == new
            for pointer in delivery.pointers:
                assert 1 <= pointer.events <= pointer.version <= self.oracle.version(pointer.session_id)

    async def check_logs(self) -> None:
        """Compare every log, and the times of its events."""
        whole = await self.store.read_all()
        assert len(whole) == self.oracle.totals()["events"]
        for session_id in SESSIONS:
            found = await self.store.read(session_id)
            self.check_events(session_id, found, 1, self.oracle.events(session_id))
            times = [event.recorded_ms for event in found]
            assert times == sorted(times)
            assert [event for event in whole if event.session_id == session_id] == found
            happened_at = [happened(event.data, event.recorded_ms) for event in found]
            history = await self.queries.history(session_id)
            assert [_at(message["timestamp"]) for message in history] == [
                happened_at[m["version"] - 1] for m in history
            ]
            stored = await self.queries.checkpoints(session_id)
            assert [_at(c["created_at"]) for c in stored] == [happened_at[c["version"] - 1] for c in stored]
            await self.check_checkpoints(session_id, None, CHECKPOINTS[0])

    async def check_part(
        self, session_id: str, after: int, until: int | None, limit: int | None, *, backwards: bool
    ) -> None:
        """Compare a part of a log."""
        found = await self.store.read(session_id, after=after, until=until, limit=limit, backwards=backwards)
        versions = range(1, self.oracle.version(session_id) + 1)[after:until]
        expected = versions[::-1][:limit] if backwards else versions[:limit]
        assert [event.version for event in found] == list(expected)
        found = found[::-1] if backwards else found
        if found:
            first = found[0].version
            data = self.oracle.events(session_id)[first - 1 :][: len(found)]
            self.check_events(session_id, found, first, data)

    async def check_subscription(self, session_id: str, after: int) -> None:
        """Compare what a subscription gives first."""
        expected = self.oracle.events(session_id)[after:]
        if expected:
            subscription = self.store.subscribe(session_id, after=after)
            assert isinstance(subscription, AsyncGenerator)
            async with contextlib.aclosing(subscription):
                found = [await anext(subscription) for _ in expected]
            self.check_events(session_id, found, after + 1, expected)

    async def check_since(self, mark: Mark) -> None:
        """Compare what has been appended since a mark; near it, something may come again."""
        try:
            found = await self.store.read_all(after=mark.position)
        except InvalidInput:
            assert self.trims > mark.trims
            return
        for session_id in SESSIONS:
            versions = [event.version for event in found if event.session_id == session_id]
            head = self.oracle.version(session_id)
            assert versions == list(range(head - len(versions) + 1, head + 1))
            assert len(versions) >= head - mark.versions[session_id]

    async def check_answers(self, session_id: str, last: int | None, key: str) -> None:
        """Compare everything that can be asked about a session."""
        self.check_session(session_id, await self.queries.session(session_id))
        for limit in {None, last}:
            found = _without_time(await self.queries.history(session_id, limit))
            assert same(found, self.oracle.shown(session_id, limit))
        context = self.oracle.context(session_id)
        assert await self.queries.context_keys(session_id) == sorted(context)
        for asked in {key, *context}:
            value, version = await self.queries.context(session_id, asked)
            assert same(value, context.get(asked, MISSING))
            assert version == self.oracle.version(session_id)

    async def check_checkpoints(self, session_id: str, limit: int | None, checkpoint_id: str) -> None:
        """Compare the checkpoints of a stream, newest first, and the writes beside each."""
        newest = self.oracle.checkpoints(session_id)
        assert same(_without_time(await self.queries.checkpoints(session_id, limit)), newest[:limit])
        by_id = {checkpoint["checkpoint_id"]: checkpoint for checkpoint in newest}
        for asked in {checkpoint_id, *self.oracle.checkpoint_ids(session_id)}:
            found = await self.queries.checkpoint(session_id, asked)
            assert same(None if found is None else _without_time([found])[0], by_id.get(asked))
            writes = [write for writes in self.oracle.writes(session_id, asked) for write in writes["writes"]]
            assert same(await self.queries.writes(session_id, asked), writes)

    async def check_short_tails(self) -> None:
        """Compare the answers about the sessions whose events after the view fit one read."""
        short = [view.session_id for view in await self.views.read_sessions(SESSIONS) if view.complete]
        for session_id in short:
            self.check_session(session_id, await self.queries.session(session_id))
            for limit in (1, 2, 10):
                messages = _without_time(await self.queries.history(session_id, limit))
                assert same(messages, self.oracle.shown(session_id, limit))
            assert await self.queries.context_keys(session_id) == sorted(self.oracle.context(session_id))
            newest = _without_time(await self.queries.checkpoints(session_id, 2))
            assert same(newest, self.oracle.checkpoints(session_id)[:2])
            written = [w for task in self.oracle.writes(session_id, CHECKPOINTS[0]) for w in task["writes"]]
            assert same(await self.queries.writes(session_id, CHECKPOINTS[0]), written)

    def check_session(self, session_id: str, found: SessionAt | None) -> None:
        """Compare a session."""
        expected = self.oracle.session(session_id)
        assert (found is None) == (expected is None)
        if found is not None:
            assert (found.session_id, found.version) == (session_id, self.oracle.version(session_id))
            assert same(_fields(found.state), expected)
            self.check_is_session(session_id, found.state)

    def check_is_session(self, session_id: str, state: SessionState, at: int | None = None) -> None:
        """See that a stream counts as a session if it is one, and has no times if it is none."""
        is_session = self.oracle.began(session_id, at) is not None
        assert (state.created_ms > 0, state.active_ms > 0) == (is_session, is_session)

    async def check_list(self, status: str | None, user_id: str | None, limit: int | None) -> None:
        """Compare a list, page after page: who is in it, in which order, and as what."""
        found: list[SessionAt] = []
        cursor = None
        while True:
            page = await self.queries.sessions(status=status, user_id=user_id, limit=limit, cursor=cursor)
            assert limit is None or len(page.sessions) <= limit
            found += page.sessions
            cursor = page.cursor
            if cursor is None:
                break
            assert len(page.sessions) == limit
        listed = [session.session_id for session in found]
        assert sorted(listed) == sorted(self.oracle.listed(status=status, user_id=user_id))
        places = [(session.state.active_ms, session.session_id.encode()) for session in found]
        assert places == sorted(places, reverse=True)
        for session in found:
            self.check_session(session.session_id, session)
            began, last = self.oracle.began(session.session_id), self.oracle.last_active(session.session_id)
            assert began is not None
            assert last is not None
            first, *_ = await self.store.read(session.session_id, after=began - 1, limit=1)
            newest, *_ = await self.store.read(session.session_id, after=last - 1, limit=1)
            times = tuple(happened_ms(event.data, event.recorded_ms) for event in (first, newest))
            assert (session.state.created_ms, session.state.active_ms) == times

    async def check_totals(self) -> None:
        """Compare the totals."""
        assert msgspec.structs.asdict(await self.queries.totals()) == self.oracle.totals()

    async def check_in_a_crowd(self, session_id: str, last: int, worker: int) -> None:
        """Compare answers that are asked for while two projectors and a worker commit."""
        await asyncio.gather(
            self.projector.project(SESSIONS),
            self.check_answers(session_id, last, KEYS[0]),
            self.projector.step(self.consumers[worker], wait=0),
            self.check_totals(),
            self.projector.project([session_id, *SESSIONS]),
            self.check_answers(session_id, None, KEYS[1]),
            self.check_checkpoints(session_id, last, CHECKPOINTS[0]),
        )
        (snapshot,) = await self.views.read_sessions([session_id])
        assert (snapshot.version, snapshot.tail) == (self.oracle.version(session_id), [])

    async def check_views(self, *, final: bool = False) -> None:
        """Compare the stored views of every session with what they were to be at their version."""
        for session_id in SESSIONS:
            (snapshot,) = await self.views.read_sessions([session_id])
            at, head = snapshot.version, self.oracle.version(session_id)
            assert self.seen.get(session_id, 0) <= at <= head
            assert at == head or not final
            self.seen[session_id] = at
            reach = min(at + TAIL, head)
            tail = self.oracle.events(session_id)[at:reach]
            self.check_events(session_id, snapshot.tail, at + 1, tail)
            expected = self.oracle.session(session_id, at)
            assert same(_fields(snapshot.state), expected or _fields(SessionState()))
            self.check_is_session(session_id, snapshot.state, at)
            history = await self.views.read_history(session_id, None)
            if snapshot.let_go or snapshot.short:  # the answers, which are folded from the log, are compared elsewhere
                assert (history.let_go, history.short) == (snapshot.let_go, snapshot.short)
                continue
            keys = await self.views.read_context_keys(session_id)
            assert (history.version, keys.version) == (at, at)
            assert same(_without_time(history.value.messages), self.oracle.history(session_id, at))
            compaction = history.value.compaction
            stands = compaction and (compaction.version, compaction.event)
            assert stands == self.oracle.compaction(session_id, at)
            context = self.oracle.context(session_id, at)
            assert sorted(keys.value) == sorted(context)
            for key, value in context.items():
                assert same((await self.views.read_context(session_id, key)).value, [value])
            await self.check_checkpoint_views(session_id, at)

    async def check_checkpoint_views(self, session_id: str, at: int) -> None:
        """Compare the stored checkpoint views of a stream with what they were to be at their version."""
        stored = await self.views.read_checkpoints(session_id, None)
        assert stored.version == at
        expected = self.oracle.checkpoints(session_id, at)
        assert same(_without_time(stored.value), expected)
        by_id = {checkpoint["checkpoint_id"]: checkpoint for checkpoint in expected}
        for checkpoint_id in self.oracle.checkpoint_ids(session_id):
            one = await self.views.read_checkpoint(session_id, checkpoint_id)
            writes = await self.views.read_writes(session_id, checkpoint_id)
            assert (one.version, writes.version) == (at, at)
            assert same(_without_time(one.value), [by_id[checkpoint_id]] if checkpoint_id in by_id else [])
            in_order = sorted(writes.value, key=lambda found: found["version"])
            assert same(in_order, self.oracle.writes(session_id, checkpoint_id, at))


def _fields(state: SessionState) -> dict[str, Any]:
    fields = msgspec.structs.asdict(state)
    return {name: value for name, value in fields.items() if name not in {"created_ms", "active_ms"}}


def _without_time(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in message.items() if name not in TIMES} for message in history]


def _at(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp).replace(tzinfo=UTC)
