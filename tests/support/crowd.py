"""A crowd of writers, who append as fast as they are answered, go on whatever happens, and keep a ledger of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Self

from eventstore import EventStore, StoreRefused, StoreUnavailable, WrongExpectedVersion
from support.ledger import Ledger

RACERS = 8
"""Writers who race each other for the next version of one session."""


class Crowd:
    """Writers who append until the end of the block.

    Each writes, in turn, to a session that all share; to one of its own, at the version that it must have and at any;
    and the first few to one for whose next version they race. Who was not told the version that it needs asks for it.

    Args:
        ledger: Where everything is noted that they are told.
        stores: What they write to, in turn.
        writers: How many they are.
        name: What their names, and those of their sessions, begin with.
        seed: Of what they choose.
    """

    def __init__(
        self, ledger: Ledger, stores: Sequence[EventStore], *, writers: int = 32, name: str = "", seed: int = 1
    ) -> None:
        self.names = [f"{name}writer-{number}" for number in range(writers)]
        self._name = name
        self._ledger = ledger
        self._stores = stores
        self._chance = random.Random(seed)
        self._finished = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._write(self._stores[number % len(self._stores)], writer, races=number < RACERS))
            for number, writer in enumerate(self.names)
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.finish()
        await asyncio.gather(*self._tasks)

    def finish(self) -> None:
        """Let each writer end what it is at, and no more."""
        self._finished = True

    async def each_is_heard(self) -> None:
        """Wait until each has had one more append acknowledged."""
        await self._ledger.acknowledges_each(self.names)

    async def _write(self, store: EventStore, writer: str, *, races: bool) -> None:
        versions = {writer: 0, f"{self._name}raced": 0}
        while not self._finished:
            await self._append(store, writer, f"{self._name}common")
            for session_id in list(versions)[: 1 + races]:
                told = await self._append(store, writer, session_id, versions[session_id])
                versions[session_id] = await self._version(store, session_id) if told is None else told
            if (told := await self._append(store, writer, writer)) is not None:
                versions[writer] = told

    async def _append(self, store: EventStore, writer: str, session_id: str, expected: int | None = None) -> int | None:
        """Append a few messages. Return the version at which the session is, as far as the writer was told."""
        count = self._chance.randint(1, 3)
        try:
            if expected is None:
                appended = await self._ledger.append(store, writer, session_id, count)
            else:
                appended = await self._ledger.append(store, writer, session_id, count, expected)
        except WrongExpectedVersion as conflict:
            return conflict.version
        except StoreRefused:
            return None
        return appended.version if appended else None

    async def _version(self, store: EventStore, session_id: str) -> int:
        """Return a session's version as soon as the server tells it."""
        while not self._finished:
            try:
                return await store.version(session_id)
            except (StoreUnavailable, StoreRefused):
                continue
        return 0
