"""A ledger of what writers were told about their appends, to be held against the log."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from eventstore import (
    ANY,
    Appended,
    AppendOutcomeUnknown,
    EventStore,
    MessageAdded,
    RecordedEvent,
    StoreRefused,
    StoreUnavailable,
    WrongExpectedVersion,
)
from eventstore.store import ExpectedVersion


class Unknown(NamedTuple):
    """An append of which nobody knows whether it happened."""

    session_id: str
    event_ids: list[str]


class Refused(NamedTuple):
    """An append of which the writer was told that nothing was written."""

    session_id: str
    texts: list[str]


class Ledger:
    """What every writer was told, and the judgement whether it was true."""

    def __init__(self) -> None:
        self.acknowledged: list[Appended] = []
        self.unknown: list[Unknown] = []
        self.refused: list[Refused] = []
        self.acknowledged_of: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._numbers: Counter[str] = Counter()

    async def append(
        self, store: EventStore, writer: str, session_id: str, count: int = 1, expected: ExpectedVersion = ANY
    ) -> Appended | None:
        """Append messages that bear the writer's name and a running number. Return None if the server was away.

        Raises:
            WrongExpectedVersion: Noted, and raised.
            StoreRefused: Likewise.
        """
        texts = [f"{writer} {number}" for number in range(self._numbers[writer], self._numbers[writer] + count)]
        self._numbers[writer] += count
        try:
            appended = await store.append(
                session_id, [MessageAdded("user", text) for text in texts], expected_version=expected
            )
        except AppendOutcomeUnknown as error:
            self.unknown.append(Unknown(error.session_id, error.event_ids))
        except StoreUnavailable:
            self.refused.append(Refused(session_id, texts))
        except (WrongExpectedVersion, StoreRefused):
            self.refused.append(Refused(session_id, texts))
            raise
        else:
            self.acknowledged.append(appended)
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

    async def check(self, store: EventStore) -> None:
        """Hold the whole ledger against the log.

        Every version from 1 on is there once, and so is every event. What was acknowledged stands where it was said to
        stand. What was refused is not there; what is unknown is there wholly or not at all; and nothing else is there.
        Each writer's messages stand in the order in which it wrote them.
        """
        logs: dict[str, list[RecordedEvent]] = {}
        async for event in store.read_all():
            logs.setdefault(event.session_id, []).append(event)
        accounted: Counter[str] = Counter()
        for session_id, log in logs.items():
            assert [event.version for event in log] == list(range(1, len(log) + 1)), session_id
            assert await store.version(session_id) == len(log)
            _check_order(log)
        for appended in self.acknowledged:
            log = logs[appended.session_id]
            first = appended.version - len(appended.event_ids)
            found = [event.event_id for event in log[first : appended.version]]
            assert found == appended.event_ids, f"not at the version that was acknowledged: {appended}"
            accounted.update(found)
        for session_id, event_ids in self.unknown:
            found = [event.event_id for event in logs.get(session_id, ()) if event.event_id in event_ids]
            assert found in ([], event_ids), f"stored in part, or doubled: {event_ids}"
            accounted.update(found)
        assert max(accounted.values(), default=1) == 1
        there = Counter(event.event_id for log in logs.values() for event in log)
        assert there == accounted, "the log holds what nobody was told of"
        for session_id, texts in self.refused:
            assert not set(texts) & set(_texts(logs.get(session_id, []))), f"was refused, and is there: {texts}"


def _check_order(log: list[RecordedEvent]) -> None:
    last: dict[str, int] = {}
    for text in _texts(log):
        writer, _, number = text.rpartition(" ")
        assert int(number) > last.get(writer, -1), f"{writer}'s message {number} came late, or twice"
        last[writer] = int(number)


def _texts(log: list[RecordedEvent]) -> list[str]:
    return [event.data.content for event in log if isinstance(event.data, MessageAdded)]
