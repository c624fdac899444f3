"""Changes of sessions' views as calls of the commit script. `projections.redis.names` tells the keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from eventstore.ids import check_session_id
from eventstore.redis.commands import Argument, Call, Script, refusal
from eventstore.redis.keys import Keys
from projections.changes import ViewsChange
from projections.redis.names import Names
from projections.redis.writes import counts_of, indexes, part_writes
from projections.session import SessionState

COMMIT = Script.load("projections.redis", "commit.lua")
MOST_SESSIONS = 32
MOST_EVENTS = 1000
MOST_BYTES = 1024 * 1024
"""What one call takes in, about: the server does nothing else meanwhile."""

SHORT = "short/"
"""With which begins what a session view lacks if the session is short; then come the bytes of its events."""
AS_BEFORE = "="
"""That it goes on lacking what it lacked."""

_encode = msgspec.json.Encoder().encode


class CommitCall:
    """One call of the commit script: changes to the views of sessions of one partition, each written or not.

    What all of them change, the totals and the lists of sessions, is written once.
    """

    def __init__(self, keys: Keys, names: Names, partition: int) -> None:
        """Begin with none.

        Args:
            keys: The keys of the namespace.
            names: The names of the generation.
            partition: The partition.
        """
        self._keys = keys
        self._names = names
        self._partition = partition
        self.sessions: list[bytes] = []
        self._views_and_logs: list[bytes] = []
        self._other_keys: dict[bytes, None] = {}
        self._arguments: list[Argument] = []
        self._lists: dict[tuple[str, str | None], frozenset[bytes]] = {}
        self._events = 0
        self._bytes = 0

    def takes(self, change: ViewsChange) -> bool:
        """Whether another change should go with those that are there: nobody is to wait long for one call."""
        events = self._events + change.version - change.base
        return len(self.sessions) < MOST_SESSIONS and events <= MOST_EVENTS and self._bytes < MOST_BYTES

    def take(self, change: ViewsChange, kept: Sequence[bytes], going: Sequence[bytes] = ()) -> None:
        """Take a change.

        Args:
            change: What to write.
            kept: The stored messages that stay of those that the change drops.
            going: What holds the other views, if they are made anew.
        """
        names, session_key = self._names, check_session_id(change.session_id)
        key_of = self._keys.of(self._partition, session_key)
        before, after = self._lists_of(change.before), self._lists_of(change.after)
        place = "" if change.recorded_ms is None else f"{change.version}-{change.recorded_ms}"
        view, counts = key_of(names.session), counts_of(change)
        gone = (*going, view) if change.anew else ()
        if change.short is None:
            writes, lacks = part_writes(key_of, names, change, kept), "" if change.anew else AS_BEFORE
        else:
            writes, lacks = [], f"{SHORT}{change.short}"
        if before is not after:
            writes += [("ZREM", index, session_key) for index in before - after]

        words: list[Argument] = [change.base, place, change.version, lacks, _encode(change.after)]
        words += (len(gone), *gone, len(counts), *counts)
        words += (change.after.active_ms, len(after), *after, len(writes))
        for write in writes:
            words += (len(write), *write)
            self._other_keys[write[1]] = None
            self._bytes += sum([len(word) for word in write if type(word) is bytes])
        self._events += change.version - change.base
        self._other_keys.update(dict.fromkeys((*gone, *after)))
        self.sessions.append(session_key)
        self._views_and_logs += (view, self._keys.log(self._partition, session_key))
        self._arguments += (len(words), *words)

    def _lists_of(self, state: SessionState) -> frozenset[bytes]:
        """Return the lists in which a session stands: mostly those of the one before."""
        if not state.created_ms:
            return frozenset()
        which = state.status, state.user_id
        if which not in self._lists:
            self._lists[which] = frozenset(indexes(self._keys, self._names, self._partition, state))
        return self._lists[which]

    def call(self) -> Call:
        """Return the script's keys and arguments."""
        keys, partition = self._keys, self._partition
        totals = keys.shared(partition, self._names.totals)
        named = [keys.heads(partition), keys.tombstones(partition), totals, *self._views_and_logs, *self._other_keys]
        return named, [len(self.sessions), *self.sessions, *self._arguments]


def commit_calls(
    keys: Keys,
    names: Names,
    changes: Iterable[ViewsChange],
    kept: Mapping[str, Sequence[bytes]],
    going: Mapping[str, Sequence[bytes]],
) -> list[CommitCall]:
    """Divide changes, each of another session, into calls.

    Args:
        keys: The keys of the namespace.
        names: The names of the generation.
        changes: What to write.
        kept: By session, the stored messages that stay of those that the change drops.
        going: By session, what holds the views that are made anew.
    """
    calls: list[CommitCall] = []
    of_partition: dict[int, CommitCall] = {}
    for change in changes:
        session_id = change.session_id
        partition = keys.partition(check_session_id(session_id))
        call = of_partition.get(partition)
        if call is None or not call.takes(change):
            call = of_partition[partition] = CommitCall(keys, names, partition)
            calls.append(call)
        call.take(change, kept.get(session_id, ()), going.get(session_id, ()))
    return calls


def results(calls: Sequence[CommitCall], replies: Sequence[Any]) -> dict[bytes, bool]:
    """Return for each session of some calls whether it was written.

    Raises:
        StoreRefused: One could not be written, or not whole: then it is made anew. Others may have been.
    """
    written: dict[bytes, bool] = {}
    for call, reply in zip(calls, replies, strict=True):
        for session_key, result in zip(call.sessions, reply, strict=True):
            if isinstance(result, Exception):
                session_id = session_key.decode()
                raise refusal(result, left=f"The views of {session_id!r} are not up to date; its log is as it was.")
            written[session_key] = result == 1
    return written
