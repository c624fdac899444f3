"""What a change of a session's views writes, and where. `projections.redis.names` tells the keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from eventstore.redis.commands import Argument
from eventstore.redis.keys import Keys
from projections.changes import ViewsChange
from projections.checkpoints import CheckpointChange
from projections.context import ContextChange
from projections.history import HistoryChange, message_of
from projections.redis.names import Names
from projections.session import SessionState

FORKED = "forked"
"""The field of the totals that counts the views that had to be made anew."""
WORDS = 500
"""The most words of one command: Lua unpacks them onto its stack."""

Write: TypeAlias = tuple[Any, ...]
"""A command that writes; its second word is its key."""
KeyOf: TypeAlias = Callable[[bytes], bytes]
"""Names the keys of a session; see `Keys.of`."""

_encode = msgspec.json.Encoder().encode

COUNTS = {
    "messages": "message_count",
    "context_operations": "context_operations",
    "checkpoints": "checkpoint_count",
    "configured": "configured",
}
"""The counts of the totals, and the fields of a session's state that they add up."""


def part_writes(key_of: KeyOf, names: Names, change: ViewsChange, kept: Sequence[bytes] = ()) -> list[Write]:
    """Return what a change writes to the views of a session other than the session view."""
    writes = [*_history(key_of(names.history), key_of(names.compaction), change.history, kept)]
    if change.context.values or change.context.deleted:
        writes += _context(key_of(names.context), change.context)
    if change.checkpoints.stored or change.checkpoints.writes:
        writes += _checkpoints(key_of, names, change.checkpoints)
    return writes


def counts_of(change: ViewsChange) -> list[Argument]:
    """Return fields of the totals, and how much each grows."""
    counts: list[Argument] = ["events", change.version - change.base]
    if change.forked:
        counts += (FORKED, 1)
    for name, field in COUNTS.items():
        if more := getattr(change.after, field) - getattr(change.before, field):
            counts += (name, more)
    return counts


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


def indexes(keys: Keys, names: Names, partition: int, state: SessionState) -> set[bytes]:
    """Return the lists in which a session stands; none if it is none yet."""
    if not state.created_ms:
        return set()
    of_all = {index_key(keys, names, partition), index_key(keys, names, partition, status=state.status)}
    return of_all if state.user_id is None else of_all | {index_key(keys, names, partition, user_id=state.user_id)}


def _history(history: bytes, compaction: bytes, change: HistoryChange, kept: Sequence[bytes]) -> Iterator[Write]:
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
    for words in _in_chunks([_encode(message_of(event)) for event in change.added]):
        yield ("RPUSH", history, *words)


def _context(key: bytes, change: ContextChange) -> Iterator[Write]:
    for words in _in_chunks(
        [word for name, value in change.values.items() for word in (name.encode(), _encode(value))]
    ):
        yield ("HSET", key, *words)
    for words in _in_chunks([name.encode() for name in change.deleted]):
        yield ("HDEL", key, *words)


def _checkpoints(key_of: KeyOf, names: Names, change: CheckpointChange) -> Iterator[Write]:
    for checkpoint_id, checkpoint in change.stored.items():
        yield ("HSET", key_of(names.checkpoints), checkpoint_id.encode(), _encode(checkpoint))
        yield ("ZADD", key_of(names.order), checkpoint["version"], checkpoint_id.encode())
    for (checkpoint_id, task_id), writes in change.writes.items():
        owners = key_of(names.writes)
        yield ("SADD", owners, checkpoint_id.encode())
        yield ("HSET", owners + writes_suffix(checkpoint_id), task_id.encode(), _encode(writes))


def _in_chunks(words: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (words[start : start + WORDS] for start in range(0, len(words), WORDS))
