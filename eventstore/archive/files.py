"""The files of archived logs, read back: a file is the export of one session, packed with zstd."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import msgspec

from eventstore.archive.lines import Event
from eventstore.archive.places import ARCHIVE_VARIABLE, Archive
from eventstore.errors import CorruptLog, InvalidInput, SessionArchived
from eventstore.rawlog import Archived, RawEntry
from eventstore.store import PAGE

PAGES_BACK = 20
"""Pages that are kept at once where a file is read from its end: it can be unpacked from the beginning only."""

_event = msgspec.json.Decoder(Event).decode


class LogFile:
    """A file that holds a log up to a version, exactly as it was archived."""

    def __init__(self, session_id: str, archived: Archived, content: bytes) -> None:
        """Take a file's content, which `open_file` has checked."""
        self.version = archived.version
        self._session_id = session_id
        self._name = archived.file
        self._content = content

    async def pages(self, low: int, high: int) -> AsyncGenerator[list[RawEntry], None]:
        """Give the entries from one version to another, oldest first, unpacking no more than a page at a time.

        Raises:
            CorruptLog: The file does not hold them.
        """
        lines = _unpacked(self._content)
        await self._work(
            low, lambda: sum(1 for _ in itertools.islice(lines, low))
        )  # one for each version, and a header
        while low <= high:
            count = min(PAGE, high - low + 1)
            page = await self._work(low, lambda low=low, count=count: self._page(lines, low, count))  # type: ignore[misc]
            yield page
            low += len(page)

    async def pages_back(self, low: int, high: int) -> AsyncGenerator[list[RawEntry], None]:
        """Give the entries from one version to another, newest first.

        Raises:
            CorruptLog: The file does not hold them.
        """
        while low <= high:
            first = max(low, high - PAGES_BACK * PAGE + 1)
            pages = [page async for page in self.pages(first, high)]
            for page in reversed(pages):
                yield page[::-1]
            high = first - 1

    def _page(self, lines: Iterator[bytes], low: int, count: int) -> list[RawEntry]:
        page = []
        for version, text in enumerate(itertools.islice(lines, count), low):
            line = _event(text)
            if (line.session, line.version) != (self._session_id, version):
                raise ValueError(f"it holds version {line.version} of {line.session!r} there")
            page.append(RawEntry(version, line.recorded_ms, line.content))
        if len(page) < count:
            raise ValueError("it ends before that")
        return page

    async def _work(self, version: int, work: Callable[[], Any]) -> Any:
        """Unpack and decode without holding up the event loop."""
        try:
            return await asyncio.to_thread(work)
        except (ValueError, RecursionError) as error:
            raise CorruptLog(
                self._session_id, version, f"its file {self._name!r} in the archive cannot be read ({error})"
            ) from error


async def open_file(session_id: str, archived: Archived, archive: Archive | None) -> LogFile | None:
    """Return the file that holds a log's beginning, None if the archive has no file of that name.

    Raises:
        SessionArchived: No archive was named.
        CorruptLog: The file is not the one that was put there.
        StoreUnavailable: The archive cannot be read.
    """
    if archive is None:
        raise SessionArchived(session_id, archived.version, archived.file, ARCHIVE_VARIABLE)
    _zstandard()
    try:
        content = await archive.get(archived.file)
    except InvalidInput as error:
        raise CorruptLog(session_id, 1, f"what it says of its file in the archive is no name ({error})") from None
    if content is None:
        return None
    if (await asyncio.to_thread(hashlib.sha256, content)).hexdigest() != archived.sha256:
        raise CorruptLog(session_id, 1, f"its file {archived.file!r} in the archive {archive} was changed")
    return LogFile(session_id, archived, content)


def missing(session_id: str, archived: Archived, archive: Archive | None) -> CorruptLog:
    """Return the error for a file that is not there although the log says so."""
    return CorruptLog(session_id, 1, f"the archive {archive} lacks its file {archived.file!r}")


def _zstandard() -> Any:
    """Return what unpacks.

    Raises:
        InvalidInput: It is not installed.
    """
    try:
        import zstandard  # noqa: PLC0415 - only archives need it
    except ImportError:
        raise InvalidInput("To read what was archived, run: pip install 'contextengine[audit]'.") from None
    return zstandard


def _unpacked(content: bytes) -> Iterator[bytes]:
    """Give the lines of a file.

    Raises:
        ValueError: It cannot be unpacked.
    """
    zstandard = _zstandard()
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True)
        yield from io.BufferedReader(reader, 1 << 18)
    except zstandard.ZstdError as error:
        raise ValueError(f"it cannot be unpacked: {error}") from None
