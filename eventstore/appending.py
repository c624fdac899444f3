"""The checked and encoded form of an append: what every store starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from eventstore.codec import encode
from eventstore.errors import EventTooLarge, InvalidInput
from eventstore.events import Event
from eventstore.ids import check_session_id, new_event_id
from eventstore.store import Expected, ExpectedVersion, check_number

MAX_EVENTS_PER_APPEND = 1000
MAX_APPEND_BYTES = 64 * 1024 * 1024
"""Of all events of an append together: what a server takes in well within a timeout."""


class EncodedAppend(msgspec.Struct, frozen=True, gc=False):
    """One session's events, ready to be sent.

    The event ids are made here, before the first try, so that a later try can ask whether they are there already.
    """

    session_id: str
    session_key: bytes
    expected: ExpectedVersion
    event_ids: list[str]
    entries: list[bytes]
    size: int


def encode_append(
    session_id: str,
    events: Sequence[Event] | Event,
    expected: ExpectedVersion,
    meta: Mapping[str, Any] | None,
    max_event_bytes: int,
) -> EncodedAppend:
    """Check and encode an append.

    Raises:
        InvalidInput: An argument cannot be accepted; the subclass says which.
    """
    session_key = check_session_id(session_id)
    if type(expected) is not Expected:
        check_number("expected_version", expected)
    if meta is not None and not isinstance(meta, Mapping):
        raise InvalidInput(f"meta must be a dict of JSON values, not {type(meta).__name__}.")
    if type(events) is not tuple:
        if isinstance(events, Event):
            events = (events,)
        elif not isinstance(events, Sequence):
            raise InvalidInput(f"events must be an event or a sequence of events, not {type(events).__name__}.")
    if not 1 <= len(events) <= MAX_EVENTS_PER_APPEND:
        raise InvalidInput(f"An append takes 1 to {MAX_EVENTS_PER_APPEND} events, not {len(events)}.")
    event_ids, entries, size = [], [], 0
    for event in events:
        event_id = new_event_id()
        entry = encode(event_id, event, meta, max_event_bytes)
        event_ids.append(event_id)
        entries.append(entry)
        size += len(entry)
    if size > MAX_APPEND_BYTES:
        raise EventTooLarge(f"An append of {size:,} bytes is over the limit of {MAX_APPEND_BYTES:,}: divide it.")
    return EncodedAppend(session_id, session_key, expected, event_ids, entries, size)
