"""Views that are let go when their session's log is archived, and taken back when it is brought back."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence

from eventstore.ids import check_session_id
from eventstore.redis.commands import Argument, Script
from projections.changes import ViewsChange
from projections.redis.generations import Generations
from projections.redis.names import Names
from projections.redis.writes import Write, part_writes, writes_suffix

PARTS = Script.load("projections.redis", "parts.lua")
GONE = "1"
ANYTHING = "*"
FILLED_AT_ONCE = 1024 * 1024
"""Bytes that one call writes: what is taken back may be long, and nobody is to wait for it."""


class LettingGo(Generations):
    """The part of the views on Redis that lets all but the session view go, and takes it back."""

    async def let_go(self, session_id: str, version: int) -> bool:
        """Let all views of a session go but the session view, if they stand at this version."""
        return await self._leave(await self.names(), check_session_id(session_id), version, GONE)

    async def take_back(self, whole: ViewsChange) -> bool:
        """Write all views of a session that were let go, if the session view still stands at that version.

        They are written piece by piece where nobody reads them yet. Of several who are at it, the last to begin ends.
        """
        names, session_key = await self.names(), check_session_id(whole.session_id)
        claim, view = uuid.uuid4().hex, self._keys.of_session(names.session, session_key)
        if not await self._leave(names, session_key, whole.version, f"{claim}:0"):
            return False
        key_of = self._keys.of(self._keys.partition(session_key), session_key)
        pieces = [*_pieces(part_writes(key_of, names, whole))] or [[]]
        for number, piece in enumerate(pieces):
            then = "" if number == len(pieces) - 1 else f"{claim}:{number + 1}"
            if not await self._write(view, whole.version, f"{claim}:{number}", then, piece):
                return False
        return True

    async def _leave(self, names: Names, session_key: bytes, version: int, lacks: str) -> bool:
        """Let everything go but the session view, and say so there, if it stands at a version; return whether so."""
        view = self._keys.of_session(names.session, session_key)
        (parts,) = await self._parts(names, [session_key])
        going: list[Write] = [("UNLINK", key) for key in parts]
        return await self._write(view, version, ANYTHING, lacks, going)

    async def _write(self, view: bytes, version: int, lacks: str, then: str, writes: Sequence[Write]) -> bool:
        """Write to the parts, and say what the session view lacks then, if it stands at a version and lacks `lacks`."""
        keys = dict.fromkeys([view, *(key for _, key, *_ in writes)])
        arguments: list[Argument] = [version, lacks, then]
        for write in writes:
            arguments += (len(write), *write)
        done: int = await self._links.evaluate(PARTS, [*keys], arguments)
        return done == 1

    async def _parts(self, names: Names, sessions: Sequence[bytes]) -> list[list[bytes]]:
        """Return, of each of some sessions, the keys of all views but the session view."""
        if not sessions:
            return []
        keys, parts = self._keys, list[list[bytes]]()
        of_session = (names.history, names.compaction, names.context, names.checkpoints, names.order, names.writes)
        owners = [keys.of_session(names.writes, session_key) for session_key in sessions]
        found = await self._links.pipeline([("SMEMBERS", key) for key in owners])
        for session_key, key, checkpoints in zip(sessions, owners, found, strict=True):
            beside = [key + writes_suffix(checkpoint.decode()) for checkpoint in checkpoints]
            parts.append([*beside, *(keys.of_session(what, session_key) for what in of_session)])
        return parts


def _pieces(writes: Iterable[Write]) -> Iterator[list[Write]]:
    """Divide commands into calls of bounded size."""
    piece: list[Write] = []
    size = 0
    for write in writes:
        piece.append(write)
        size += sum(len(word) for word in write if isinstance(word, bytes))
        if size > FILLED_AT_ONCE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
