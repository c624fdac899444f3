"""Entries of the log, as a stream's reply gives them: an id, and a single field with its value."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import msgspec

from eventstore.codec import decode
from eventstore.events import RecordedEvent

_numbers = msgspec.json.Decoder(list[int]).decode


def recorded(session_id: str, found: list[Any]) -> RecordedEvent:
    """Decode one entry. Raises as `eventstore.codec.decode` does."""
    version, recorded_ms = found[0].split(b"-")
    return decode(session_id, int(version), int(recorded_ms), found[1][1])


def all_recorded(session_id: str, found: list[Any]) -> list[RecordedEvent]:
    """Decode many entries: in one go, for a replay does little else. Raises as `eventstore.codec.decode` does."""
    if not found:
        return []
    numbers = _numbers(b"[%b]" % b",".join([entry_id for entry_id, _ in found]).replace(b"-", b","))
    return list(map(decode, repeat(session_id), numbers[::2], numbers[1::2], [fields[1] for _, fields in found]))
