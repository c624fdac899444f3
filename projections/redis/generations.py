"""The generations of views on Redis: which is live, beginning the next, switching to it, dropping the old."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Sequence
from typing import Self

import msgspec

from eventstore.errors import ViewsNotBuilt
from eventstore.ids import check_session_id
from eventstore.redis.commands import Argument, Command, Script
from eventstore.redis.keys import namespace_key
from eventstore.redis.store import RedisStore
from projections.redis.names import Names, begun_field, building_field, live_field
from projections.redis.writes import indexes, writes_suffix
from projections.session import SessionState
from projections.views import GENERATION

BEGIN = Script.load("projections.redis", "begin.lua")
SWITCH = Script.load("projections.redis", "switch.lua")
SESSIONS_AT_ONCE = 250

_state = msgspec.json.Decoder(SessionState).decode


class Generations:
    """The part of the views on Redis that knows of which generation they are."""

    def __init__(self, store: RedisStore, folds: int = GENERATION) -> None:
        """Use the store's connections and keys. Which generation is live is asked when it is first needed."""
        self._store = store
        self._links = store.links
        self._keys = store.keys
        self._namespace = namespace_key(store.namespace)
        self._folds = folds
        self._names: Names | None = None
        self._pinned = False

    @property
    def group(self) -> str:
        """The consumer group that keeps these views up to date."""
        return (self._names or Names(self._folds, 1)).group

    async def names(self) -> Names:
        """Return the names of the present generation."""
        if self._names is None:
            await self.refresh()
        assert self._names is not None  # noqa: S101 - for mypy: refresh has set or raised
        return self._names

    async def refresh(self) -> None:
        """Look which generation is live, and use that one from now on."""
        if self._pinned:
            return
        said = await self._links.call("HGET", self._namespace, live_field(self._folds))
        live = _live(said, self._folds) or await self._first(said)
        if self._names is None or self._names.build != live:
            self._names = Names(self._folds, live)

    async def pinned(self) -> Self:
        """Return the views of the present generation, whatever becomes live."""
        return self if self._pinned else self._of(await self.names())

    async def begin(self, *, anew: bool = False) -> Self:
        """Return the views of the generation that is to be live next."""
        fields = [live_field(self._folds), building_field(self._folds), begun_field(self._folds)]
        arguments: list[Argument] = [*fields, _live(None, self._folds), int(anew)]
        build: int = await self._links.evaluate(BEGIN, [self._namespace], arguments)
        return self._of(Names(self._folds, build))

    async def switch(self, built: Self) -> bool:
        """Make a generation the live one."""
        fields = [live_field(self._folds), building_field(self._folds)]
        build = (await built.names()).build
        # Asked again after a lost reply, it says no, though it was this build: so the answer is what is live now.
        await self._links.evaluate(SWITCH, [self._namespace], [*fields, build])
        await self.refresh()
        return (await self.names()).build == build

    def retired(self) -> list[str]:
        """Return the groups of the builds of these folds before the live one."""
        return [Names(self._folds, build).group for build in range(1, self._names.build if self._names else 1)]

    async def old_groups(self) -> list[str]:
        """Return the consumer groups of all generations that `drop_old` would drop."""
        return [names.group for names in await self._old()]

    async def drop_old(self) -> int:
        """Drop every generation of these folds and of earlier ones but the live one."""
        dropped = 0
        for folds in range(1, self._folds + 1):  # a rebuild that is still at it will not be switched to
            await self._links.call("HDEL", self._namespace, building_field(folds))
        for folds in range(1, self._folds):
            await self._links.call("HSET", self._namespace, live_field(folds), 0)
        for names in await self._old():
            async for sessions in self._sessions():
                dropped += await self._drop_sessions(names, sessions)
            shared = (names.sessions, names.totals, names.parked, names.attempts)
            for partition in range(self._keys.partitions):
                commands = [("UNLINK", self._keys.shared(partition, what)) for what in shared]
                await self._links.pipeline(commands)
            await self._store.feed.disband(names.group)
        return dropped

    def _of(self, names: Names) -> Self:
        views = copy.copy(self)
        views._names, views._pinned = names, True  # noqa: SLF001 - its own
        return views

    async def _first(self, said: bytes | None) -> int:
        """Make the first generation of these folds the live one, where the feeds still tell of every session.

        Args:
            said: What the namespace says of the live build: nothing, or that they have been dropped.

        Raises:
            ViewsNotBuilt: The views were dropped, or the feeds have been trimmed.
        """
        feed, first = self._store.feed, Names(self._folds, 1)
        if said is None:
            (await feed.join(first.group, "first")).abandon()  # from now on nothing more is trimmed
        if said is not None or any(trimmed > (0, 0) for trimmed in await feed.trimmed()):
            await feed.disband(first.group)
            raise ViewsNotBuilt(
                f"Version {self._folds} of the folds has made no views in namespace {self._store.namespace!r}. Build "
                "them with scripts/rebuild.py of this version, beside what runs; then start this."
            )
        await self._links.call("HSETNX", self._namespace, live_field(self._folds), 1)
        return 1

    async def _old(self) -> list[Names]:
        """Return every generation that was begun, of these folds and of earlier ones, but the live one."""
        await self.refresh()
        said = await self._links.call("HGETALL", self._namespace)
        fields: dict[bytes, bytes] = dict(zip(said[::2], said[1::2], strict=True))
        old = []
        for folds in range(1, self._folds + 1):
            live = _live(fields.get(live_field(folds)), folds)
            newest = max(live, int(fields.get(begun_field(folds), folds < self._folds)))
            old += [Names(folds, build) for build in range(1, newest + 1) if (folds, build) != (self._folds, live)]
        return old

    async def _sessions(self) -> AsyncIterator[list[bytes]]:
        batch: list[bytes] = []
        async for pointer in self._store.heads():
            batch.append(check_session_id(pointer.session_id))
            if len(batch) == SESSIONS_AT_ONCE:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _drop_sessions(self, names: Names, sessions: Sequence[bytes]) -> int:
        """Drop the views of sessions, first what only they tell of. Return how many of them there were."""
        keys = self._keys
        reads: list[Command] = []
        for session in sessions:
            reads.append(("GET", keys.of_session(names.session, session)))
            reads.append(("SMEMBERS", keys.of_session(names.writes, session)))
        replies = await self._links.pipeline(reads)
        unlinked: dict[bytes, None] = {}
        of_session = (names.writes, names.order, names.checkpoints, names.context, names.compaction, names.history)
        for session, view, owners in zip(sessions, replies[::2], replies[1::2], strict=True):
            if view is not None:
                unlinked |= dict.fromkeys(indexes(keys, names, keys.partition(session), _known(view)))
            writes = keys.of_session(names.writes, session)
            unlinked |= dict.fromkeys(writes + writes_suffix(owner.decode()) for owner in owners)
            unlinked |= dict.fromkeys(keys.of_session(what, session) for what in (*of_session, names.session))
        await self._links.pipeline([("UNLINK", key) for key in unlinked])
        return sum(view is not None for view in replies[::2])


def _live(said: bytes | None, folds: int) -> int:
    """Return which build is live, given what the namespace says; 0 if none is. The first folds began with the log."""
    return int(folds == 1) if said is None else int(said)


def _known(view: bytes) -> SessionState:
    """Return the state in a session view; `view.lua` tells where it stands."""
    try:
        return _state(view.split(b" ", 3)[-1])
    except (ValueError, RecursionError):
        return SessionState()
