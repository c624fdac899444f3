"""Whether a feed tells of every append that made a log."""

from __future__ import annotations

from collections.abc import Iterable

from eventstore.feed import Pointer
from projections.sealing.findings import Finding, Kind


class FeedCheck:
    """What a partition's feed says of its sessions: from which version to which, and where something is left out."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.trimmed = False
        self._ends: dict[str, int] = {}
        self._starts: dict[str, int] = {}
        self._gaps: dict[str, int] = {}

    def take(self, pointers: Iterable[Pointer], *, trimmed: bool) -> None:
        """Take what the feed says next."""
        self.trimmed = self.trimmed or trimmed
        for session_id, version, count in pointers:
            start = version - count
            if self._ends.setdefault(session_id, start) != start:
                self._gaps.setdefault(session_id, min(self._ends[session_id], start) + 1)
            self._starts.setdefault(session_id, start)
            self._ends[session_id] = version

    def sessions(self) -> set[str]:
        """Return the sessions of which it tells."""
        return set(self._ends)

    def end(self, session_id: str) -> int:
        """Return the last version of which it tells, 0 if of none."""
        return self._ends.get(session_id, 0)

    def finding(self, session_id: str, last_version: int) -> Finding | None:
        """Return what it does not say of a log that ends at a version."""
        if gap := self._gaps.get(session_id):
            return _silent(session_id, gap)
        if not self.trimmed and self._starts.get(session_id, 0):
            return _silent(session_id, 1)
        if self.end(session_id) < last_version and (session_id in self._ends or not self.trimmed):
            return _silent(session_id, self.end(session_id) + 1)
        return None


def _silent(session_id: str, version: int) -> Finding:
    return Finding(
        Kind.FEED, f"The feed does not tell of the append of version {version}.", session_id, version, version
    )
