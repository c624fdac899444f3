"""What an archive is, and which one a URL names."""

from __future__ import annotations

import os
from typing import Protocol
from urllib.parse import unquote, urlsplit

from eventstore.archive.directory import DirectoryArchive
from eventstore.archive.memory import MemoryArchive
from eventstore.errors import InvalidInput, shown

ARCHIVE_VARIABLE = "CONTEXTENGINE_ARCHIVE"


class Archive(Protocol):
    """Named files that are there wholly or not at all. A bucket of an object store can be one.

    A name begins with a letter or digit, and has up to 255 letters, digits, ``.``, ``_`` and ``-``. Every method may be
    called from any number of tasks and processes at once.
    """

    async def put(self, name: str, content: bytes) -> None:
        """Keep a file. When this returns, it outlasts the machine's fault; before, nobody sees a part of it.

        Raises:
            InvalidInput: The name is none.
            StoreUnavailable: It could not be kept. It may be there nevertheless, wholly.
        """
        ...

    async def get(self, name: str) -> bytes | None:
        """Return a file, None if there is none of that name.

        Raises:
            InvalidInput: The name is none.
            StoreUnavailable: It could not be read.
        """
        ...

    async def delete(self, name: str) -> None:
        """Let a file go for good, if there is one of that name.

        Raises:
            InvalidInput: The name is none.
            StoreUnavailable: It could not be deleted.
        """
        ...

    async def names(self, prefix: str = "") -> list[str]:
        """Return the names of all files that begin so, in alphabetical order.

        Raises:
            StoreUnavailable: They could not be listed.
        """
        ...


def open_archive(target: Archive | str | None = None) -> Archive | None:
    """Return the archive that is meant: itself, or that of a URL; by default that of the environment, None if none is.

    Args:
        target: An archive; or ``file:///directory``, where the directory need not exist yet. If it is None, the
            environment variable ``CONTEXTENGINE_ARCHIVE`` may name the URL.

    Raises:
        InvalidInput: No archive has such a URL, or it is no archive.
    """
    named = target or os.environ.get(ARCHIVE_VARIABLE)
    if not named:
        return None
    if not isinstance(named, str):
        if all(callable(getattr(named, verb, None)) for verb in ("put", "get", "delete", "names")):
            return named
        raise InvalidInput(f"An archive is named by a URL, or has put, get, delete and names, unlike {shown(named)}.")
    url = urlsplit(named)
    path = unquote(url.path)
    if url.scheme != "file" or url.netloc not in ("", "localhost") or not path.strip("/") or "\0" in path:
        raise InvalidInput(f"{shown(named)} names no archive: use file:///a/directory.")
    return DirectoryArchive(path)


async def size_of(archive: Archive, name: str) -> int | None:
    """Return how many bytes a file of an archive has, None if there is none of that name.

    Raises:
        InvalidInput: The name is none.
        StoreUnavailable: It could not be read.
    """
    if isinstance(archive, DirectoryArchive):
        return await archive.size(name)
    content = await archive.get(name)
    return None if content is None else len(content)


__all__ = ["ARCHIVE_VARIABLE", "Archive", "DirectoryArchive", "MemoryArchive", "open_archive", "size_of"]
