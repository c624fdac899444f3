"""The lines of an export.

A header; then each session's events in order, and a line that closes the session, with its newest seal; then the seals
of all partitions, if everything was exported; at the end the SHA-256 of all that stands before. Each line is one JSON
object whose fields have a fixed order.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from eventstore.proof.seals import Statement

FORMAT = 1


class _Line(msgspec.Struct, frozen=True, tag_field="kind", tag=str.lower, omit_defaults=True):
    """Any line."""


class Export(_Line, frozen=True):
    """The header: where from, and when, in Unix milliseconds by the server's clock."""

    format: int
    namespace: str
    partitions: int
    exported_ms: int


class Event(_Line, frozen=True):
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


class Proof(msgspec.Struct, frozen=True):
    """A session's newest seal, and what proves that the session is in it; see `eventstore.proof.merkle.root_of`."""

    statement: Statement
    signature: str
    version: int
    recorded_ms: int
    head: str
    index: int
    path: list[str]


class Session(_Line, frozen=True):
    """The end of a session: how many events it has, its chain's digest, and its newest seal if it was sealed."""

    session: str
    version: int
    head: str
    proof: Proof | None = None


class Seal(_Line, frozen=True):
    """A seal as it is stored."""

    partition: int
    number: int
    seal: str


class End(_Line, frozen=True):
    """The last line: counts, and the SHA-256 of all lines before it, in hexadecimal."""

    sessions: int
    events: int
    sha256: str


Line = Export | Event | Session | Seal | End
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Line).decode


def _is_plain(entry: bytes) -> bool:
    """Whether an entry can stand in a line of JSON as it is, and is the same when it is read from there."""
    if not (entry.startswith(b"[") and entry.endswith(b"]")) or b"\n" in entry or b"\r" in entry:
        return False
    try:
        entry.decode()
        msgspec.json.decode(entry)
    except (UnicodeDecodeError, msgspec.DecodeError):
        return False
    return True
