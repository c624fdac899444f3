"""The views on Redis: write what was folded, and take what is to be folded next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from eventstore.feed import Consumer, Delivery
from eventstore.ids import check_session_id
from eventstore.redis.batches import Batch, call_of
from eventstore.redis.commands import Argument, Call, Prepared, Script, Unserved, checked, prepared, refusal
from eventstore.redis.consumer import RedisConsumer, delivered
from eventstore.redis.keys import Keys
from projections.changes import ViewsChange
from projections.exchange import Taken, in_turn, sessions_of
from projections.history import Versioned
from projections.redis.commits import COMMIT, CommitCall, commit_calls, results
from projections.redis.letting_go import LettingGo
from projections.redis.names import Names
from projections.redis.snapshots import snapshot
from projections.views import TAIL, Snapshot

READ_SESSIONS = Script.load("projections.redis", "read_sessions.lua")
TAKE = Script.load("projections.redis", "take.lua")
READ_AT_ONCE = 8
"""Session views that one call reads, each with its tail: nobody is to wait long for it."""

_version = msgspec.json.Decoder(Versioned).decode


class Exchanging(LettingGo):
    """The part of the views on Redis that takes what was folded."""

    async def read_sessions(self, session_ids: Sequence[str]) -> list[Snapshot[bool]]:
        """Return the session views, and whether each is parked."""
        names = await self.names()
        pages: list[tuple[int, list[str]]] = []
        of_partition: dict[int, list[str]] = {}
        for session_id in session_ids:
            partition = self._keys.partition(check_session_id(session_id))
            page = of_partition.get(partition)
            if page is None or len(page) >= READ_AT_ONCE:
                page = of_partition[partition] = []
                pages.append((partition, page))
            page.append(session_id)
        replies = await self._links.evaluate_many(READ_SESSIONS, [self._read_call(names, *page) for page in pages])
        found = {
            session_id: snapshot(session_id, reply, reply[3] == 1)
            for (_, page), of_page in zip(pages, replies, strict=True)
            for session_id, reply in zip(page, of_page, strict=True)
        }
        return [found[session_id] for session_id in session_ids]

    async def commit(self, changes: Sequence[ViewsChange]) -> list[bool]:
        """Write changes whose base is current."""
        written: list[bool] = []
        for batch in _each_once(changes):
            calls = await self._calls(batch)
            replies = await self._links.evaluate_many(COMMIT, [call.call() for call in calls])
            written += _written(batch, calls, replies)
        return written

    async def exchange(
        self, consumer: Consumer, changes: Sequence[ViewsChange], done: Sequence[Delivery], *, count: int
    ) -> tuple[list[bool], Taken]:
        """Write changes, acknowledge entries, take new ones, and read what they tell of."""
        if not isinstance(consumer, RedisConsumer) or not consumer.together:
            return await in_turn(self, consumer, changes, done, count=count)
        calls = await self._calls(changes)
        here, commits = consumer.feeds[0], [call_of(COMMIT, *call.call()).commands[0] for call in calls]
        take = _take(self._keys, await self.names(), consumer.group, consumer.name, count)
        last = Batch(here, [*consumer.acks(done), take], TAKE)
        # Once: an entry that was taken, and of which the reply was lost, is not given again. Who follows begins anew.
        outcomes = await self._links.send([Batch(here, commits, COMMIT), last] if commits else [last])
        replies: list[Any] = []
        for outcome in outcomes:
            if isinstance(outcome, Unserved):
                raise outcome
            replies += outcome
        *others, taken = replies
        written = _written(changes, calls, checked(others)[: len(calls)])
        if isinstance(taken, Exception):
            await consumer.begin_again(refusal(taken))
            taken = []
        return written, _taken(taken)

    async def _calls(self, changes: Sequence[ViewsChange]) -> list[CommitCall]:
        """Return the calls that write changes, each of another session."""
        names = await self.names()
        kept = await self._kept(names, changes)
        anew = [change.session_id for change in changes if change.anew]
        going = dict(zip(anew, await self._parts(names, [check_session_id(each) for each in anew]), strict=True))
        return commit_calls(self._keys, names, changes, kept, going)

    def _read_call(self, names: Names, partition: int, session_ids: Sequence[str]) -> Call:
        """Return the call that reads views of sessions of one partition."""
        keys, sessions = self._keys, [check_session_id(session_id) for session_id in session_ids]
        named = [keys.heads(partition), keys.shared(partition, names.parked)]
        for session_key in sessions:
            named += (keys.of_session(names.session, session_key), keys.log(partition, session_key))
        return named, [TAIL, *sessions]

    async def _kept(self, names: Names, changes: Sequence[ViewsChange]) -> dict[str, list[bytes]]:
        """Return, for each change that takes the oldest messages away but for some, those, as they are stored.

        Each change is of another session. If what is stored is not of its base any more, it is not going to happen.
        """
        choosy = [change for change in changes if change.history.kept and change.short is None]
        if not choosy:
            return {}
        keys = [self._keys.of_session(names.history, check_session_id(change.session_id)) for change in choosy]
        oldest = await self._links.pipeline(
            [("LRANGE", key, 0, change.history.dropped - 1) for key, change in zip(keys, choosy, strict=True)]
        )
        kept = {}
        for change, messages in zip(choosy, oldest, strict=True):
            versions = frozenset(change.history.kept)
            kept[change.session_id] = [message for message in messages if _version(message).version in versions]
        return kept


@lru_cache
def _take(keys: Keys, names: Names, group: str, consumer: str, count: int) -> Prepared:
    """Return the call that takes new entries. A worker makes it some thousand times a second."""
    every = range(keys.partitions)
    named = [*map(keys.feed, every), *map(keys.heads, every), *(keys.shared(p, names.parked) for p in every)]
    arguments: list[Argument] = [READ_AT_ONCE, TAIL]
    for p in every:
        arguments += (keys.of(p, b"")(names.session), keys.log(p, b""))
    feeds = named[: keys.partitions]
    arguments += ("GROUP", group, consumer, "COUNT", count, "STREAMS", *feeds, *(">" for _ in feeds))
    return prepared(call_of(TAKE, named, arguments).commands[0])


def _taken(reply: Sequence[Any]) -> Taken:
    """Return what the call tells."""
    deliveries: list[Delivery] = []
    read: dict[str, Snapshot[bool]] = {}
    for partition, entries, sessions, found in reply:
        new = delivered(partition, entries)
        found_of = dict(zip(sessions, found, strict=True))
        for session_id in sessions_of(new):
            if each := found_of.get(check_session_id(session_id)):
                read[session_id] = snapshot(session_id, each, each[3] == 1)
        deliveries += new
    rest = [session_id for session_id in sessions_of(deliveries) if session_id not in read]
    return Taken(deliveries, list(read.values()), rest)


def _written(changes: Sequence[ViewsChange], calls: Sequence[CommitCall], replies: Sequence[Any]) -> list[bool]:
    written = results(calls, replies)
    return [written[check_session_id(change.session_id)] for change in changes]


def _each_once(changes: Sequence[ViewsChange]) -> Iterator[list[ViewsChange]]:
    """Cut changes into batches in which no session comes twice: what the second one keeps, the first may add."""
    batch: dict[str, ViewsChange] = {}
    for change in changes:
        if change.session_id in batch:
            yield [*batch.values()]
            batch = {}
        batch[change.session_id] = change
    if batch:
        yield [*batch.values()]
