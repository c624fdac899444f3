"""The views on Redis: read them, list them, park them. `projections.redis.commits` writes them."""

from __future__ import annotations

import heapq
from typing import Any

import msgspec

from eventstore.errors import OutOfMemory
from eventstore.ids import check_session_id
from eventstore.redis.commands import Argument, Call, Command, Script, checked
from projections.checkpoints import Checkpoint, Writes
from projections.history import Compaction, History, Message, Versioned
from projections.redis.exchanging import Exchanging
from projections.redis.names import Names
from projections.redis.snapshots import snapshot
from projections.redis.writes import FORKED, index_key, writes_suffix
from projections.session import ACTIVE, SessionState
from projections.views import TAIL, Listed, Parked, Snapshot, Totals

READ = Script.load("projections.redis", "read.lua")
LEASE = Script.load("projections.redis", "lease.lua")
UNLESS_FORGOTTEN = Script.load("projections.redis", "unless_forgotten.lua")

_encode = msgspec.json.Encoder().encode
_state = msgspec.json.Decoder(SessionState).decode
_parked = msgspec.json.Decoder(Parked).decode
_value = msgspec.json.Decoder().decode
_messages = msgspec.json.Decoder(list[Message]).decode
_compaction = msgspec.json.Decoder(Compaction).decode
_version = msgspec.json.Decoder(Versioned).decode

COMPACTING = b"compacting"


class RedisViews(Exchanging):
    """A `projections.views.ViewStore` beside the log on Redis."""

    async def read_history(self, session_id: str, last: int | None) -> Snapshot[History]:
        """Return the newest messages."""
        session_key = check_session_id(session_id)
        names = await self.names()
        *keys, history, compaction = self._read_keys(names, session_key, names.history, names.compaction)
        view = keys[0]
        first = 0 if last is None else -last
        # Many messages come faster outside the script, and a transaction makes it the same moment (measured).
        commands: list[Command] = [
            ("MULTI",),
            ("EVALSHA", READ.sha, 4, *keys, compaction, TAIL, session_key, "GET"),
            ("LRANGE", history, first, -1),
            ("EXEC",),
        ]
        try:
            reply, messages = checked((await self._links.together(view, commands, READ))[-1])
        except OutOfMemory:  # a server without memory takes no transactions, and runs scripts that write nothing
            calls: list[Call] = [
                ([*keys, compaction], [TAIL, session_key, "GET"]),
                ([*keys, history], [1, session_key, "LRANGE", first, -1]),
            ]
            reply, (version, _, _, messages, *_) = await self._links.evaluate_many(READ, calls)
            if version != reply[0]:
                return await self.read_history(session_id, last)
        compacted = None if reply[3] is None else _compaction(reply[3])
        stored = messages if int(reply[0]) and not reply[4] else []
        return snapshot(session_id, reply, History(_messages(b"[%s]" % b",".join(stored)), compacted))

    async def read_context(self, session_id: str, key: str) -> Snapshot[list[Any]]:
        """Return the value of a context key."""
        names = await self.names()
        reply = await self._read_other(names, names.context, session_id, "HGET", key)
        return snapshot(session_id, reply, [] if reply[3] is None else [_value(reply[3])])

    async def read_context_keys(self, session_id: str) -> Snapshot[list[str]]:
        """Return all context keys."""
        names = await self.names()
        reply = await self._read_other(names, names.context, session_id, "HKEYS")
        return snapshot(session_id, reply, [key.decode() for key in reply[3] or ()])

    async def read_checkpoint(self, thread_id: str, checkpoint_id: str) -> Snapshot[list[Checkpoint]]:
        """Return a checkpoint."""
        names = await self.names()
        reply = await self._read_other(names, names.checkpoints, thread_id, "HGET", checkpoint_id)
        return snapshot(thread_id, reply, [] if reply[3] is None else [_value(reply[3])])

    async def read_checkpoints(self, thread_id: str, limit: int | None) -> Snapshot[list[Checkpoint]]:
        """Return the newest checkpoints: first which they are, then, in a second round trip, what they hold."""
        names = await self.names()
        last = -1 if limit is None else limit - 1
        reply = await self._read_other(names, names.order, thread_id, "ZREVRANGE", 0, last)
        found: list[bytes | None] = []
        if reply[3]:
            key = self._keys.of_session(names.checkpoints, check_session_id(thread_id))
            found = await self._links.call("HMGET", key, *reply[3])
        # One that was stored again in between is newer than its place says.
        checkpoints = [_value(checkpoint) for checkpoint in found if checkpoint is not None]
        return snapshot(thread_id, reply, sorted(checkpoints, key=lambda stored: -stored["version"]))

    async def read_writes(self, thread_id: str, checkpoint_id: str) -> Snapshot[list[Writes]]:
        """Return the writes beside a checkpoint."""
        names = await self.names()
        suffix = writes_suffix(checkpoint_id)
        reply = await self._read_other(names, names.writes, thread_id, "HVALS", suffix=suffix)
        return snapshot(thread_id, reply, [_value(writes) for writes in reply[3] or ()])

    async def listed(
        self, *, status: str | None, user_id: str | None, after: Listed | None, limit: int
    ) -> list[Listed]:
        """Return sessions by last activity, newest first."""
        commands: list[Command] = []
        names = await self.names()
        for partition in range(self._keys.partitions):
            index = index_key(self._keys, names, partition, status=status, user_id=user_id)
            newest = "+inf" if after is None else f"({after.active_ms}"
            commands.append(("ZREVRANGEBYSCORE", index, newest, "-inf", "WITHSCORES", "LIMIT", 0, limit))
            if after is not None:
                commands.append(("ZREVRANGEBYSCORE", index, after.active_ms, after.active_ms, "WITHSCORES"))
        replies = await self._links.pipeline(commands)
        places = (
            Listed(int(score), session_key)
            for reply in replies
            for session_key, score in zip(reply[::2], reply[1::2], strict=True)
        )
        return heapq.nlargest(limit, (place for place in places if after is None or place < after))

    async def totals(self) -> Totals:
        """Return the counts."""
        commands: list[Command] = []
        names = await self.names()
        for partition in range(self._keys.partitions):
            commands.append(("ZCARD", index_key(self._keys, names, partition)))
            commands.append(("ZCARD", index_key(self._keys, names, partition, status=ACTIVE)))
            commands.append(
                (
                    "HMGET",
                    self._keys.shared(partition, names.totals),
                    "messages",
                    "context_operations",
                    "checkpoints",
                    "events",
                    "configured",
                )
            )
        replies = await self._links.pipeline(commands)
        counts = [[int(count or 0) for count in reply] for reply in replies[2::3]]
        return Totals(sum(replies[0::3]), sum(replies[1::3]), *map(sum, zip(*counts, strict=True)))

    async def forked(self) -> int:
        """Return how often views had to be made anew."""
        totals = (await self.names()).totals
        commands = [("HGET", self._keys.shared(p, totals), FORKED) for p in range(self._keys.partitions)]
        return sum(int(count or 0) for count in await self._links.pipeline(commands))

    async def park(self, parked: Parked) -> None:
        """Stop bringing a session's views up to date."""
        key, session_key = self._of_partition((await self.names()).parked, parked.session_id)
        await self._unless_forgotten(session_key, key, "HSET", session_key, _encode(parked))

    async def unpark(self, session_id: str) -> None:
        """Let a session's views be brought up to date again."""
        names = await self.names()
        parked, session_key = self._of_partition(names.parked, session_id)
        attempts, _ = self._of_partition(names.attempts, session_id)
        commands: list[Command] = [("HDEL", parked, session_key), ("HDEL", attempts, session_key)]
        await self._links.pipeline(commands)

    async def parked(self) -> list[Parked]:
        """Return all parked sessions."""
        parked = (await self.names()).parked
        commands = [("HVALS", self._keys.shared(p, parked)) for p in range(self._keys.partitions)]
        replies = await self._links.pipeline(commands)
        return [_parked(value) for reply in replies for value in reply]

    async def count_attempt(self, session_id: str) -> int:
        """Count an attempt at a session, before the work begins."""
        key, session_key = self._of_partition((await self.names()).attempts, session_id)
        # Counted once too often, should the connection break, is harmless: it parks a suspect a little earlier.
        return int(await self._unless_forgotten(session_key, key, "HINCRBY", session_key, 1) or 0)

    async def forget_attempts(self, session_id: str) -> None:
        """Begin counting from 0 again."""
        key, session_key = self._of_partition((await self.names()).attempts, session_id)
        await self._links.call("HDEL", key, session_key)

    async def lease(self, session_id: str, holder: str, seconds: float) -> bool:
        """Let one holder at a time compact a session."""
        return await self._lease(session_id, holder, max(1, round(seconds * 1000)))

    async def release(self, session_id: str, holder: str) -> None:
        """End a lease."""
        await self._lease(session_id, holder, 0)

    async def _lease(self, session_id: str, holder: str, milliseconds: int) -> bool:
        session_key = check_session_id(session_id)
        keys = [
            self._keys.of_session(COMPACTING, session_key),
            self._keys.tombstones(self._keys.partition(session_key)),
        ]
        had: int = await self._links.evaluate(LEASE, keys, [session_key, holder, milliseconds])
        return had == 1

    async def _unless_forgotten(self, session_key: bytes, key: bytes, *command: Argument) -> Any:
        """Carry out a command on a key, given without the key, unless the session was forgotten: then return None."""
        name, *arguments = command
        tombstones = self._keys.tombstones(self._keys.partition(session_key))
        return await self._links.evaluate(UNLESS_FORGOTTEN, [tombstones, key], [session_key, name, *arguments])

    async def _read_other(
        self, names: Names, what: bytes, session_id: str, *command: Argument, suffix: bytes = b""
    ) -> Any:
        """Run a command on another view of a session, beside reading the session view and the tail."""
        session_key = check_session_id(session_id)
        *keys, other = self._read_keys(names, session_key, what)
        return await self._links.evaluate(READ, [*keys, other + suffix], [TAIL, session_key, *command])

    def _read_keys(self, names: Names, session_key: bytes, *others: bytes) -> list[bytes]:
        """Return the session view, the log and the heads, and other views."""
        keys, partition = self._keys, self._keys.partition(session_key)
        key_of = keys.of(partition, session_key)
        return [key_of(names.session), keys.log(partition, session_key), keys.heads(partition), *map(key_of, others)]

    def _of_partition(self, what: bytes, session_id: str) -> tuple[bytes, bytes]:
        session_key = check_session_id(session_id)
        return self._keys.shared(self._keys.partition(session_key), what), session_key
