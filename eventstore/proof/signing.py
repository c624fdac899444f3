"""Ed25519 keys (RFC 8032): one that signs seals, which is never in Redis, and public ones that check them.

Needs ``pip install 'contextengine[audit]'``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from eventstore.errors import InvalidInput

KEY_VARIABLE = "CONTEXTENGINE_SEAL_KEY"
"""The environment variable that may hold the private key, in PEM."""
PUBLIC_KEY_VARIABLE = "CONTEXTENGINE_SEAL_PUBLIC_KEY"
"""The environment variable that may hold the public key, in PEM."""


class Signer:
    """A private key. Whoever has it can make seals that nobody can tell from true ones."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Take the key."""
        self._key = key
        self.public = _raw(key.public_key())
        self.key_id = key_id(self.public)

    @classmethod
    def new(cls) -> Signer:
        """Make a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: str) -> Signer:
        """Read a private key.

        Raises:
            InvalidInput: It is not an Ed25519 private key in PEM without a password.
        """
        try:
            key = serialization.load_pem_private_key(_lines(pem), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidInput(f"This is no private key in PEM without a password: {error}.") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidInput("The private key must be an Ed25519 key: make one with scripts/seal.py --new-key FILE.")
        return cls(key)

    def sign(self, message: bytes) -> bytes:
        """Return the signature, of 64 bytes."""
        return self._key.sign(message)

    def private_pem(self) -> str:
        """Return the private key in PEM (PKCS #8), to be kept where Redis and its users cannot read it."""
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self._key.private_bytes(*form).decode()

    def public_pem(self) -> str:
        """Return the public key in PEM, for those who verify."""
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return self._key.public_key().public_bytes(*form).decode()


class Keyring:
    """The public keys that are trusted, by their ids."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        """Take raw public keys, of 32 bytes each."""
        self._keys: Mapping[str, Ed25519PublicKey] = {
            key_id(raw): Ed25519PublicKey.from_public_bytes(raw) for raw in keys
        }

    def __len__(self) -> int:
        """How many keys are trusted."""
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        """Whether the key of an id is trusted."""
        return key in self._keys

    def signed(self, key: str, message: bytes, signature: bytes) -> bool:
        """Whether a trusted key of this id has signed the message."""
        if key not in self._keys:
            return False
        try:
            self._keys[key].verify(signature, message)
        except InvalidSignature:
            return False
        return True


def key_id(public: bytes) -> str:
    """Return by what a key is named: the first half of its SHA-256, in hexadecimal."""
    return hashlib.sha256(public).hexdigest()[:32]


def public_key(pem: str) -> bytes:
    """Return the raw public key that stands in PEM; of a private key, its public half.

    Raises:
        InvalidInput: It is not an Ed25519 key.
    """
    if "PRIVATE KEY" in pem:
        return Signer.from_pem(pem).public
    try:
        key = serialization.load_pem_public_key(_lines(pem))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"This is no public key in PEM: {error}.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput("The public key must be an Ed25519 key.")
    return _raw(key)


def write_new_key(path: Path) -> Signer:
    """Make a key: ``path`` gets the private one, for its owner's eyes alone, ``path`` with ``.pub`` the public one.

    Raises:
        InvalidInput: One of the files exists, for a key is never overwritten; or cannot be written.
    """
    signer = Signer.new()
    public = path.with_name(path.name + ".pub")
    for file in (path, public):
        if file.exists():
            raise InvalidInput(f"{file} exists, and a key is never overwritten: choose another name.")
    for file, text, mode in ((path, signer.private_pem(), 0o600), (public, signer.public_pem(), 0o644)):
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            raise InvalidInput(f"{file} cannot be written: {error.strerror}.") from None
        with os.fdopen(handle, "w", encoding="ascii") as opened:
            opened.write(text)
    return signer


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _lines(pem: str) -> bytes:
    """Let a PEM in an environment variable have its line ends written as a backslash and an n."""
    return pem.strip().replace("\\n", "\n").encode()
