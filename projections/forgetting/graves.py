"""Where what is left of a session is kept."""

from __future__ import annotations

from typing import NamedTuple

from eventstore.ids import check_session_id, tombstone_field
from eventstore.partitions import partition_of


class Grave(NamedTuple):
    """The place of a tombstone: the session's partition, and a hash of its id."""

    partition: int
    field: str


def grave_of(session_id: str, partitions: int) -> Grave:
    """Return where the tombstone of a session stands.

    Raises:
        InvalidSessionId: It is no session id.
    """
    session_key = check_session_id(session_id)
    return Grave(partition_of(session_key, partitions), tombstone_field(session_key))
