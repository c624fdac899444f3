"""The lines of an export.

A header; then each session's events in order, and a line that closes the session, with its newest seal; then the seals
of all partitions, if everything was exported; at the end the SHA-256 of all that stands before. Each line is one JSON
object whose fields have a fixed order.
"""

from __future__ import annotations

import msgspec

from eventstore.archive.lines import Event
from eventstore.archive.lines import Line as _Line
from eventstore.proof.seals import Statement

__all__ = ["FORMAT", "End", "Event", "Export", "Line", "Proof", "Seal", "Session", "decode", "encode"]

FORMAT = 1


class Export(_Line, frozen=True):
    """The header: where from, and when, in Unix milliseconds by the server's clock."""

    format: int
    namespace: str
    partitions: int
    exported_ms: int


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
