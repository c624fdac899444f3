"""The feeds on Redis: a stream of pointers per partition, read through consumer groups."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from eventstore.errors import StoreRefused
from eventstore.feed import Delivery, FeedId, Held, PartitionProgress, Pointer, Position
from eventstore.logs import get_logger
from eventstore.redis.commands import Argument, Call, Command, Script, checked, refusal
from eventstore.redis.keys import Keys
from eventstore.redis.link import Link, LinkLost
from eventstore.redis.links import Links

log = get_logger("feed")

PROGRESS = Script.load("eventstore.redis", "progress.lua")
TRIM = Script.load("eventstore.redis", "trim.lua")
BEAT = Script.load("eventstore.redis", "beat.lua")
LEAVE = Script.load("eventstore.redis", "leave.lua")
NEVER: FeedId = (0, 0)
LONGEST_WAIT = 5.0
FORGET_AFTER = 300
"""Seconds of silence after which a dead consumer is no longer reported."""
_LAST_SEQUENCE = 2**64 - 1


def feed_id(text: bytes) -> FeedId:
    """Parse a stream id."""
    if not text:
        return NEVER
    ms, sequence = text.split(b"-")
    return int(ms), int(sequence)


def pointers_of(fields: Sequence[bytes]) -> list[Pointer]:
    """Return the pointers of a feed entry: session and ``<version>/<count>``, in turn."""
    pointers = []
    for session_key, reached in zip(fields[::2], fields[1::2], strict=True):
        version, count = reached.split(b"/")
        pointers.append(Pointer(session_key.decode(), int(version), int(count)))
    return pointers


class RedisFeed:
    """An `eventstore.feed.Feed` on Redis."""

    def __init__(self, links: Links, keys: Keys) -> None:
        """Belong to a store."""
        self._links = links
        self._keys = keys
        self._feeds = [keys.feed(p) for p in range(keys.partitions)]
        self._workers = keys.shared(0, b"workers")

    async def join(self, group: str, name: str) -> RedisConsumer:
        """Become a consumer of a group, making the group if it is new."""
        consumer = RedisConsumer(self._links, self._feeds, self._workers, group, name)
        await consumer.register()
        return consumer

    async def progress(self, group: str) -> list[PartitionProgress]:
        """Return how far the group has come, for each partition."""
        calls: list[Call] = [([feed], [group]) for feed in self._feeds]
        replies = await self._links.evaluate_many(PROGRESS, calls)
        found = []
        for partition, reply in enumerate(replies):
            delivered, pending = feed_id(reply[1]), feed_id(reply[2])
            done = _before(pending) if reply[3] else delivered
            end = max(feed_id(reply[0]), delivered)
            waited = int(reply[5]) / 1000 if reply[5] else None
            held = Held(reply[6].decode(), reply[7] / 1000, reply[8]) if reply[3] else None
            waiting = reply[3] + reply[4]
            found.append(PartitionProgress(partition, end, done, waiting, waited, held, joined=bool(reply[1])))
        return found

    async def heartbeats(self, group: str) -> dict[str, float]:
        """Return for each consumer of a group how many seconds ago it said that it is alive."""
        commands = [("TIME",), ("HGETALL", self._workers)]
        time, beats = await self._links.pipeline(commands)
        now = int(time[0]) + int(time[1]) / 1e6
        prefix = group.encode() + b"/"
        return {
            field.removeprefix(prefix).decode(): max(0.0, now - float(at))
            for field, at in zip(beats[::2], beats[1::2], strict=True)
            if field.startswith(prefix)
        }

    async def trim(self) -> None:
        """Drop the entries that every group has acknowledged."""
        calls: list[Call] = [([feed, self._trimmed(partition)], []) for partition, feed in enumerate(self._feeds)]
        await self._links.evaluate_many(TRIM, calls)

    async def ends(self) -> Position:
        """Return the last entry of each feed."""
        calls: list[Call] = [([feed], [""]) for feed in self._feeds]
        replies = await self._links.evaluate_many(PROGRESS, calls)
        commands = [("GET", self._trimmed(p)) for p in range(self._keys.partitions)]
        trimmed = await self._links.pipeline(commands)
        return tuple(max(feed_id(reply[0]), feed_id(kept or b"")) for reply, kept in zip(replies, trimmed, strict=True))

    async def range(self, partition: int, after: FeedId, count: int) -> tuple[FeedId, list[Any]]:
        """Return up to where a feed has been trimmed, and its raw entries after a place."""
        start = f"({after[0]}-{after[1]}"
        commands: list[tuple[Argument, ...]] = [
            ("XRANGE", self._feeds[partition], start, "+", "COUNT", count),
            ("GET", self._trimmed(partition)),
        ]
        entries, kept = await self._links.pipeline(commands)
        return feed_id(kept or b""), entries

    def _trimmed(self, partition: int) -> bytes:
        return self._keys.shared(partition, b"feed-trimmed")


class RedisConsumer:
    """An `eventstore.feed.Consumer` on Redis, with a connection of its own, because it blocks."""

    def __init__(self, links: Links, feeds: Sequence[bytes], workers: bytes, group: str, name: str) -> None:
        """Take the feeds of all partitions; `register` makes the group."""
        self.group = group
        self.name = name
        self._links = links
        self._link: Link = links.own(longest_block=LONGEST_WAIT)
        self._feeds = feeds
        self._partitions = {feed: p for p, feed in enumerate(feeds)}
        self._workers = workers
        self._claim_from = ["0-0"] * len(feeds)

    async def register(self) -> None:
        """Make the group at each feed's beginning, where it is missing."""
        commands = [("XGROUP", "CREATE", feed, self.group, "0", "MKSTREAM") for feed in self._feeds]
        for reply in await self._links.patiently(lambda link: link.submit(commands)):
            if isinstance(reply, Exception) and "BUSYGROUP" not in str(reply):
                raise refusal(reply)

    async def take(self, *, count: int, wait: float) -> list[Delivery]:
        """Return new entries, waiting up to ``wait`` seconds (5 at most) for the first one."""
        milliseconds = int(min(wait, LONGEST_WAIT) * 1000)
        block = ("BLOCK", milliseconds) if milliseconds > 0 else ()
        new = (">" for _ in self._feeds)
        reply = await self._read(
            ("XREADGROUP", "GROUP", self.group, self.name, "COUNT", count, *block, "STREAMS", *self._feeds, *new)
        )
        deliveries = []
        for feed, entries in reply or []:
            partition = self._partitions[feed]
            deliveries += [Delivery(partition, feed_id(at), pointers_of(fields)) for at, fields in entries]
        return deliveries

    async def claim(self, *, idle: float, count: int) -> list[Delivery]:
        """Take over entries that were handed out ``idle`` seconds ago or more."""
        milliseconds = int(idle * 1000)
        commands = [
            ("XAUTOCLAIM", feed, self.group, self.name, milliseconds, start, "COUNT", count)
            for feed, start in zip(self._feeds, self._claim_from, strict=True)
        ]
        claimed: list[tuple[int, list[Any]]] = []
        for partition, reply in enumerate(checked(await self._link.submit(commands))):
            self._claim_from[partition] = reply[0].decode()
            entries = [entry for entry in reply[1] if entry and entry[1]]
            if entries:
                claimed.append((partition, entries))
        return await self._with_attempts(claimed)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge entries."""
        by_partition: dict[int, list[str]] = {}
        for delivery in deliveries:
            by_partition.setdefault(delivery.partition, []).append("{}-{}".format(*delivery.entry_id))
        commands: list[Command] = [
            ("XACK", self._feeds[partition], self.group, *entries) for partition, entries in by_partition.items()
        ]
        if commands:
            await self._links.pipeline(commands)

    async def wake(self) -> None:
        """End the wait of a `take` that is under way."""
        if (client_id := self._link.client_id) is not None:
            with contextlib.suppress(LinkLost):  # then the wait has ended, or ends by itself
                await self._links.shared().call("CLIENT", "UNBLOCK", client_id)

    async def beat(self) -> None:
        """Note the server's time as this consumer's sign of life, and forget who has been silent for long."""
        await self._links.evaluate(BEAT, [self._workers], [self._field, FORGET_AFTER])

    async def leave(self) -> None:
        """Forget this consumer where it holds nothing."""
        calls: list[Call] = [([feed], [self.group, self.name]) for feed in self._feeds]
        await self._links.evaluate_many(LEAVE, calls)
        await self._links.call("HDEL", self._workers, self._field)

    def abandon(self) -> None:
        """Close the connection at once."""
        self._link.abort()

    @property
    def _field(self) -> str:
        return f"{self.group}/{self.name}"

    async def _read(self, command: tuple[Argument, ...]) -> Any:
        """Read through the group, making it anew if the server has lost it."""
        try:
            return await self._link.call(*command)
        except StoreRefused as refused:
            if "NOGROUP" not in str(refused):
                raise
            log.warning("The consumer group is gone; making it anew.", action="group_recreated", group=self.group)
            await self.register()
            return await self._link.call(*command)

    async def _with_attempts(self, claimed: list[tuple[int, list[Any]]]) -> list[Delivery]:
        """Ask how often each claimed entry has been handed out."""
        entries = [(partition, at, fields) for partition, found in claimed for at, fields in found]
        commands: list[Command] = [("XPENDING", self._feeds[p], self.group, at, at, 1) for p, at, _ in entries]
        replies = checked(await self._link.submit(commands)) if commands else []
        # An entry that another consumer acknowledged meanwhile is pending no more.
        return [
            Delivery(partition, feed_id(at), pointers_of(fields), pending[0][3] if pending else 1)
            for (partition, at, fields), pending in zip(entries, replies, strict=True)
        ]


def _before(place: FeedId) -> FeedId:
    """Return the greatest place before another."""
    ms, sequence = place
    if place == NEVER:
        return NEVER
    return (ms, sequence - 1) if sequence else (ms - 1, _LAST_SEQUENCE)
