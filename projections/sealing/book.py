"""The seals of a partition, read and checked: which chains they vouch for, at which versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eventstore.proof import merkle
from eventstore.proof.chain import ChainHead
from eventstore.proof.seals import NOTHING, Seal, Statement, decode, digest_of, head_of, leaves
from eventstore.proof.signing import Keyring
from projections.sealing.findings import Finding, Kind


class Book:
    """What the seals of a partition say, up to the first that cannot be believed.

    Attributes:
        heads: Each session's chain at the newest seal.
        marks: Each session's chains at all seals that told of it, oldest first; and when the partition had been sealed
            before that, in Unix milliseconds: what a seal is the first to tell of should not be older.
        statement: The newest seal's statement, None before the first.
        signature: The newest seal's signature.
        hashes: Each seal's hash, by number.
    """

    def __init__(self, namespace: str, partitions: int, partition: int, keyring: Keyring) -> None:
        """Begin before the first seal."""
        self.namespace = namespace
        self.partitions = partitions
        self.partition = partition
        self.heads: dict[str, ChainHead] = {}
        self.marks: dict[str, list[tuple[ChainHead, int]]] = {}
        self.statement: Statement | None = None
        self.signature = ""
        self.hashes: dict[int, str] = {}
        self._keyring = keyring

    @property
    def number(self) -> int:
        """The newest seal's number, 0 before the first."""
        return self.statement.number if self.statement else 0

    def take(self, stored: Iterable[tuple[int, bytes]]) -> Finding | None:
        """Read the next seals, given with their numbers.

        Return why one cannot be believed; those after it are not read then.
        """
        before = self.statement
        for number, text in stored:
            try:
                seal = decode(text)
                changed = {written[0]: head_of(written) for written in seal.changed}
            except ValueError as error:
                return self._finding(number, f"cannot be read ({error})")
            if reason := self._doubt(number, seal, changed):
                return self._finding(number, reason)
            self.add(seal, changed)
        if (
            self.statement
            and self.statement is not before
            and merkle.root(leaves(self.heads)).hex() != self.statement.root
        ):
            return self._finding(self.number, "is not of the chains that the seals name")
        return None

    def add(self, seal: Seal, changed: Mapping[str, ChainHead]) -> None:
        """Take a seal that is known to be true."""
        before_ms = self.statement.sealed_ms if self.statement else 0
        self.statement, self.signature = seal.statement, seal.signature
        self.hashes[seal.statement.number] = seal.statement.hash
        self.heads.update(changed)
        for session_id, head in changed.items():
            self.marks.setdefault(session_id, []).append((head, before_ms))

    def _doubt(self, number: int, seal: Seal, changed: Mapping[str, ChainHead]) -> str | None:
        said = seal.statement
        here = (self.namespace, self.partitions, self.partition)
        wrong = [
            (number != self.number + 1, f"comes where seal {self.number + 1} should be: that one is missing"),
            (said.number != number, "says that it is another one"),
            (said.key not in self._keyring, f"is signed with the key {said.key}, which is not trusted"),
            (not seal.signed_by(self._keyring), "has a signature that does not fit it"),
            ((said.namespace, said.partitions, said.partition) != here, "is one of another partition or namespace"),
            (
                said.previous != (self.statement.hash if self.statement else NOTHING),
                "does not follow from the last one",
            ),
            (digest_of(seal.changed) != said.changes, "does not hold the chains that were signed"),
            (
                any(name in self.heads and head.version <= self.heads[name].version for name, head in changed.items()),
                "goes back behind the last one",
            ),
        ]
        return next((reason for is_so, reason in wrong if is_so), None)

    def _finding(self, number: int, reason: str) -> Finding:
        text = f"Seal {number} of partition {self.partition} {reason}. Seals from it on prove nothing."
        return Finding(Kind.SEAL, text, partition=self.partition)
