"""The feeds in memory, with the same consumer groups, claims and attempts as on Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from eventstore.feed import Delivery, Held, PartitionProgress, Pointer, Position, check_not_trimmed


class Bell:
    """Wakes tasks of any event loop in any thread."""

    def __init__(self) -> None:
        """Begin with nobody listening."""
        self._listeners: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """Give an event that is set at each ring."""
        listener = (asyncio.get_running_loop(), asyncio.Event())
        self._listeners.append(listener)
        try:
            yield listener[1]
        finally:
            self._listeners.remove(listener)

    def ring(self) -> None:
        """Wake everybody who listens."""
        for loop, event in list(self._listeners):
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


class _Held:
    """An entry in the hands of a consumer."""

    def __init__(self, consumer: str, at: float) -> None:
        self.consumer = consumer
        self.at = at
        self.attempts = 1


class _Group:
    """A consumer group's place in one partition."""

    def __init__(self, delivered: int = 0) -> None:
        self.delivered = delivered
        self.held: dict[int, _Held] = {}

    @property
    def done(self) -> int:
        return min(self.held) - 1 if self.held else self.delivered


class _Partition:
    """A feed: entries numbered from 1, of which the first ``trimmed`` were dropped; None where one was taken out."""

    def __init__(self) -> None:
        self.trimmed = 0
        self.entries: list[Pointer | None] = []
        self.groups: dict[str, _Group] = {}

    @property
    def end(self) -> int:
        return self.trimmed + len(self.entries)

    def after(self, place: int) -> Iterator[tuple[int, Pointer]]:
        for number in range(max(place, self.trimmed) + 1, self.end + 1):
            pointer = self.entries[number - self.trimmed - 1]
            if pointer is not None:
                yield number, pointer


class MemoryFeed:
    """An `eventstore.feed.Feed` in memory."""

    def __init__(self, partitions: int) -> None:
        """Begin empty."""
        self._partitions = [_Partition() for _ in range(partitions)]
        self._beats: dict[tuple[str, str], float] = {}
        self._bell = Bell()

    def add(self, partition: int, pointer: Pointer) -> None:
        """Announce an append."""
        self._partitions[partition].entries.append(pointer)
        self._bell.ring()

    def take_out(self, partition: int, whose: Callable[[str], bool]) -> None:
        """Take sessions out of a feed, for every group."""
        feed = self._partitions[partition]
        for place, pointer in list(feed.after(0)):
            if whose(pointer.session_id):
                feed.entries[place - feed.trimmed - 1] = None
                for group in feed.groups.values():
                    group.held.pop(place, None)

    async def join(self, group: str, name: str) -> MemoryConsumer:
        """Become a consumer of a group, making the group if it is new."""
        founded = group not in self._partitions[0].groups
        for partition in self._partitions:
            partition.groups.setdefault(group, _Group(partition.trimmed))
        return MemoryConsumer(self._partitions, self._beats, self._bell, group, name, founded=founded)

    async def progress(self, group: str) -> list[PartitionProgress]:
        """Return how far the group has come, for each partition."""
        found = []
        for number, partition in enumerate(self._partitions):
            place = partition.groups.get(group, _Group())
            waiting = len(place.held) + partition.end - place.delivered
            oldest = place.held[min(place.held)] if place.held else None
            held = Held(oldest.consumer, time.monotonic() - oldest.at, oldest.attempts) if oldest else None
            end, joined = (0, partition.end), group in partition.groups
            found.append(PartitionProgress(number, end, (0, place.done), waiting, held=held, joined=joined))
        return found

    async def heartbeats(self, group: str) -> dict[str, float]:
        """Return for each consumer of a group how many seconds ago it said that it is alive."""
        now = time.monotonic()
        return {name: now - at for (of_group, name), at in self._beats.items() if of_group == group}

    async def trim(self) -> None:
        """Drop the entries that every group has acknowledged."""
        for partition in self._partitions:
            done = min((group.done for group in partition.groups.values()), default=0)
            del partition.entries[: done - partition.trimmed]
            partition.trimmed = max(partition.trimmed, done)

    async def trimmed(self) -> Position:
        """Return for each partition the last entry that was dropped."""
        return tuple((0, partition.trimmed) for partition in self._partitions)

    async def disband(self, group: str) -> None:
        """Forget a group."""
        for partition in self._partitions:
            partition.groups.pop(group, None)

    def ends(self) -> Position:
        """Return the last entry of each feed."""
        return tuple((0, partition.end) for partition in self._partitions)

    def since(self, position: Position) -> list[Pointer]:
        """Return the pointers after a position.

        Raises:
            InvalidInput: A feed has been trimmed past it.
        """
        pointers = []
        for (_, place), partition in zip(position, self._partitions, strict=True):
            check_not_trimmed((0, partition.trimmed), (0, place))
            pointers += [pointer for _, pointer in partition.after(place)]
        return pointers

    def held(self, partition: int, after: int) -> tuple[list[Pointer], int, bool]:
        """Return a feed's pointers after a place, its end, and whether it has been trimmed."""
        feed = self._partitions[partition]
        return [pointer for _, pointer in feed.after(after)], feed.end, feed.trimmed > 0


class MemoryConsumer:
    """An `eventstore.feed.Consumer` in memory."""

    def __init__(
        self,
        partitions: Sequence[_Partition],
        beats: dict[tuple[str, str], float],
        bell: Bell,
        group: str,
        name: str,
        *,
        founded: bool,
    ) -> None:
        """Share the feed's state."""
        self.group = group
        self.name = name
        self.founded = founded
        self._partitions = partitions
        self._beats = beats
        self._bell = bell
        self._awake = False

    async def take(self, *, count: int, wait: float) -> list[Delivery]:
        """Return new entries, waiting up to ``wait`` seconds for the first one."""
        self._awake = wait <= 0
        with self._bell.listening() as rung, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                while not (deliveries := self._new(count)) and not self._awake:
                    await rung.wait()
                    rung.clear()
                return deliveries
        return []

    async def claim(self, *, idle: float, count: int) -> list[Delivery]:
        """Take over entries that were handed out ``idle`` seconds ago or more."""
        now = time.monotonic()
        return self._handed_again(lambda held: now - held.at >= idle, count)

    async def unfinished(self, *, count: int) -> list[Delivery]:
        """Return what this consumer was handed before and has not acknowledged."""
        return self._handed_again(lambda held: held.consumer == self.name, count)

    def _handed_again(self, wanted: Callable[[_Held], bool], count: int) -> list[Delivery]:
        now = time.monotonic()
        deliveries = []
        for number, partition in enumerate(self._partitions):
            group = partition.groups[self.group]
            overdue = [place for place, held in sorted(group.held.items()) if wanted(held)]
            for place in overdue[:count]:
                held = group.held[place]
                held.consumer, held.at, held.attempts = self.name, now, held.attempts + 1
                pointer = partition.entries[place - partition.trimmed - 1]
                if pointer is not None:
                    deliveries.append(Delivery(number, (0, place), [pointer], held.attempts))
        return deliveries

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge entries."""
        for delivery in deliveries:
            self._partitions[delivery.partition].groups[self.group].held.pop(delivery.entry_id[1], None)

    async def wake(self) -> None:
        """End the wait of a `take` that is under way."""
        self._awake = True
        self._bell.ring()

    async def beat(self) -> None:
        """Note the time as this consumer's sign of life."""
        self._beats[self.group, self.name] = time.monotonic()

    async def leave(self) -> None:
        """Forget this consumer's sign of life; what it holds stays to be claimed."""
        self._beats.pop((self.group, self.name), None)

    def abandon(self) -> None:
        """Do nothing: there is no connection."""

    def _new(self, count: int) -> list[Delivery]:
        now = time.monotonic()
        deliveries = []
        for number, partition in enumerate(self._partitions):
            group = partition.groups[self.group]
            for place, pointer in partition.after(group.delivered):
                if place > group.delivered + count:
                    break
                group.held[place] = _Held(self.name, now)
                deliveries.append(Delivery(number, (0, place), [pointer]))
            group.delivered = min(group.delivered + count, partition.end)
        return deliveries
