"""One session's log, entry by entry, against what the seals and manifests say of its chain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from eventstore.codec import decode
from eventstore.errors import CorruptLog
from eventstore.proof.chain import DIGEST_BYTES, ChainHead, genesis, link
from eventstore.rawlog import RawEntry
from projections.sealing.findings import Finding, Kind

SLACK_MS = 2000
"""By how much an event may be older than a seal that does not know it: a server's clock is set back now and then."""


class Mark(NamedTuple):
    """Where a session's chain stood, who says so, and when the seal before that one was made (0 if it is not known)."""

    head: ChainHead
    source: str
    before_ms: int = 0


class Walk:
    """Goes through a log from its beginning. The first thing that is wrong is kept; what comes after it is counted.

    Args:
        session_id: The session.
        marks: What its chain must be.
        links: The digests that are kept beside the log: they prove nothing, but tell at which version a log that is not
            what was sealed becomes different.
        sealed_ms: When the newest seal was made; 0 for none.
        unread: Whether the log cannot be gone through, because it lies in an archive that is not at hand.
    """

    def __init__(
        self, session_id: str, marks: Iterable[Mark], links: bytes, sealed_ms: int, *, unread: bool = False
    ) -> None:
        """Begin before the first entry."""
        self.unread = unread
        self.session_id = session_id
        self.events = 0
        self.sealed = 0
        self.last_version = 0
        self.last_ms = 0
        self.finding: Finding | None = None
        self._marks = sorted(marks, key=lambda mark: (mark.head.version, -mark.before_ms))
        self._late: list[int] = []
        self._passed = 0
        self._links = links
        self._sealed_ms = sealed_ms
        self._chain = genesis(session_id.encode())
        self._differs = 0

    def take(self, page: Sequence[RawEntry]) -> None:
        """Go through some entries."""
        for entry in page:
            self.events += 1
            self.last_version, self.last_ms = max(self.last_version, entry.version), entry.recorded_ms
            if self.finding is None:
                self._step(entry)

    def end(self) -> None:
        """Say that the log ends here."""
        if self.finding is not None or self._passed == len(self._marks):
            self._check_links()
            return
        mark = self._marks[-1]
        if not self.events:
            self._wrong(Kind.REMOVED, 1, f"The session is gone: {mark.source} knows {mark.head.version} events of it")
        elif self._differs and self._credible(mark):
            self._changed(mark)
        else:
            end = self._chain.version + 1
            first = end if self._credible(mark) else self.sealed + 1
            text = f"The log ends at version {end - 1}, and {mark.source} knows version {mark.head.version}"
            unsure = f"; of what is left, nothing proves the versions {first} to {end - 1}" if first < end else ""
            self._wrong(Kind.TRUNCATED, first, text + unsure, until=end)

    @property
    def note(self) -> str | None:
        """What is no contradiction, but worth to be known."""
        if not self._late:
            return None
        first, last = self._late
        text = f"{self.session_id!r}, versions {first} to {last}, say that they are older than a seal"
        return f"{text} that did not know them, and were sealed later: an import, or somebody put them there."

    def _step(self, found: RawEntry) -> None:
        expected = self._chain.version + 1
        if found.version > expected:
            self._wrong(Kind.MISSING, expected, f"Version {expected} is missing: version {found.version} comes next")
        elif found.version < expected:
            self._wrong(Kind.DISORDER, found.version, f"Version {found.version} stands in the log twice")
        elif found.recorded_ms < self._chain.recorded_ms:
            self._wrong(Kind.DISORDER, expected, f"Version {expected} is older than the one before it")
        elif found.entry is None or not self._readable(found):
            # What was sealed was no better, if it was sealed at all: a changed entry may be unreadable, too.
            self._wrong(Kind.UNREADABLE, expected, f"The entry of version {expected} is not an event")
        else:
            self._chain = link(self._chain, found.recorded_ms, found.entry)
            if not self._differs and self._link(expected) not in (b"", self._chain.digest):
                self._differs = expected
            self._compare()

    def _compare(self) -> None:
        version = self._chain.version
        before_ms = self._marks[self._passed].before_ms if self._passed < len(self._marks) else 0
        if self._chain.recorded_ms < before_ms - SLACK_MS:
            self._late = [self._late[0] if self._late else version, version]
        while self._passed < len(self._marks) and self._marks[self._passed].head.version == version:
            mark = self._marks[self._passed]
            if mark.head != self._chain:
                self._changed(mark)
                return
            self._passed += 1
            self.sealed = version
        newest = self._marks[-1].head.version if self._marks else 0
        if version > newest and self._chain.recorded_ms < self._sealed_ms - SLACK_MS:
            text = f"Version {version} says that it is older than the newest seal, and the seal does not know it"
            self._wrong(Kind.BACKDATED, version, f"{text}: it was put there later, by an import or by somebody")

    def _changed(self, mark: Mark) -> None:
        if self._differs and self._credible(mark):
            text = f"Version {self._differs} is not what was sealed: so says {mark.source}"
            self._wrong(Kind.CHANGED, self._differs, text)
            return
        first, last = self.sealed + 1, mark.head.version
        where = f"version {first}" if first == last else f"one of the versions {first} to {last}"
        text = f"It is not what was sealed, from {where} on: so says {mark.source}"
        self._wrong(Kind.CHANGED, first, text, until=last)

    def _check_links(self) -> None:
        if self.finding is None and 0 < self._differs <= self.sealed:
            text = "The log is what was sealed, but the digests that are kept beside it are not its own"
            self._wrong(Kind.SEAL, self._differs, f"{text} at version {self._differs}")

    def _credible(self, mark: Mark) -> bool:
        """Whether the digests that are kept beside the log are those of the chain that was sealed."""
        return self._link(mark.head.version) == mark.head.digest

    def _link(self, version: int) -> bytes:
        found = self._links[(version - 1) * DIGEST_BYTES : version * DIGEST_BYTES]
        return found if len(found) == DIGEST_BYTES else b""

    def _readable(self, found: RawEntry) -> bool:
        try:
            decode(self.session_id, found.version, found.recorded_ms, found.entry or b"")
        except CorruptLog:
            return False
        return True

    def _wrong(self, kind: Kind, version: int, text: str, *, until: int = 0) -> None:
        self.finding = Finding(kind, f"{text}.", self.session_id, version, until or version)
