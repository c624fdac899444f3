"""What a feed is: how workers hear which sessions changed. The protocols, and the values that they exchange."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from eventstore.errors import InvalidInput

FeedId: TypeAlias = tuple[int, int]
"""The place of an entry in a partition's feed."""

Position: TypeAlias = tuple[FeedId, ...]
"""A place in the feed of every partition."""


class Pointer(NamedTuple):
    """That a session reached a version by an append of so many events."""

    session_id: str
    version: int
    events: int


class Delivery(msgspec.Struct, frozen=True):
    """One entry of a partition's feed, handed to one consumer of a group until it is acknowledged.

    Attributes:
        partition: The partition, 0 to P-1.
        entry_id: The entry's place in the feed.
        pointers: The sessions that changed together.
        attempts: How often it has been handed out, this time included.
    """

    partition: int
    entry_id: FeedId
    pointers: list[Pointer]
    attempts: int = 1


class Held(msgspec.Struct, frozen=True):
    """An entry that was handed out and not acknowledged.

    Attributes:
        consumer: Who has it.
        seconds: How long ago it was handed to that consumer.
        attempts: How often it has been handed out.
    """

    consumer: str
    seconds: float
    attempts: int


class PartitionProgress(msgspec.Struct, frozen=True):
    """How far a consumer group has come in one partition's feed.

    Attributes:
        partition: The partition.
        end: The feed's last entry.
        done: Everything up to and including this place has been acknowledged.
        waiting: Entries not acknowledged yet, handed out or not (of the latter, 1,000 at most are counted).
        waited: Seconds since the oldest of these was appended; None if there is none, or it is not known.
        held: The oldest entry that is in the hands of a consumer, if any is.
        joined: Whether anybody ever joined the group.
    """

    partition: int
    end: FeedId
    done: FeedId
    waiting: int
    waited: float | None = None
    held: Held | None = None
    joined: bool = True


class Consumer(Protocol):
    """One member of a consumer group. Use one per task."""

    group: str
    name: str
    founded: bool
    """Whether the group was made for this consumer, who then may have missed what is not in the feed any more."""

    async def take(self, *, count: int, wait: float) -> list[Delivery]:
        """Return new entries, up to ``count`` a partition, waiting up to ``wait`` seconds for the first one."""
        ...

    async def claim(self, *, idle: float, count: int) -> list[Delivery]:
        """Take over entries that some consumer got ``idle`` seconds ago or more and did not acknowledge."""
        ...

    async def unfinished(self, *, count: int) -> list[Delivery]:
        """Return what this consumer was handed before, by this name, and has not acknowledged."""
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge entries: their work is done."""
        ...

    async def wake(self) -> None:
        """End the wait of a `take` that is under way in another task."""
        ...

    async def beat(self) -> None:
        """Say that this consumer is alive."""
        ...

    async def leave(self) -> None:
        """Forget this consumer, unless it holds something unacknowledged: that is kept for others to claim."""
        ...

    def abandon(self) -> None:
        """Let go of the connection at once. What this consumer holds is claimed by others in time."""
        ...


class Feed(Protocol):
    """Which sessions changed, by partition: what workers consume, as named groups that share the work.

    Every append leaves a pointer here. A group hands each entry to one of its consumers, who acknowledges it when done.
    """

    async def join(self, group: str, name: str) -> Consumer:
        """Become a consumer of a group. A new group begins at the feeds' beginning."""
        ...

    async def progress(self, group: str) -> list[PartitionProgress]:
        """Return how far the group has come, for each partition. A group that nobody joined has done nothing."""
        ...

    async def heartbeats(self, group: str) -> dict[str, float]:
        """Return for each consumer of a group how many seconds ago it last said that it is alive."""
        ...

    async def trim(self) -> None:
        """Drop the entries that every group has acknowledged. A feed without groups is kept whole."""
        ...

    async def trimmed(self) -> Position:
        """Return for each partition the last entry that was dropped; (0, 0) where none was."""
        ...

    async def disband(self, group: str) -> None:
        """Forget a group and how far it has come, so that nothing is kept for it any more."""
        ...


def check_not_trimmed(trimmed: FeedId, place: FeedId) -> None:
    """Refuse a place in a feed after which entries have been dropped.

    Raises:
        InvalidInput: The feed has been trimmed past the place.
    """
    if trimmed > place:
        raise InvalidInput("The feed has been trimmed past this position: read everything with read_all() instead.")
