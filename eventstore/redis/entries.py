"""Entries of the log, as a stream's reply gives them: an id, and a single field with its value."""

from __future__ import annotations

from typing import Any

import msgspec

from eventstore.codec import decode, decode_all
from eventstore.errors import CorruptLog
from eventstore.events import RecordedEvent

_numbers = msgspec.json.Decoder(list[int]).decode


def recorded(session_id: str, found: list[Any]) -> RecordedEvent:
    """Decode one entry. Raises as `eventstore.codec.decode` does."""
    version, recorded_ms = found[0].split(b"-")
    return decode(session_id, int(version), int(recorded_ms), found[1][1])


def readable(session_id: str, found: list[Any]) -> tuple[list[RecordedEvent], CorruptLog | None]:
    """Decode entries up to the first that cannot be read; return why that cannot, too."""
    events: list[RecordedEvent] = []
    try:
        for entry in found:
            events.append(recorded(session_id, entry))  # noqa: PERF401 - what comes before the damage is kept
    except CorruptLog as damage:
        return events, damage
    return events, None


def all_recorded(session_id: str, found: list[Any]) -> list[RecordedEvent]:
    """Decode many entries: in one go, for a replay does little else. Raises as `eventstore.codec.decode` does."""
    if not found:
        return []
    places = _numbers(b"[%b]" % b",".join([place for place, _ in found]).replace(b"-", b","))
    return decode_all(session_id, places, [fields[1] for _, fields in found])
