"""Manifests: the newest seal of every partition in one small file, to be kept where users of Redis cannot write."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from eventstore.errors import InvalidInput
from eventstore.proof import merkle
from eventstore.proof.chain import ChainHead
from eventstore.proof.seals import Change, Heads, Statement, change, head_of, leaves, signed
from eventstore.proof.signing import Keyring

FORMAT = "contextengine manifest 1"


class Sealed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A partition's newest seal. ``heads`` are all of its chains, unless they were left out."""

    statement: Statement
    signature: str
    heads: list[Change] | None = None

    def chains(self) -> dict[str, ChainHead] | None:
        """Return the chains, None if they were left out.

        Raises:
            ValueError: One is none.
        """
        return None if self.heads is None else {written[0]: head_of(written) for written in self.heads}


class Manifest(msgspec.Struct, frozen=True):
    """What a store held when it was sealed.

    Attributes:
        format: `FORMAT`.
        namespace: The store's.
        made_ms: When the manifest was made, in Unix milliseconds by the server's clock.
        seals: One for each partition, in order.
    """

    format: str
    namespace: str
    made_ms: int
    seals: list[Sealed]

    @property
    def sessions(self) -> int:
        """How many sessions it speaks of."""
        return sum(sealed.statement.sessions for sealed in self.seals)

    @property
    def events(self) -> int:
        """How many events it speaks of."""
        return sum(sealed.statement.events for sealed in self.seals)


def make_manifest(
    namespace: str, made_ms: int, seals: Mapping[int, tuple[Statement, str, Heads]], *, heads: bool = True
) -> Manifest:
    """Put a manifest together.

    Args:
        namespace: The store's.
        made_ms: The server's time, in Unix milliseconds.
        seals: For each partition its newest statement, the signature, and its chains.
        heads: Whether to write down the chains: some 130 bytes a session, for which a verifier can name the session
            and the version even when everything in Redis has been rewritten.
    """
    return Manifest(
        FORMAT,
        namespace,
        made_ms,
        [
            Sealed(
                statement,
                signature,
                [change(name, chains[name]) for name in sorted(chains, key=str.encode)] if heads else None,
            )
            for _, (statement, signature, chains) in sorted(seals.items())
        ],
    )


def encode(manifest: Manifest) -> bytes:
    """Return a manifest as JSON for people and machines."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(text: bytes) -> Manifest:
    """Read a manifest. Whether it is true, `doubts` tells.

    Raises:
        InvalidInput: It is none.
    """
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"This is not a manifest of contextengine, or it is damaged: {error}.") from None
    if manifest.format != FORMAT:
        raise InvalidInput(f"This is not a manifest that this version knows: its format is {manifest.format!r:.60}.")
    return manifest


def doubts(manifest: Manifest, keyring: Keyring) -> list[str]:
    """Return why a manifest cannot be believed, in sentences; nothing if it can."""
    found: list[str] = []
    for number, sealed in enumerate(manifest.seals):
        statement = sealed.statement
        if statement.namespace != manifest.namespace or statement.partition != number:
            found.append(f"its seal {number} is one of {statement.namespace!r}, partition {statement.partition}")
        elif statement.partitions != len(manifest.seals):
            found.append(f"it has seals of {len(manifest.seals)} partitions, and there are {statement.partitions}")
        elif not signed(statement, sealed.signature, keyring):
            found.append(f"its seal of partition {number} is not signed by a trusted key")
        elif not _fits(sealed):
            found.append(f"its chains of partition {number} are not those that were sealed")
    if not manifest.seals:
        found.append("it holds no seals")
    return found


def _fits(sealed: Sealed) -> bool:
    try:
        chains = sealed.chains()
    except ValueError:
        return False
    return chains is None or merkle.root(leaves(chains)).hex() == sealed.statement.root
