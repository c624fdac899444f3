"""The options that the scripts of an audit share, and the keys and manifests that they name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from eventstore.errors import InvalidInput
from eventstore.proof.manifests import Manifest, decode
from eventstore.proof.signing import KEY_VARIABLE, PUBLIC_KEY_VARIABLE, Keyring, Signer, public_key

Key = Annotated[Path | None, typer.Option(metavar="FILE", help=f"the key that signs (default: {KEY_VARIABLE})")]
"""The private key."""

PublicKeys = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help=f"whose seals to believe, in PEM; may be given more than once (default: {PUBLIC_KEY_VARIABLE})",
    ),
]
"""Whom to believe."""

Manifests = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="hold the store against a manifest that was exported earlier; may be given more than once",
    ),
]
"""What to hold it against."""


def signer_of(path: Path | None) -> Signer:
    """Return the private key of a file, or of the environment.

    Raises:
        InvalidInput: There is none, or it cannot be used.
    """
    if path is not None:
        return Signer.from_pem(text_of(path))
    if pem := os.environ.get(KEY_VARIABLE):
        return Signer.from_pem(pem)
    raise InvalidInput(f"There is no key: make one with --new-key FILE, then give --key FILE, or set {KEY_VARIABLE}.")


def keyring_of(paths: Sequence[Path] | None) -> Keyring:
    """Return the public keys of some files, or of the environment; none if there is none.

    Raises:
        InvalidInput: One cannot be used.
    """
    if paths:
        return Keyring([public_key(text_of(path)) for path in paths])
    pem = os.environ.get(PUBLIC_KEY_VARIABLE)
    return Keyring([public_key(pem)] if pem else [])


def manifests_of(paths: Sequence[Path] | None) -> list[tuple[str, Manifest]]:
    """Read manifests.

    Raises:
        InvalidInput: One is none.
    """
    found = []
    for path in paths or ():
        try:
            found.append((path.name, decode(path.read_bytes())))
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
    return found


def text_of(path: Path) -> str:
    """Read a file.

    Raises:
        InvalidInput: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.") from None


def replace(path: Path, content: bytes) -> None:
    """Write a file so that it is there wholly, or as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.") from None
