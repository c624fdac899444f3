"""The names of all keys: ``{<namespace>:<partition>}:<what>[:<session or user>]``.

The braces are Redis Cluster's hash tag, so that all keys of a partition live in one slot and one script can touch them.
What the caller chooses (a session id, a user id) stands last, after a fixed prefix, so no choice can reach another key.
"""

from __future__ import annotations

from collections.abc import Callable

from eventstore.partitions import partition_of


class Keys:
    """The keys of one namespace."""

    def __init__(self, namespace: str, partitions: int) -> None:
        """Make the prefixes once."""
        self.partitions = partitions
        self._namespace = namespace.encode()
        self._prefixes = [b"{%s:%d}:" % (namespace.encode(), p) for p in range(partitions)]

    def partition(self, session_key: bytes) -> int:
        """Return a session's partition."""
        return partition_of(session_key, self.partitions)

    def shared(self, partition: int, what: bytes) -> bytes:
        """Return a key that the partition has once."""
        return self._prefixes[partition] + what

    def heads(self, partition: int) -> bytes:
        """Hash: each session of the partition, and ``<version>-<ms>`` of its last event."""
        return self._prefixes[partition] + b"heads"

    def feed(self, partition: int) -> bytes:
        """Stream: which sessions reached which version."""
        return self._prefixes[partition] + b"feed"

    def tombstones(self, partition: int) -> bytes:
        """Hash: what is left of each session that was forgotten, by `eventstore.ids.tombstone_field`."""
        return self._prefixes[partition] + b"tombstones"

    def log(self, partition: int, session_key: bytes) -> bytes:
        """Stream: the session's events."""
        return self._prefixes[partition] + b"log:" + session_key

    def archived(self, partition: int) -> bytes:
        """Hash: each session whose log has its beginning in the archive, and in which file."""
        return self._prefixes[partition] + b"archived"

    def released(self, partition: int) -> bytes:
        """Hash: each file in the archive of which a log told once, and since when none does (ms)."""
        return self._prefixes[partition] + b"released"

    def every(self, what: bytes) -> bytes:
        """Return a pattern for a key that every partition has."""
        return b"{%s:*}:%s" % (self._namespace, what)

    def of(self, partition: int, session_key: bytes) -> Callable[[bytes], bytes]:
        """Return what names other keys of a session: `of_session`, where many of them are wanted."""
        prefix, suffix = self._prefixes[partition], b":" + session_key
        return lambda what: prefix + what + suffix

    def of_session(self, what: bytes, session_key: bytes) -> bytes:
        """Return another key of a session."""
        return self._prefixes[self.partition(session_key)] + what + b":" + session_key


def namespace_key(namespace: str) -> bytes:
    """Hash: what was fixed when the namespace was made."""
    return b"{%s}:namespace" % namespace.encode()
