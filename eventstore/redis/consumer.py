"""A consumer of the feeds on Redis: one member of a group, which takes, acknowledges, and takes over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from eventstore.errors import StoreRefused
from eventstore.feed import Delivery, FeedId, Pointer
from eventstore.ids import check_session_id
from eventstore.logs import get_logger
from eventstore.redis.batches import Batch
from eventstore.redis.commands import Argument, Call, Command, Script, Unserved, refusal
from eventstore.redis.links import Links
from eventstore.redis.nodes import OwnLink

log = get_logger("feed")

BEAT = Script.load("eventstore.redis", "beat.lua")
LEAVE = Script.load("eventstore.redis", "leave.lua")
NEVER: FeedId = (0, 0)
LONGEST_WAIT = 5.0
FIRST_POLL = 0.002
LONGEST_POLL = 0.05
"""Seconds between two looks at feeds that cannot be waited for."""
FORGET_AFTER = 300
"""Seconds of silence after which a dead consumer is no longer reported."""


def feed_id(text: bytes) -> FeedId:
    """Parse a stream id."""
    if not text:
        return NEVER
    ms, sequence = text.split(b"-")
    return int(ms), int(sequence)


def pointers_of(fields: Sequence[bytes]) -> list[Pointer]:
    """Return the pointers of a feed entry: session and ``<version>/<count>``, in turn.

    Raises:
        ValueError: It is none that an append has left.
    """
    pointers = []
    for session_key, reached in zip(fields[::2], fields[1::2], strict=True):
        version, count = reached.split(b"/")
        session_id = session_key.decode()
        check_session_id(session_id)
        pointers.append(Pointer(session_id, int(version), int(count)))
    return pointers


def told_by(partition: int, at: bytes, fields: Sequence[bytes]) -> list[Pointer]:
    """Return the same; none where somebody else has left the entry, which is no reason to stop for whoever follows."""
    try:
        return pointers_of(fields)
    except ValueError as error:
        log.error(  # noqa: TRY400 - where it was read tells nothing
            "An entry of a feed is passed over: no append has left it.",
            action="feed_entry_passed_over",
            partition=partition,
            entry=at.decode(),
            error=str(error),
        )
        return []


def delivered(partition: int, entries: Sequence[Any]) -> list[Delivery]:
    """Return entries of a feed, handed out for the first time."""
    return [Delivery(partition, feed_id(at), told_by(partition, at, fields)) for at, fields in entries]


class RedisConsumer:
    """An `eventstore.feed.Consumer` on Redis.

    It waits with one command that blocks on all feeds, on a connection of its own. A cluster refuses a command that
    names several slots; there it looks at all feeds again and again, after ever longer pauses.
    """

    def __init__(self, links: Links, feeds: Sequence[bytes], workers: bytes, group: str, name: str) -> None:
        """Take the feeds of all partitions; `register` makes the group."""
        self.group = group
        self.name = name
        self.founded = False
        self._links = links
        self._own = links.own(feeds[0], longest_block=LONGEST_WAIT) if links.topology.together(feeds) else None
        self._woken = asyncio.Event()
        self.feeds = feeds
        self._partitions = {feed: p for p, feed in enumerate(feeds)}
        self._workers = workers
        self._claim_from = ["0-0"] * len(feeds)

    async def register(self) -> None:
        """Make the group at each feed's beginning, where it is missing."""
        made = [Batch(feed, [("XGROUP", "CREATE", feed, self.group, "0", "MKSTREAM")]) for feed in self.feeds]
        for (reply,) in await self._links.answers(made):
            if not isinstance(reply, Exception):
                self.founded = True
            elif "BUSYGROUP" not in str(reply):
                raise refusal(reply)

    async def take(self, *, count: int, wait: float) -> list[Delivery]:
        """Return new entries, waiting up to ``wait`` seconds (5 at most) for the first one."""
        read = self._poll if self._own is None else partial(self._wait_for, self._own)
        try:
            return await read(count, min(wait, LONGEST_WAIT))
        except StoreRefused as refused:
            await self.begin_again(refused)
            return await read(count, min(wait, LONGEST_WAIT))

    async def begin_again(self, refused: StoreRefused) -> None:
        """Make the group anew, if it is gone; else raise what was refused."""
        if "NOGROUP" not in str(refused):
            raise refused
        log.warning("The consumer group is gone; making it anew.", action="group_recreated", group=self.group)
        await self.register()

    async def claim(self, *, idle: float, count: int) -> list[Delivery]:
        """Take over entries that were handed out ``idle`` seconds ago or more."""
        milliseconds = int(idle * 1000)
        commands = [
            ("XAUTOCLAIM", feed, self.group, self.name, milliseconds, start, "COUNT", count)
            for feed, start in zip(self.feeds, self._claim_from, strict=True)
        ]
        claimed: list[tuple[int, list[Any]]] = []
        for partition, reply in enumerate(await self._links.pipeline(commands)):
            self._claim_from[partition] = reply[0].decode()
            entries = [entry for entry in reply[1] if entry and entry[1]]
            if entries:
                claimed.append((partition, entries))
        return await self._with_attempts(claimed)

    async def unfinished(self, *, count: int) -> list[Delivery]:
        """Return what this consumer was handed before and has not acknowledged."""
        reading = ("XREADGROUP", "GROUP", self.group, self.name, "COUNT", count, "STREAMS")
        replies = await self._links.pipeline([(*reading, feed, "0") for feed in self.feeds])
        held = [(partition, [entry for entry in reply[0][1] if entry[1]]) for partition, reply in enumerate(replies)]
        return await self._with_attempts(held)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge entries."""
        if commands := self.acks(deliveries):
            await self._links.pipeline(commands)

    def acks(self, deliveries: Sequence[Delivery]) -> list[Command]:
        """Return the commands that acknowledge entries."""
        by_partition: dict[int, list[str]] = {}
        for delivery in deliveries:
            by_partition.setdefault(delivery.partition, []).append("{}-{}".format(*delivery.entry_id))
        return [("XACK", self.feeds[partition], self.group, *entries) for partition, entries in by_partition.items()]

    @property
    def together(self) -> bool:
        """Whether one server has all feeds."""
        return self._own is not None

    async def wake(self) -> None:
        """End the wait of a `take` that is under way."""
        self._woken.set()
        if self._own is not None:
            with contextlib.suppress(Unserved):  # then the wait has ended, or ends by itself
                await self._own.unblock()

    async def beat(self) -> None:
        """Note the server's time as this consumer's sign of life, and forget who has been silent for long."""
        await self._links.evaluate(BEAT, [self._workers], [self._field, FORGET_AFTER])

    async def leave(self) -> None:
        """Forget this consumer where it holds nothing."""
        calls: list[Call] = [([feed], [self.group, self.name]) for feed in self.feeds]
        await self._links.evaluate_many(LEAVE, calls)
        await self._links.call("HDEL", self._workers, self._field)

    def abandon(self) -> None:
        """Close the connection at once."""
        if self._own is not None:
            self._own.abort()

    @property
    def _field(self) -> str:
        return f"{self.group}/{self.name}"

    def _reading(self, count: int, feeds: Sequence[bytes], *block: Argument) -> Command:
        new = (">" for _ in feeds)
        return ("XREADGROUP", "GROUP", self.group, self.name, "COUNT", count, *block, "STREAMS", *feeds, *new)

    async def _wait_for(self, own: OwnLink, count: int, wait: float) -> list[Delivery]:
        """Read all feeds with one command, which blocks."""
        block = ("BLOCK", int(wait * 1000)) if wait >= 0.001 else ()  # noqa: PLR2004 - BLOCK 0 is for ever
        return self._delivered(await own.call(*self._reading(count, self.feeds, *block)))

    async def _poll(self, count: int, wait: float) -> list[Delivery]:
        """Read feed by feed, again and again. Feeds of a node that is away do not stop those of others."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        pause = FIRST_POLL
        self._woken.clear()
        while True:
            deliveries = await self._look(count)
            if deliveries or self._woken.is_set() or loop.time() + pause > deadline:
                return deliveries
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)
            pause = min(pause * 2, LONGEST_POLL)

    async def _look(self, count: int) -> list[Delivery]:
        """Read every feed once, without waiting."""
        outcomes = await self._links.send([Batch(feed, [self._reading(count, [feed])]) for feed in self.feeds])
        unserved = [outcome for outcome in outcomes if isinstance(outcome, Unserved)]
        if len(unserved) == len(outcomes):
            raise unserved[0]
        if unserved:
            await self._links.refresh()
        replies = [outcome[0] for outcome in outcomes if not isinstance(outcome, Unserved)]
        deliveries = [
            one for reply in replies if not isinstance(reply, ResponseError) for one in self._delivered(reply)
        ]
        errors = [reply for reply in replies if isinstance(reply, ResponseError)]
        if errors and not deliveries:  # else the next look meets them again
            raise refusal(errors[0])
        return deliveries

    def _delivered(self, reply: Any) -> list[Delivery]:
        return [one for feed, entries in reply or [] for one in delivered(self._partitions[feed], entries)]

    async def _with_attempts(self, claimed: list[tuple[int, list[Any]]]) -> list[Delivery]:
        """Ask how often each claimed entry has been handed out."""
        entries = [(partition, at, fields) for partition, found in claimed for at, fields in found]
        commands: list[Command] = [("XPENDING", self.feeds[p], self.group, at, at, 1) for p, at, _ in entries]
        replies = await self._links.pipeline(commands) if commands else []
        # An entry that another consumer acknowledged meanwhile is pending no more.
        return [
            Delivery(partition, feed_id(at), told_by(partition, at, fields), pending[0][3] if pending else 1)
            for (partition, at, fields), pending in zip(entries, replies, strict=True)
        ]
