"""What a check of a log can find, and its verdict."""

from __future__ import annotations

import enum

import msgspec

from eventstore.proof.tombstones import Tombstone


class Kind(enum.Enum):
    """What is wrong."""

    MISSING = "missing"
    """A version is not there, though later ones are: an entry was deleted."""
    DISORDER = "disorder"
    """A version stands twice or out of order, or a time goes back."""
    UNREADABLE = "unreadable"
    """An entry is not an event."""
    CHANGED = "changed"
    """An entry is not the one that was sealed."""
    TRUNCATED = "truncated"
    """The log ends before a version that it has had."""
    REMOVED = "removed"
    """A whole session is gone."""
    HEAD = "head"
    """The head of a session is not the end of its log."""
    FEED = "feed"
    """The feed does not tell of the appends that made the log."""
    BACKDATED = "backdated"
    """An event says that it is older than a seal that does not know it."""
    ARCHIVE = "archive"
    """The archive lacks the file of a log, or has another one."""
    SEAL = "seal"
    """A seal is missing, cannot be read, does not follow from the one before it, or nobody trusted has signed it."""
    TOMBSTONE = "tombstone"
    """A tombstone cannot be believed, or there is something left of the session."""
    MANIFEST = "manifest"
    """A manifest cannot be believed, or the store has other seals than those in it."""


class Forgotten(msgspec.Struct, frozen=True):
    """A session that was forgotten on purpose: its tombstone stands, and can be believed.

    Attributes:
        session_id: The session, where it is known by that name: from seals and manifests, or because it was asked for.
        tombstone: What is left of it.
    """

    session_id: str | None
    tombstone: Tombstone


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        kind: What.
        message: The same in a sentence.
        session_id: In which session; None if it is not about one.
        version: The first version that is bad, or may be; 0 if it is not about one.
        until: The last version that may be the first bad one, where that cannot be told more exactly.
        partition: In which partition; None if it is not about one.
    """

    kind: Kind
    message: str
    session_id: str | None = None
    version: int = 0
    until: int = 0
    partition: int | None = None


class Verdict(msgspec.Struct):
    """What a check came to.

    Attributes:
        namespace: The store's.
        sessions: How many sessions were looked at.
        events: How many events they have.
        archived: How many of these sessions have their logs in the archive; without it they are not looked into.
        sealed_events: How many of these are what was sealed.
        seals: How many seals were read.
        sealed_ms: When the newest of them was made, in Unix milliseconds; 0 if there is none.
        manifests: How many manifests the store was held against.
        forgotten: The sessions that were forgotten on purpose.
        findings: What is wrong.
        notes: What is no contradiction, but worth to be known.
        doubts: Why the check, though it found nothing, does not prove that nothing was changed.
    """

    namespace: str
    sessions: int = 0
    events: int = 0
    archived: int = 0
    sealed_events: int = 0
    seals: int = 0
    sealed_ms: int = 0
    manifests: int = 0
    forgotten: list[Forgotten] = []
    findings: list[Finding] = []
    notes: list[str] = []
    doubts: list[str] = []

    @property
    def unsealed_events(self) -> int:
        """Events that are newer than the seals, of which nothing is proved."""
        return self.events - self.sealed_events

    @property
    def proved(self) -> bool:
        """Whether everything up to the newest seals is as it was."""
        return not self.findings and not self.doubts
