"""The line of an export that holds an entry of a log. `projections.transfer.records` tells the other lines."""

from __future__ import annotations

import base64
import binascii

import msgspec

from eventstore.codec import is_deep


class Line(msgspec.Struct, frozen=True, tag_field="kind", tag=str.lower, omit_defaults=True):
    """Any line."""


class Event(Line, frozen=True):
    """An entry of a log: its bytes as they are if they are JSON on one line, and in Base64 if they are not."""

    session: str
    version: int
    recorded_ms: int
    entry: msgspec.Raw = msgspec.Raw(b"")
    base64: str = ""

    @classmethod
    def of(cls, session_id: str, version: int, recorded_ms: int, entry: bytes) -> Event:
        """Write an entry down."""
        if _is_plain(entry):
            return cls(session_id, version, recorded_ms, msgspec.Raw(entry))
        return cls(session_id, version, recorded_ms, base64=base64.b64encode(entry).decode())

    @property
    def content(self) -> bytes:
        """The entry's bytes.

        Raises:
            ValueError: There are none.
        """
        if plain := bytes(self.entry):
            return plain
        try:
            return base64.b64decode(self.base64, validate=True)
        except binascii.Error as error:
            raise ValueError(f"its Base64 is none ({error})") from None


def _is_plain(entry: bytes) -> bool:
    """Whether an entry can stand in a line of JSON as it is, and is the same when it is read from there."""
    if not (entry.startswith(b"[") and entry.endswith(b"]")) or b"\n" in entry or b"\r" in entry:
        return False
    try:
        entry.decode()
        value = msgspec.json.decode(entry)
    except (ValueError, RecursionError):
        return False
    return not is_deep(entry, value)
