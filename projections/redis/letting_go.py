"""Views that are let go when their session's log is archived, and taken back when it is brought back."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence

from eventstore.ids import check_session_id
from eventstore.redis.commands import Argument, Call, Script
from projections.changes import ViewsChange
from projections.redis.commits import COMMIT, LET_GO, CommitCall, results
from projections.redis.generations import Generations
from projections.redis.names import Names
from projections.redis.writes import Write, part_writes, writes_suffix

FILL = Script.load("projections.redis", "fill.lua")
GONE = "1"
FILLED_AT_ONCE = 1024 * 1024
"""Bytes that one call writes: what is taken back may be long, and nobody is to wait for it."""


class LettingGo(Generations):
    """The part of the views on Redis that lets all but the session view go, and takes it back."""

    async def let_go(self, session_id: str, version: int) -> bool:
        """Let all views of a session go but the session view, if they stand at this version."""
        names, session_key = await self.names(), check_session_id(session_id)
        view = self._keys.of_session(names.session, session_key)
        if await self._leave(names, session_key, version, GONE):
            return True
        stored = await self._links.call("HMGET", view, "version", LET_GO)
        return bool(stored == [str(version).encode(), GONE.encode()])  # done by this very call, whose reply was lost

    async def take_back(self, whole: ViewsChange) -> bool:
        """Write all views of a session that were let go, if the session view still stands at that version.

        They are written piece by piece where nobody reads them yet. Of several who are at it, the last to begin ends.
        """
        names, session_key = await self.names(), check_session_id(whole.session_id)
        view, claim = self._keys.of_session(names.session, session_key), uuid.uuid4().hex
        if not await self._leave(names, session_key, whole.version, f"{claim}:0"):
            return False
        key_of = self._keys.of(self._keys.partition(session_key), session_key)
        pieces = [*_pieces(part_writes(key_of, names, whole))] or [[]]
        for number, piece in enumerate(pieces):
            then = "" if number == len(pieces) - 1 else f"{claim}:{number + 1}"
            keys, arguments = _call_of(view, piece)
            if await self._links.evaluate(FILL, keys, [whole.version, f"{claim}:{number}", then, *arguments]) != 1:
                stands = await self._links.call("HGET", view, LET_GO)
                if (stands or b"") != then.encode():  # unless it was this very call, whose reply was lost
                    return False
        return True

    async def _leave(self, names: Names, session_key: bytes, version: int, mark: str) -> bool:
        """Let everything go but the session view, and mark that, if it stands at a version; return whether it did."""
        going = await self._parts(names, session_key)
        call = CommitCall(self._keys, names, self._keys.partition(session_key))
        call.add(session_key, version, "", gone=going, view=(LET_GO, mark))
        return results([call], [await self._links.evaluate(COMMIT, *call.call())])[session_key]

    async def _parts(self, names: Names, session_key: bytes) -> list[bytes]:
        """Return the keys of all views of a session but the session view."""
        keys = self._keys
        owners = keys.of_session(names.writes, session_key)
        beside = [owners + writes_suffix(owner.decode()) for owner in await self._links.call("SMEMBERS", owners)]
        of_session = (names.history, names.compaction, names.context, names.checkpoints, names.order, names.writes)
        return [*beside, *(keys.of_session(what, session_key) for what in of_session)]


def _call_of(view: bytes, writes: Sequence[Write]) -> Call:
    arguments: list[Argument] = []
    for write in writes:
        arguments += (len(write), *write)
    return list(dict.fromkeys([view, *(key for _, key, *_ in writes)])), arguments


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
