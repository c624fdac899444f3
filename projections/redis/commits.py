"""A change of a session's views as one call of the commit script. `projections.redis.names` tells the keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from eventstore.ids import check_session_id
from eventstore.redis.commands import Argument, Call, Script
from eventstore.redis.keys import Keys
from projections.changes import ViewsChange
from projections.checkpoints import CheckpointChange
from projections.context import ContextChange
from projections.history import HistoryChange
from projections.redis.names import Names
from projections.session import SessionState

COMMIT = Script.load("projections.redis", "commit.lua")
FORKED = "forked"
"""The field of the totals that counts the views that had to be made anew."""
WORDS = 500
"""The most words of one command: Lua unpacks them onto its stack."""

Write: TypeAlias = tuple[Any, ...]
"""A command that writes; its second word is its key."""

_encode = msgspec.json.Encoder().encode


COUNTS = {
    "messages": "message_count",
    "context_operations": "context_operations",
    "checkpoints": "checkpoint_count",
    "configured": "configured",
}
"""The counts of the totals, and the fields of a session's state that they add up."""


def commit_call(
    keys: Keys, names: Names, change: ViewsChange, kept: Sequence[bytes], going: Sequence[bytes] = ()
) -> Call:
    """Return the commit script's keys and arguments for a change.

    Args:
        keys: The keys of the namespace.
        names: The names of the generation.
        change: What to write.
        kept: The stored messages that stay of those that the change drops.
        going: What holds the views, if they are made anew.
    """
    session_key = check_session_id(change.session_id)
    session = keys.of_session(names.session, session_key)
    place = "" if change.recorded_ms is None else f"{change.version}-{change.recorded_ms}"
    writes: list[Write] = [
        *(("UNLINK", key) for key in (*going, *([session] if going else []))),
        ("HSET", session, "version", change.version, "state", _encode(change.after), "head", place),
        *part_writes(keys, names, change, kept),
        *_totals(keys.shared(keys.partition(session_key), names.totals), change),
        *_lists(keys, names, session_key, change),
    ]
    return guarded_call(keys, session, session_key, change.base, place, writes)


def guarded_call(
    keys: Keys, session: bytes, session_key: bytes, base: int, place: str, writes: Sequence[Write]
) -> Call:
    """Return the commit script's keys and arguments for commands.

    Args:
        keys: The keys of the namespace.
        session: The key of the session view ...
        session_key: ... of this session.
        base: The version at which it has to stand.
        place: What the log has to hold; nothing if it is empty.
        writes: The commands.
    """
    partition = keys.partition(session_key)
    arguments: list[Argument] = [session_key, base, place]
    for write in writes:
        arguments += (len(write), *write)
    guards = (session, keys.tombstones(partition), keys.log(partition, session_key), keys.heads(partition))
    return list(dict.fromkeys([*guards, *(key for _, key, *_ in writes)])), arguments


def part_writes(keys: Keys, names: Names, change: ViewsChange, kept: Sequence[bytes] = ()) -> Iterator[Write]:
    """Give what a change writes to the views of a session other than the session view."""
    session_key = check_session_id(change.session_id)
    yield from _history(keys, names, session_key, change.history, kept)
    yield from _context(keys.of_session(names.context, session_key), change.context)
    yield from _checkpoints(keys, names, session_key, change.checkpoints)


def index_key(
    keys: Keys, names: Names, partition: int, *, status: str | None = None, user_id: str | None = None
) -> bytes:
    """Return the key of a partition's list of sessions: of all, of a status, or of a user."""
    if user_id is not None:
        return keys.shared(partition, names.sessions + b":user:" + user_id.encode())
    if status is not None:
        return keys.shared(partition, names.sessions + b":status:" + status.encode())
    return keys.shared(partition, names.sessions)


def writes_suffix(checkpoint_id: str) -> bytes:
    """Return what tells the writes of one checkpoint from another's: NUL stands in no id."""
    return b"\0" + checkpoint_id.encode()


def _history(
    keys: Keys, names: Names, session_key: bytes, change: HistoryChange, kept: Sequence[bytes]
) -> Iterator[Write]:
    history, compaction = (keys.of_session(what, session_key) for what in (names.history, names.compaction))
    if change.cleared:
        yield ("DEL", history)
        yield ("DEL", compaction)
    if change.dropped:
        yield ("LTRIM", history, change.dropped, -1)
    if change.removed:
        yield ("LTRIM", history, 0, -1 - change.removed)
    for words in _in_chunks(kept[::-1]):
        yield ("LPUSH", history, *words)
    if change.compaction is not None:
        yield ("SET", compaction, _encode(change.compaction))
    for words in _in_chunks([_encode(message) for message in change.added]):
        yield ("RPUSH", history, *words)


def _context(key: bytes, change: ContextChange) -> Iterator[Write]:
    for words in _in_chunks(
        [word for name, value in change.values.items() for word in (name.encode(), _encode(value))]
    ):
        yield ("HSET", key, *words)
    for words in _in_chunks([name.encode() for name in change.deleted]):
        yield ("HDEL", key, *words)


def _checkpoints(keys: Keys, names: Names, session_key: bytes, change: CheckpointChange) -> Iterator[Write]:
    for checkpoint_id, checkpoint in change.stored.items():
        yield ("HSET", keys.of_session(names.checkpoints, session_key), checkpoint_id.encode(), _encode(checkpoint))
        yield ("ZADD", keys.of_session(names.order, session_key), checkpoint["version"], checkpoint_id.encode())
    for (checkpoint_id, task_id), writes in change.writes.items():
        owners = keys.of_session(names.writes, session_key)
        yield ("SADD", owners, checkpoint_id.encode())
        yield ("HSET", owners + writes_suffix(checkpoint_id), task_id.encode(), _encode(writes))


def _totals(key: bytes, change: ViewsChange) -> Iterator[Write]:
    yield ("HINCRBY", key, "events", change.version - change.base)
    if change.anew:
        yield ("HINCRBY", key, FORKED, 1)
    for name, field in COUNTS.items():
        if more := getattr(change.after, field) - getattr(change.before, field):
            yield ("HINCRBY", key, name, more)


def _lists(keys: Keys, names: Names, session_key: bytes, change: ViewsChange) -> Iterator[Write]:
    partition = keys.partition(session_key)
    before, after = indexes(keys, names, partition, change.before), indexes(keys, names, partition, change.after)
    for index in before - after:
        yield ("ZREM", index, session_key)
    for index in after:
        yield ("ZADD", index, change.after.active_ms, session_key)


def indexes(keys: Keys, names: Names, partition: int, state: SessionState) -> set[bytes]:
    """Return the lists in which a session stands; none if it is none yet."""
    if not state.created_ms:
        return set()
    of_all = {index_key(keys, names, partition), index_key(keys, names, partition, status=state.status)}
    return of_all if state.user_id is None else of_all | {index_key(keys, names, partition, user_id=state.user_id)}


def _in_chunks(words: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (words[start : start + WORDS] for start in range(0, len(words), WORDS))
