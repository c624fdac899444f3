"""Reading the original's Redis: in pages, with commands that change nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from importing import Counts, Refused

PAGE = 50
"""Messages or checkpoints that are in memory at the same time, besides those of one append."""
NAMES = 1000
HASHES = (b"sessions", b"conversation_sessions", b"task_contexts")
PREFIXES = (b"conversation:", b"checkpoints:", b"checkpoint_writes:")
PATTERN = b"c*:*"
"""What all three prefixes match, so that the keys are walked over once."""


class Held(msgspec.Struct, frozen=True):
    """What the source holds under an id: the three records as they stand, None where there is none, and numbers."""

    session: bytes | None
    agents: bytes | None
    task_context: bytes | None
    messages: int
    checkpoints: int
    writes: int

    def counts(self) -> Counts:
        """Return it as numbers. A thread that holds but checkpoints is no session."""
        is_session = self.messages > 0 or {self.session, self.agents, self.task_context} != {None}
        contexts = int(self.task_context is not None)
        return Counts(int(is_session), self.messages, self.checkpoints, self.writes, contexts)


class Source:
    """The original's keys on a Redis server."""

    def __init__(self, client: Redis) -> None:
        """Take a client that does not decode responses."""
        self._client: Any = client

    async def ids(self) -> tuple[list[bytes], list[Refused]]:
        """Return the ids under which there is something, each once; and what cannot be looked into."""
        found: dict[bytes, None] = {}
        refused: list[Refused] = []
        for name in HASHES:
            try:
                async for field, _ in self._fields(name):
                    found[field] = None
            except Refused as refusal:
                refused.append(refusal)
        async for key in self._client.scan_iter(match=PATTERN, count=NAMES):
            prefix = next((prefix for prefix in PREFIXES if key.startswith(prefix)), None)
            if prefix is not None:
                found[key.removeprefix(prefix)] = None
        return list(found), refused

    async def held(self, name: bytes) -> Held:
        """Look what there is under an id.

        Raises:
            Refused: A key is of another type than the original's.
        """
        pipeline = self._client.pipeline(transaction=False)
        for key in HASHES:
            pipeline.hget(key, name)
        pipeline.llen(PREFIXES[0] + name)
        pipeline.hlen(PREFIXES[1] + name)
        pipeline.hlen(PREFIXES[2] + name)
        replies = await pipeline.execute(raise_on_error=False)
        for key, reply in zip([*HASHES, *(prefix + name for prefix in PREFIXES)], replies, strict=True):
            if isinstance(reply, Exception):
                raise _refused(key, reply)
        return Held(*replies)

    async def messages(self, session_id: str, places: Sequence[int]) -> AsyncIterator[tuple[int, bytes]]:
        """Give the messages at these places of a conversation, with the places, which count from the tail.

        New messages join at the head, and the original trims there: places from the tail on stay what they are.

        Raises:
            Refused: The list has become shorter, or is none any more.
        """
        key = PREFIXES[0] + session_id.encode()
        for start in range(0, len(places), PAGE):
            page = places[start : start + PAGE]
            low, high = min(page), max(page)
            if high - low < 2 * PAGE:
                values = await self._client.lrange(key, -1 - high, -1 - low)
                if len(values) != high - low + 1:
                    raise changed(session_id)
                found = dict(zip(range(high, low - 1, -1), values, strict=True))
            else:
                pipeline = self._client.pipeline(transaction=False)
                for place in page:
                    pipeline.lindex(key, -1 - place)
                found = dict(zip(page, await pipeline.execute(), strict=True))
            for place in page:
                raw = found.get(place)
                if raw is None:
                    raise changed(session_id)
                yield place, raw

    def checkpoints(self, thread_id: str) -> AsyncIterator[tuple[bytes, bytes]]:
        """Give the checkpoints of a thread, ids and values, in no order; one may come twice."""
        return self._fields(PREFIXES[1] + thread_id.encode())

    def writes(self, thread_id: str) -> AsyncIterator[tuple[bytes, bytes]]:
        """Give the writes of a thread in the same way."""
        return self._fields(PREFIXES[2] + thread_id.encode())

    async def values(self, thread_id: str, wanted: Sequence[tuple[int, bytes]]) -> list[bytes]:
        """Return checkpoints (0) and writes (1) of a thread by their fields.

        Raises:
            Refused: One is there no more.
        """
        pipeline = self._client.pipeline(transaction=False)
        for kind, field in wanted:
            pipeline.hget(PREFIXES[1 + kind] + thread_id.encode(), field)
        found = await pipeline.execute()
        if None in found:
            raise changed(thread_id)
        return list(found)

    async def _fields(self, key: bytes) -> AsyncIterator[tuple[bytes, bytes]]:
        try:
            async for field, value in self._client.hscan_iter(key, count=PAGE):
                yield field, value
        except ResponseError as error:
            raise _refused(key, error) from None


def changed(session_id: str) -> Refused:
    """Return the refusal of an id under which something went on while it was being read."""
    return Refused(session_id, "the source changed while it was being read; stop the old application, and run again")


def shown(name: bytes) -> str:
    """Return a name of the source as text, whatever it is made of."""
    return name.decode(errors="backslashreplace")


def _refused(key: bytes, error: Exception) -> Exception:
    """Return the refusal of a key that is of another type; anything else is no fault of the key."""
    if isinstance(error, ResponseError) and "WRONGTYPE" in str(error):
        return Refused(shown(key), "it is not of the type that the original makes")
    return error
