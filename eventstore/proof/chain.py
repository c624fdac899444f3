"""The chain of a session: one SHA-256 after each entry, over all that came before it."""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

DIGEST_BYTES = 32
_PLACE = struct.Struct(">QQ")


class ChainHead(NamedTuple):
    """Where a session's chain stands.

    Attributes:
        version: The version of the last entry in it.
        recorded_ms: When that was recorded, in Unix milliseconds.
        digest: The SHA-256 that stands for it and for everything before it.
    """

    version: int
    recorded_ms: int
    digest: bytes


def genesis(session_key: bytes) -> ChainHead:
    """Return the chain of a session without entries. It bears the session's name, so no chain fits another session."""
    return ChainHead(0, 0, hashlib.sha256(b"contextengine chain 1\0" + session_key).digest())


def link(before: ChainHead, recorded_ms: int, entry: bytes) -> ChainHead:
    """Return the chain after one more entry: over its version, its time and its bytes as they are in the log."""
    version = before.version + 1
    digest = hashlib.sha256(before.digest + _PLACE.pack(version, recorded_ms) + entry).digest()
    return ChainHead(version, recorded_ms, digest)
