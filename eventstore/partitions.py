"""Namespaces and their partitions: which names and counts are allowed, and where a session belongs."""

from __future__ import annotations

import re
import zlib

from eventstore.errors import InvalidInput, shown

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
MAX_PARTITIONS = 1024
DEFAULT_PARTITIONS = 4
"""The fewer there are, the more appends share a script call; the more, the more nodes of a cluster share the load."""


def check_namespace(namespace: object) -> str:
    """Return the namespace.

    Raises:
        InvalidInput: It is not 1 to 64 letters, digits, ``_``, ``.`` or ``-``.
    """
    if not isinstance(namespace, str) or not _NAMESPACE.match(namespace):
        raise InvalidInput(f"A namespace is 1 to 64 letters, digits, '_', '.' or '-', not {shown(namespace)}.")
    return namespace


def check_partitions(partitions: object) -> int:
    """Return the partition count.

    Raises:
        InvalidInput: It is not a whole number from 1 to 1024.
    """
    if type(partitions) is not int or not 1 <= partitions <= MAX_PARTITIONS:
        raise InvalidInput(f"partitions must be a whole number from 1 to {MAX_PARTITIONS}, not {shown(partitions)}.")
    return partitions


def partition_of(session_key: bytes, partitions: int) -> int:
    """Return a session's partition: CRC-32 of its id, modulo the count. Fixed for ever."""
    return zlib.crc32(session_key) % partitions
