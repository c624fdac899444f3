"""The feeds on Redis: a stream of pointers per partition, and how far consumer groups have come in them."""

from __future__ import annotations

from typing import Any

from eventstore.errors import NotPermitted, StoreRefused
from eventstore.feed import FeedId, Held, PartitionProgress, Position
from eventstore.redis.batches import Batch
from eventstore.redis.commands import Argument, Call, Command, Script, refusal
from eventstore.redis.consumer import NEVER, RedisConsumer, feed_id
from eventstore.redis.keys import Keys
from eventstore.redis.links import Links

PROGRESS = Script.load("eventstore.redis", "progress.lua")
TRIM = Script.load("eventstore.redis", "trim.lua")
_LAST_SEQUENCE = 2**64 - 1


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
        commands = [("TIME",), ("HGETALL", self._workers)]  # the same server's: it compares what it has noted
        time, beats = await self._links.together(self._workers, commands)
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

    async def trimmed(self) -> Position:
        """Return for each partition the last entry that was dropped."""
        commands = [("GET", self._trimmed(p)) for p in range(self._keys.partitions)]
        return tuple(feed_id(kept or b"") for kept in await self._links.pipeline(commands))

    async def disband(self, group: str) -> None:
        """Forget a group."""
        batches = [Batch(feed, [("XGROUP", "DESTROY", feed, group)]) for feed in self._feeds]
        for (reply,) in await self._links.answers(batches):
            if isinstance(reply, Exception) and "no such key" not in str(reply) and "to exist" not in str(reply):
                raise refusal(reply)

    async def ends(self) -> Position:
        """Return the last entry of each feed."""
        calls: list[Call] = [([feed], [""]) for feed in self._feeds]
        replies = await self._links.evaluate_many(PROGRESS, calls)
        trimmed = await self.trimmed()
        return tuple(max(feed_id(reply[0]), kept) for reply, kept in zip(replies, trimmed, strict=True))

    async def range(self, partition: int, after: FeedId, count: int) -> tuple[FeedId, list[Any]]:
        """Return up to where a feed has been trimmed, and its raw entries after a place."""
        start = f"({after[0]}-{after[1]}"
        commands: list[tuple[Argument, ...]] = [
            ("XRANGE", self._feeds[partition], start, "+", "COUNT", count),
            ("GET", self._trimmed(partition)),
        ]
        entries, kept = await self._links.pipeline(commands)
        return feed_id(kept or b""), entries

    async def holds(self, partition: int, place: FeedId) -> bool:
        """Whether a feed has an entry in a place, or had it when it was trimmed, or a session was forgotten.

        Or right behind it: the place to which a group has come is the one before the oldest entry that it has in hand.
        """
        commands: list[Command] = [
            ("XRANGE", self._feeds[partition], _text(place), _text(_behind(place))),
            ("GET", self._trimmed(partition)),
        ]
        found, kept = await self._links.pipeline(commands)
        if found or place <= feed_id(kept or b""):
            return True
        try:
            info = await self._links.call("XINFO", "STREAM", self._feeds[partition])
        except NotPermitted:
            raise
        except StoreRefused:  # there is no such key
            return False
        told: dict[bytes, bytes] = dict(zip(info[::2], info[1::2], strict=True))
        # What was taken out with a session that was forgotten is not missed. Redis 6.2 does not tell of it.
        return place <= feed_id(told.get(b"max-deleted-entry-id", told[b"last-generated-id"]))

    def _trimmed(self, partition: int) -> bytes:
        return self._keys.shared(partition, b"feed-trimmed")


def _text(place: FeedId) -> str:
    return f"{place[0]}-{place[1]}"


def _behind(place: FeedId) -> FeedId:
    """Return the smallest place behind another."""
    ms, sequence = place
    return (ms, sequence + 1) if sequence < _LAST_SEQUENCE else (ms + 1, 0)


def _before(place: FeedId) -> FeedId:
    """Return the greatest place before another."""
    ms, sequence = place
    if place == NEVER:
        return NEVER
    return (ms, sequence - 1) if sequence else (ms - 1, _LAST_SEQUENCE)
