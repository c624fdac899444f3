"""From a file to lines. The file is gone through once before any line is given, and refused if it is not whole."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from eventstore.errors import InvalidInput
from eventstore.ids import check_session_id
from eventstore.partitions import check_namespace, check_partitions
from eventstore.proof import merkle
from eventstore.proof.chain import ChainHead, genesis, link
from eventstore.proof.seals import leaf, signed
from eventstore.proof.signing import Keyring
from projections.transfer import records

ZSTD = b"\x28\xb5\x2f\xfd"
"""With which a file that is packed with zstd begins (RFC 8878)."""


class ExportFile:
    """An export that is whole: every line is there as it was written.

    Attributes:
        header: Its first line.
        sessions: How many sessions it holds.
        events: How many events.
        proved: How many of these events a trusted key has sealed.
    """

    def __init__(self, path: Path, keyring: Keyring | None = None) -> None:
        """Go through a file.

        Args:
            path: The file, packed with zstd or not.
            keyring: The public keys whose seals are believed. With it, a session whose seal does not fit is refused.

        Raises:
            InvalidInput: It cannot be read, is not an export, or is damaged; then the message names the line.
        """
        self.path = path
        self.events = self.sessions = self.proved = 0
        self._number = 0
        self._keyring = keyring
        self._session = ""
        self._chain: ChainHead | None = None
        self._at: dict[int, ChainHead] = {}
        self._seen: set[str] = set()
        try:
            self.header = self._check()
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
        except (InvalidInput, ValueError, RecursionError) as error:
            raise InvalidInput(f"{path.name} is damaged, or no export, at line {self._number}: {error}") from None

    def lines(self) -> Iterator[records.Line]:
        """Give the lines after the header, up to the last."""
        with opened(self.path) as file:
            next(file)
            for text in file:
                yield records.decode(text)

    def _check(self) -> records.Export:
        digest, before_end, header, end = hashlib.sha256(), "", None, None
        with opened(self.path) as file:
            for self._number, text in enumerate(file, 1):
                line = records.decode(text)
                if end is not None:
                    raise ValueError("something stands behind the last line")
                if (header is None) != isinstance(line, records.Export):
                    raise ValueError("an export begins with its header, and has but one")
                match line:
                    case records.Export():
                        header = _known(line)
                    case records.Event():
                        self._take(line)
                    case records.Session():
                        self._close(line)
                    case records.End():
                        end, before_end = line, digest.hexdigest()
                digest.update(text)
        if end is None or header is None or self._chain is not None:
            raise ValueError("the end is missing")
        if (end.sessions, end.events, end.sha256) != (self.sessions, self.events, before_end):
            raise ValueError("the lines are not those that were written: their SHA-256 is another")
        return header

    def _take(self, event: records.Event) -> None:
        """Go on with a session, or begin one."""
        if self._chain is None:
            self._session, self._chain, self._at = event.session, genesis(check_session_id(event.session)), {}
            if event.session in self._seen:
                raise ValueError(f"the session {event.session!r} comes twice")
            self._seen.add(event.session)
        self._chain = _after(self._chain, event, self._session)
        self._at[self._chain.version] = self._chain

    def _close(self, line: records.Session) -> None:
        """End a session."""
        chain, self._chain = self._chain, None
        expected = (self._session, chain.version, chain.digest.hex()) if chain else None
        if (line.session, line.version, line.head) != expected:
            raise ValueError(f"these are not the events of {line.session!r}")
        self.sessions += 1
        self.events += line.version
        if self._keyring is not None and line.proof is not None:
            if reason := _doubt(line.session, line.proof, self._at, self._keyring):
                raise ValueError(f"the session {line.session!r} is not what was sealed: {reason}")
            self.proved += line.proof.version


def _known(header: records.Export) -> records.Export:
    if header.format != records.FORMAT:
        raise ValueError(f"its format is {header.format}, and this version knows {records.FORMAT}")
    check_namespace(header.namespace)
    check_partitions(header.partitions)
    return header


def _after(chain: ChainHead, event: records.Event, session_id: str) -> ChainHead:
    if event.session != session_id or event.version != chain.version + 1:
        raise ValueError(f"version {chain.version + 1} of {session_id!r} should stand here")
    if not chain.recorded_ms <= event.recorded_ms < 2**64:
        raise ValueError(f"version {event.version} of {session_id!r} is older than the one before it")
    return link(chain, event.recorded_ms, event.content)


def _doubt(session_id: str, proof: records.Proof, at: dict[int, ChainHead], keyring: Keyring) -> str | None:
    """Return why a session's seal does not prove it."""
    head = ChainHead(proof.version, proof.recorded_ms, bytes.fromhex(proof.head))
    if at.get(proof.version) != head:
        return f"its events do not come to the chain at version {proof.version}"
    if not signed(proof.statement, proof.signature, keyring):
        return "the seal is not signed by a trusted key"
    path = [bytes.fromhex(each) for each in proof.path]
    found = merkle.root_of(leaf(session_id, head), proof.index, proof.statement.sessions, path)
    return None if found is not None and found.hex() == proof.statement.root else "the seal does not hold it"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, unpacked.

    Raises:
        InvalidInput: It cannot be unpacked.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if file.peek(len(ZSTD))[: len(ZSTD)] != ZSTD:
            yield file
            return
        import zstandard  # noqa: PLC0415 - only packed files need it

        try:
            with zstandard.ZstdDecompressor().stream_reader(file) as unpacked:
                yield io.BufferedReader(unpacked, 1 << 20)
        except zstandard.ZstdError as error:
            raise InvalidInput(f"it cannot be unpacked ({error})") from None
