"""Seals: signed statements of where all chains of a partition stood at a time, each bound to the one before it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from eventstore.proof import merkle
from eventstore.proof.chain import DIGEST_BYTES, ChainHead
from eventstore.proof.signing import Keyring, Signer

_PLACE = struct.Struct(">H")
_NUMBERS = struct.Struct(">QQ")
PURPOSE = b"contextengine seal 1\n"
"""Stands before every statement that is signed, so that no signature can be used for anything else."""
NOTHING = "0" * 64
"""The hash of the seal before the first one."""

Heads: TypeAlias = Mapping[str, ChainHead]
Change: TypeAlias = tuple[str, int, int, str]
"""A session, and its chain's version, time and digest in hexadecimal."""


class Statement(msgspec.Struct, frozen=True):
    """What is signed.

    Attributes:
        namespace: The store's.
        partitions: How many partitions it has.
        partition: Which of them this is about.
        number: The seal's place among the partition's seals: 1, 2, 3 ... without gaps.
        previous: The hash of the seal before it, in hexadecimal.
        sealed_ms: The server's time before the heads were read, in Unix milliseconds: older events are in the seal.
        sessions: How many chains the partition has.
        events: How many events they stand for.
        root: The Merkle root of all chains, in the order of the sessions' names, in hexadecimal.
        changes: The SHA-256 of `Seal.changed` as it is stored, in hexadecimal.
        key: The id of the key that signs.
    """

    namespace: str
    partitions: int
    partition: int
    number: int
    previous: str
    sealed_ms: int
    sessions: int
    events: int
    root: str
    changes: str
    key: str

    @property
    def message(self) -> bytes:
        """What is signed, byte for byte."""
        return PURPOSE + msgspec.json.encode(self)

    @property
    def hash(self) -> str:
        """What the next seal names."""
        return hashlib.sha256(self.message).hexdigest()


class Seal(msgspec.Struct, frozen=True):
    """A statement, its signature, and the chains that have changed since the seal before it.

    Attributes:
        statement: What is signed.
        signature: In hexadecimal.
        changed: The chains that have changed.
    """

    statement: Statement
    signature: str
    changed: list[Change]

    def signed_by(self, keyring: Keyring) -> bool:
        """Whether a trusted key has signed it."""
        return signed(self.statement, self.signature, keyring)


def signed(statement: Statement, signature: str, keyring: Keyring) -> bool:
    """Whether a trusted key has signed a statement."""
    try:
        raw = bytes.fromhex(signature)
    except ValueError:
        return False
    return keyring.signed(statement.key, statement.message, raw)


def make_seal(
    signer: Signer,
    *,
    namespace: str,
    partitions: int,
    partition: int,
    after: Statement | None,
    sealed_ms: int,
    heads: Heads,
    changed: Heads,
) -> Seal:
    """Seal where all chains of a partition stand.

    Args:
        signer: The key.
        namespace: The store's.
        partitions: How many partitions it has.
        partition: Which of them this is.
        after: The statement before it; None for the first one.
        sealed_ms: The server's time before the heads were read, in Unix milliseconds.
        heads: All chains of the partition.
        changed: Those among them that have changed since.
    """
    changes = [change(session_id, changed[session_id]) for session_id in sorted(changed, key=str.encode)]
    statement = Statement(
        namespace=namespace,
        partitions=partitions,
        partition=partition,
        number=after.number + 1 if after else 1,
        previous=after.hash if after else NOTHING,
        sealed_ms=sealed_ms,
        sessions=len(heads),
        events=sum(head.version for head in heads.values()),
        root=merkle.root(leaves(heads)).hex(),
        changes=digest_of(changes),
        key=signer.key_id,
    )
    return Seal(statement, signer.sign(statement.message).hex(), changes)


def change(session_id: str, head: ChainHead) -> Change:
    """Return how a chain's head is written down."""
    return session_id, head.version, head.recorded_ms, head.digest.hex()


def head_of(written: Change) -> ChainHead:
    """Return the head that was written down.

    Raises:
        ValueError: It is none.
    """
    head = ChainHead(written[1], written[2], bytes.fromhex(written[3]))
    if len(head.digest) != DIGEST_BYTES or not all(0 <= number < 2**64 for number in head[:2]):
        raise ValueError(f"{written!r:.200} is not the head of a chain")
    return head


def digest_of(changes: Sequence[Change]) -> str:
    """Return the SHA-256 of chains as they are written down."""
    return hashlib.sha256(msgspec.json.encode(changes)).hexdigest()


def leaf(session_id: str, head: ChainHead) -> bytes:
    """Return a chain as a leaf of the Merkle tree."""
    name = session_id.encode()
    return _PLACE.pack(len(name)) + name + _NUMBERS.pack(head.version, head.recorded_ms) + head.digest


def leaves(heads: Heads) -> list[bytes]:
    """Return the leaves of the Merkle tree, in order."""
    return [leaf(session_id, heads[session_id]) for session_id in sorted(heads, key=str.encode)]


_decoder = msgspec.json.Decoder(Seal)


def encode(seal: Seal) -> bytes:
    """Return a seal as JSON."""
    return msgspec.json.encode(seal)


def decode(stored: bytes) -> Seal:
    """Read a seal.

    Raises:
        ValueError: It is none.
    """
    try:
        return _decoder.decode(stored)
    except RecursionError as error:
        raise ValueError(f"it is nested without end: {error}") from None
