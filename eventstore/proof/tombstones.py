"""Tombstones: what is left of a session that was forgotten. It tells that there was one, and nothing of what it held.

Signing needs a key, and the extra ``audit``; without it there are tombstones, too, which nobody has signed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

if TYPE_CHECKING:
    from eventstore.proof.signing import Keyring, Signer

FORMAT = "contextengine tombstone 1"
PURPOSE = b"contextengine tombstone 1\n"
"""Stands before what is signed, so that no signature can be used for anything else."""


class Tombstone(msgspec.Struct, frozen=True):
    """What is left of a session.

    Attributes:
        format: `FORMAT`.
        namespace: The store's.
        partition: Where the session was.
        session: The SHA-256 of its id, in hexadecimal: who knows the id finds the tombstone, and no other way round.
        version: How many events it had.
        recorded_ms: When the last of them was recorded, in Unix milliseconds.
        digest: Where its chain stood then, in hexadecimal: what a seal or a manifest of that version says. Empty if
            the log was not whole.
        begun_ms: When it was put out of sight and appends were refused, in Unix milliseconds by the server's clock.
        forgotten_ms: When the last of it was gone; 0 while that is under way.
        archived: Whether a part of its log was in an archive.
        by: Who did it, as the caller says.
        reason: Why, as the caller says.
        files: While it is under way, the files that hold the session's log; afterwards those that were out of reach,
            and may hold it still. One whose name cannot be read is an empty string. Unset if there are none.
        archive: While it is under way, the archive that had all of these files, if one had.
        key: The id of the key that signed; empty if nobody did.
        signature: In hexadecimal; empty if nobody signed.
    """

    namespace: str
    partition: int
    session: str
    begun_ms: int
    version: int = 0
    recorded_ms: int = 0
    digest: str = ""
    forgotten_ms: int = 0
    archived: bool = False
    by: str = ""
    reason: str = ""
    files: list[str] | UnsetType = UNSET
    archive: str | UnsetType = UNSET
    key: str = ""
    signature: str = ""
    format: str = FORMAT

    @property
    def done(self) -> bool:
        """Whether nothing is left of the session."""
        return bool(self.forgotten_ms)

    @property
    def message(self) -> bytes:
        """What is signed, byte for byte."""
        return PURPOSE + msgspec.json.encode(msgspec.structs.replace(self, signature=""))

    def signed(self, signer: Signer | None) -> Tombstone:
        """Return it with a signature; without one if there is no signer."""
        unsigned = msgspec.structs.replace(self, key=signer.key_id if signer else "", signature="")
        if signer is None:
            return unsigned
        return msgspec.structs.replace(unsigned, signature=signer.sign(unsigned.message).hex())

    def signed_by(self, keyring: Keyring) -> bool:
        """Whether a trusted key has signed it."""
        try:
            signature = bytes.fromhex(self.signature)
        except ValueError:
            return False
        return keyring.signed(self.key, self.message, signature)


def name_of(session_id: str) -> str:
    """Return by what a tombstone names a session."""
    return hashlib.sha256(session_id.encode()).hexdigest()


_decoder = msgspec.json.Decoder(Tombstone)


def encode(tombstone: Tombstone) -> bytes:
    """Return a tombstone as JSON."""
    return msgspec.json.encode(tombstone)


def decode(stored: bytes) -> Tombstone:
    """Read a tombstone.

    Raises:
        ValueError: It is none.
    """
    try:
        found = _decoder.decode(stored)
    except RecursionError as error:
        raise ValueError(f"it is nested without end: {error}") from None
    if found.format != FORMAT:
        raise ValueError(f"its format is {found.format!r:.60}")
    return found
