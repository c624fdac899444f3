"""An archive in a directory of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from eventstore.archive.naming import check_file_name
from eventstore.errors import StoreUnavailable

T = TypeVar("T")

DEAD_FOR = 24 * 3600
"""Seconds since its last sign of life after which a writer is not expected to finish its file."""
UNFINISHED = ".unfinished-"
"""How the names of files begin that are being written. No file of an archive has such a name."""


class DirectoryArchive:
    """An `eventstore.archive.places.Archive` in a directory, which is made when the first file comes.

    A file is written beside its place, forced to the disk, and put in its place in one step. A directory is no file.
    """

    def __init__(self, directory: str | Path) -> None:
        """Name the directory."""
        self.directory = Path(directory)

    def __str__(self) -> str:
        """Return its URL, for messages."""
        return self.directory.absolute().as_uri()

    async def put(self, name: str, content: bytes) -> None:
        """Keep a file."""
        place = self._place(name)
        await self._to_thread(lambda: _write(place, content), name)

    async def get(self, name: str) -> bytes | None:
        """Return a file, None if there is none of that name."""
        place = self._place(name)
        return await self._to_thread(lambda: _read(place), name)

    async def size(self, name: str) -> int | None:
        """Return how many bytes a file has, None if there is none of that name."""
        place = self._place(name)
        return await self._to_thread(lambda: place.stat().st_size if place.is_file() else None, name)

    async def delete(self, name: str) -> None:
        """Let a file go for good."""
        place = self._place(name)
        await self._to_thread(lambda: _delete(place), name)

    async def names(self, prefix: str = "") -> list[str]:
        """Return the names of all files that begin so, in alphabetical order."""
        return await self._to_thread(lambda: _names(self.directory, prefix))

    def _place(self, name: str) -> Path:
        return self.directory / check_file_name(name)

    async def _to_thread(self, work: Callable[[], T], name: str | None = None) -> T:
        """Work on files without holding up the event loop."""
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            which = "" if name is None else f" for its file {name!r}"
            raise StoreUnavailable(f"The archive {self} cannot be used{which}: {error.strerror or error}.") from error


def _write(place: Path, content: bytes) -> None:
    directory = place.parent
    _make(directory)
    beside = directory / f"{UNFINISHED}{uuid.uuid4().hex}"
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(place)
    finally:
        beside.unlink(missing_ok=True)
    _sync(directory)


def _read(place: Path) -> bytes | None:
    try:
        return place.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return None


def _delete(place: Path) -> None:
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        place.unlink()
        _sync(place.parent)


def _names(directory: Path, prefix: str) -> list[str]:
    """List the files, and let those go that a writer left unfinished who has been dead for long."""
    try:
        entries = [entry for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            if entry.name.startswith(UNFINISHED) and time.time() - entry.stat().st_mtime > DEAD_FOR:
                Path(entry.path).unlink()
    return sorted(entry.name for entry in entries if entry.name.startswith(prefix) and not entry.name.startswith("."))


def _make(directory: Path) -> None:
    """Make a directory, and force it and those above it to the disk where they are new."""
    if directory.is_dir():
        return
    _make(directory.parent)
    directory.mkdir(exist_ok=True)
    _sync(directory.parent)


def _sync(directory: Path) -> None:
    """Force to the disk which files a directory has."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
