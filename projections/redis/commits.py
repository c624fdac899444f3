"""A change of a session's views as one call of the commit script; and the keys under which views are kept.

Of a session: ``session@1:`` a hash of version and state, ``history@1:`` a list of messages, ``compaction@1:`` what
stands for those that went, ``context@1:`` a hash of values; ``checkpoints@1:`` a hash, ``checkpoint-order@1:`` a sorted
set by version, and ``writes@1:``, for each checkpoint, a hash by task. Of a partition: ``sessions@1``,
``sessions@1:status:...`` and ``sessions@1:user:...``, sorted sets by last activity; ``totals@1``, a hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from eventstore.ids import check_session_id
from eventstore.redis.commands import Argument, Call, Script
from eventstore.redis.keys import Keys
from projections.checkpoints import CheckpointChange
from projections.context import ContextChange
from projections.history import HistoryChange
from projections.session import SessionState
from projections.views import GENERATION, ViewsChange

COMMIT = Script.load("projections.redis", "commit.lua")
WORDS = 500
"""The most words of one command: Lua unpacks them onto its stack."""

Write: TypeAlias = tuple[Any, ...]
"""A command that writes; its second word is its key."""

_encode = msgspec.json.Encoder().encode


def _named(what: str) -> bytes:
    return f"{what}@{GENERATION}".encode()


SESSION, HISTORY, COMPACTION, CONTEXT = map(_named, ("session", "history", "compaction", "context"))
SESSIONS, TOTALS = map(_named, ("sessions", "totals"))
CHECKPOINTS, ORDER, WRITES = map(_named, ("checkpoints", "checkpoint-order", "writes"))
COUNTS = {
    "messages": "message_count",
    "context_operations": "context_operations",
    "checkpoints": "checkpoint_count",
    "configured": "configured",
}
"""The counts of the totals, and the fields of a session's state that they add up."""


def commit_call(keys: Keys, change: ViewsChange, kept: Sequence[bytes]) -> Call:
    """Return the commit script's keys and arguments for a change.

    Args:
        keys: The keys of the namespace.
        change: What to write.
        kept: The stored messages that stay of those that the change drops.
    """
    session_key = check_session_id(change.session_id)
    session = keys.of_session(SESSION, session_key)
    writes: list[Write] = [
        ("HSET", session, "version", change.version, "state", _encode(change.after)),
        *_history(keys, session_key, change.history, kept),
        *_context(keys.of_session(CONTEXT, session_key), change.context),
        *_checkpoints(keys, session_key, change.checkpoints),
        *_totals(keys.shared(keys.partition(session_key), TOTALS), change),
        *_lists(keys, session_key, change),
    ]
    arguments: list[Argument] = [change.base]
    for write in writes:
        arguments += (len(write), *write)
    return list(dict.fromkeys(key for _, key, *_ in writes)), arguments


def index_key(keys: Keys, partition: int, *, status: str | None = None, user_id: str | None = None) -> bytes:
    """Return the key of a partition's list of sessions: of all, of a status, or of a user."""
    if user_id is not None:
        return keys.shared(partition, SESSIONS + b":user:" + user_id.encode())
    if status is not None:
        return keys.shared(partition, SESSIONS + b":status:" + status.encode())
    return keys.shared(partition, SESSIONS)


def writes_suffix(checkpoint_id: str) -> bytes:
    """Return what tells the writes of one checkpoint from another's: NUL stands in no id."""
    return b"\0" + checkpoint_id.encode()


def _history(keys: Keys, session_key: bytes, change: HistoryChange, kept: Sequence[bytes]) -> Iterator[Write]:
    history, compaction = (keys.of_session(what, session_key) for what in (HISTORY, COMPACTION))
    if change.cleared:
        yield ("DEL", history)
        yield ("DEL", compaction)
    if change.dropped:
        yield ("LTRIM", history, change.dropped, -1)
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


def _checkpoints(keys: Keys, session_key: bytes, change: CheckpointChange) -> Iterator[Write]:
    for checkpoint_id, checkpoint in change.stored.items():
        yield ("HSET", keys.of_session(CHECKPOINTS, session_key), checkpoint_id.encode(), _encode(checkpoint))
        yield ("ZADD", keys.of_session(ORDER, session_key), checkpoint["version"], checkpoint_id.encode())
    for (checkpoint_id, task_id), writes in change.writes.items():
        key = keys.of_session(WRITES, session_key) + writes_suffix(checkpoint_id)
        yield ("HSET", key, task_id.encode(), _encode(writes))


def _totals(key: bytes, change: ViewsChange) -> Iterator[Write]:
    yield ("HINCRBY", key, "events", change.version - change.base)
    for name, field in COUNTS.items():
        if more := getattr(change.after, field) - getattr(change.before, field):
            yield ("HINCRBY", key, name, more)


def _lists(keys: Keys, session_key: bytes, change: ViewsChange) -> Iterator[Write]:
    partition = keys.partition(session_key)
    before, after = _indexes(keys, partition, change.before), _indexes(keys, partition, change.after)
    for index in before - after:
        yield ("ZREM", index, session_key)
    for index in after:
        yield ("ZADD", index, change.after.active_ms, session_key)


def _indexes(keys: Keys, partition: int, state: SessionState) -> set[bytes]:
    """Return the lists in which a session stands; none if it is none yet."""
    if not state.created_ms:
        return set()
    indexes = {index_key(keys, partition), index_key(keys, partition, status=state.status)}
    return indexes if state.user_id is None else indexes | {index_key(keys, partition, user_id=state.user_id)}


def _in_chunks(words: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (words[start : start + WORDS] for start in range(0, len(words), WORDS))
