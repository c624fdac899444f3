"""A ledger of what writers were told about their appends, and what the log says to that."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise, zip_longest
from typing import NamedTuple

from eventstore import (
    ANY,
    Appended,
    AppendOutcomeUnknown,
    Event,
    EventStore,
    MessageAdded,
    RecordedEvent,
    StoreRefused,
    StoreUnavailable,
    WrongExpectedVersion,
)
from eventstore.store import ExpectedVersion
from support.judgement import NOWHERE, Entry, Judgement, Told, judged


class Unknown(NamedTuple):
    """An append of which its writer was told that nobody knows, and the store that may be asked about it."""

    session_id: str
    event_ids: list[str]
    store: EventStore


class Refused(NamedTuple):
    """An append of which the writer was told that nothing was written."""

    session_id: str
    texts: list[str]


class Ledger:
    """What every writer was told, to be held against the log."""

    def __init__(self) -> None:
        self.acknowledged: list[Appended] = []
        self.acknowledged_at: list[float] = []
        """When, by the clock of this process."""
        self.unknown: list[Unknown] = []
        self.answers: list[int] = []
        """The versions that `ask` was told for the first of what was unknown; `NOWHERE` for what is not there."""
        self.refused: list[Refused] = []
        self.acknowledged_of: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._numbers: Counter[str] = Counter()

    async def append(
        self,
        store: EventStore,
        writer: str,
        session_id: str,
        count: int = 1,
        expected: ExpectedVersion = ANY,
        *,
        also: Sequence[Event] = (),
    ) -> Appended | None:
        """Append messages that bear the writer's name and a running number. Return None if the server was away.

        Args:
            store: Where to.
            writer: Who writes.
            session_id: The session.
            count: How many messages.
            expected: The version at which the session is to be.
            also: Events that follow the messages.

        Raises:
            WrongExpectedVersion: Noted, and raised.
            StoreRefused: Likewise.
        """
        texts = [f"{writer} {number}" for number in range(self._numbers[writer], self._numbers[writer] + count)]
        self._numbers[writer] += count
        try:
            messages = [MessageAdded("user", text) for text in texts]
            appended = await store.append(session_id, [*messages, *also], expected_version=expected)
        except AppendOutcomeUnknown as error:
            self.unknown.append(Unknown(error.session_id, error.event_ids, store))
        except StoreUnavailable:
            self.refused.append(Refused(session_id, texts))
        except (WrongExpectedVersion, StoreRefused):
            self.refused.append(Refused(session_id, texts))
            raise
        else:
            self.acknowledged.append(appended)
            self.acknowledged_at.append(time.monotonic())
            self.acknowledged_of[writer] += 1
            return appended
        finally:
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        return None

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until the ledger is as wanted."""
        while not reached():
            await self._changed.wait()

    async def acknowledges(self, count: int) -> None:
        """Wait until so many more appends have been acknowledged."""
        goal = len(self.acknowledged) + count
        await self.until(lambda: len(self.acknowledged) >= goal)

    async def acknowledges_each(self, writers: Iterable[str]) -> None:
        """Wait until each of these writers has had one more append acknowledged."""
        before = {writer: self.acknowledged_of[writer] for writer in writers}
        await self.until(lambda: all(self.acknowledged_of[writer] > count for writer, count in before.items()))

    async def fails(self, count: int) -> None:
        """Wait until so many more appends have not been acknowledged."""
        goal = self.failures + count
        await self.until(lambda: self.failures >= goal)

    @property
    def failures(self) -> int:
        """How many appends were not acknowledged."""
        return len(self.unknown) + len(self.refused)

    def longest_silence_ms(self, *, since: float) -> int:
        """Return for how many milliseconds at a stretch nothing was acknowledged, from a moment on."""
        times = [since, *(at for at in self.acknowledged_at if at >= since)]
        return round(1000 * max((later - earlier for earlier, later in pairwise(times)), default=0.0))

    async def ask(self) -> None:
        """Ask the stores about every append whose outcome they did not know; `judge` holds them to what they say."""
        for unknown in self.unknown[len(self.answers) :]:
            self.answers.append(await self._answer(unknown))

    async def _answer(self, unknown: Unknown) -> int:
        """Ask until the server is back."""
        while True:
            try:
                appended = await unknown.store.outcome(unknown.session_id, unknown.event_ids)
            except StoreUnavailable:
                continue
            return appended.version if appended else NOWHERE

    async def judge(self, store: EventStore, *, others: type[Event] | None = None) -> Judgement:
        """Hold the whole ledger against the log. Events of one type may be others'."""
        events = [event async for event in store.read_all()]
        return judged(
            [Entry(e.session_id, e.version, e.recorded_ms, e.event_id, _text(e)) for e in events],
            {pointer.session_id: pointer.version async for pointer in store.heads()},
            [Told(each.session_id, each.event_ids, each.version) for each in self.acknowledged],
            [
                Told(each.session_id, each.event_ids, version)
                for each, version in zip_longest(self.unknown, self.answers)
            ],
            [text for each in self.refused for text in each.texts],
            [event.event_id for event in events if others and isinstance(event.data, others)],
        )

    async def check(self, store: EventStore, *, others: type[Event] | None = None) -> Judgement:
        """Hold the whole ledger against the log, as `judge` does, and find no fault."""
        judgement = await self.judge(store, others=others)
        assert not judgement.faults, judgement.faults[:5]
        return judgement


def _text(event: RecordedEvent) -> str | None:
    return str(event.data.content) if isinstance(event.data, MessageAdded) else None
