"""A load on a store that keeps no ledger, so that its own memory stays as it is, and what memory processes take."""

from __future__ import annotations

import asyncio
import re
from array import array
from collections import Counter
from pathlib import Path
from typing import Self

from eventstore import EventStore, MessageAdded

_RESIDENT = re.compile(r"VmRSS:\s+(\d+) kB")


def resident(pid: int | None = None) -> float:
    """Return how many MiB of memory a process has, by default this one."""
    found = _RESIDENT.search(Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


class Load:
    """Writers, so many to each session, who append a message as soon as the one before is acknowledged.

    A message is the writer's number, a running number, and what makes it long. Nobody may fail, so the last number of
    each writer tells all that was acknowledged.

    Args:
        store: What they write to.
        sessions: How many sessions.
        writers: How many writers each session has.
        length: Of a message.
    """

    def __init__(self, store: EventStore, *, sessions: int, writers: int, length: int = 100) -> None:
        self.sessions = [f"session-{number}" for number in range(sessions)]
        self.acknowledged_in = array("q", bytes(8 * sessions))
        """How many messages of each session were acknowledged."""
        self._acknowledged_of = array("q", bytes(8 * sessions * writers))
        self._store = store
        self._padding = "x" * length
        self._finished = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write(writer)) for writer in range(len(self._acknowledged_of))]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._finished = True
        await asyncio.gather(*self._tasks)

    @property
    def acknowledged(self) -> int:
        """How many messages were acknowledged."""
        return sum(self.acknowledged_in)

    @property
    def least(self) -> int:
        """How many messages were acknowledged of the writer who had the fewest."""
        return min(self._acknowledged_of)

    async def check(self) -> None:
        """Look whether each message that was acknowledged is in the log once, in its writer's order, and no other."""
        found: Counter[int] = Counter()
        for number, session_id in enumerate(self.sessions):
            there = 0
            async for event in self._store.read(session_id):
                if isinstance(event.data, MessageAdded):
                    writer, place, _ = str(event.data.content).split()
                    assert int(place) == found[int(writer)], f"{event.version} of {session_id} is lost, doubled or late"
                    assert int(writer) % len(self.sessions) == number, f"{event.version} of {session_id} is another's"
                    found[int(writer)] += 1
                    there += 1
            assert there == self.acknowledged_in[number], session_id
        assert [found[writer] for writer in range(len(self._acknowledged_of))] == list(self._acknowledged_of)

    async def _write(self, writer: int) -> None:
        session = writer % len(self.sessions)
        while not self._finished:
            text = f"{writer} {self._acknowledged_of[writer]} {self._padding}"
            await self._store.append(self.sessions[session], MessageAdded("user", text))
            self._acknowledged_of[writer] += 1
            self.acknowledged_in[session] += 1
