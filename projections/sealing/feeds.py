"""Whether a feed tells of every append that made a log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from eventstore.feed import Pointer
from projections.sealing.findings import Finding, Kind


class FeedCheck:
    """What a partition's feed says of its sessions: from which version to which, and where something is left out.

    The order in which it says so is of no account: what it told beside a session that was forgotten, it tells again.
    """

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.trimmed = False
        self._told: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def take(self, pointers: Iterable[Pointer], *, trimmed: bool) -> None:
        """Take what the feed says next."""
        self.trimmed = self.trimmed or trimmed
        for session_id, version, count in pointers:
            told = self._told[session_id]
            if told and told[-1][1] == version - count:
                told[-1] = (told[-1][0], version)
            else:
                told.append((version - count, version))

    def sessions(self) -> set[str]:
        """Return the sessions of which it tells."""
        return set(self._told)

    def end(self, session_id: str) -> int:
        """Return the last version of which it tells, 0 if of none."""
        return max((end for _, end in self._told.get(session_id, ())), default=0)

    def finding(self, session_id: str, last_version: int) -> Finding | None:
        """Return what it does not say of a log that ends at a version."""
        told = sorted(self._told.get(session_id, ()))
        reached = told[0][0] if told and self.trimmed else 0
        for start, end in told:
            if start > reached:
                break
            reached = max(reached, end)
        if reached < last_version and (told or not self.trimmed):
            return _silent(session_id, reached + 1)
        return None


def _silent(session_id: str, version: int) -> Finding:
    text = f"The feed does not tell of the append of version {version}."
    return Finding(Kind.FEED, text, session_id, version, version)
