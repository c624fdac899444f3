"""An archive in this process's memory."""

from __future__ import annotations

from eventstore.archive.naming import check_file_name


class MemoryArchive:
    """An `eventstore.archive.places.Archive` in memory: for tests and first steps. It keeps nothing."""

    def __init__(self) -> None:
        """Begin empty."""
        self._files: dict[str, bytes] = {}

    def __str__(self) -> str:
        """Return what it is, for messages."""
        return "in this process's memory"

    async def put(self, name: str, content: bytes) -> None:
        """Keep a file."""
        self._files[check_file_name(name)] = bytes(content)

    async def get(self, name: str) -> bytes | None:
        """Return a file, None if there is none of that name."""
        return self._files.get(check_file_name(name))

    async def delete(self, name: str) -> None:
        """Let a file go for good."""
        self._files.pop(check_file_name(name), None)

    async def names(self, prefix: str = "") -> list[str]:
        """Return the names of all files that begin so, in alphabetical order."""
        return sorted(name for name in self._files if name.startswith(prefix))
