"""The tombstones of a partition, held against what else is known of the sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from eventstore.ids import tombstone_field
from eventstore.proof.signing import Keyring
from eventstore.proof.tombstones import Tombstone, decode, name_of
from eventstore.store import EventStore
from projections.forgetting.erasing import open_eraser
from projections.sealing.findings import Finding, Forgotten, Kind
from projections.sealing.walking import Mark

UNDER_WAY_MS = 60_000
"""For how long a session may be in the middle of being forgotten before that is a finding."""


class Graveyard:
    """The tombstones of a partition, as they stood when they were read."""

    def __init__(
        self, namespace: str, partition: int, stored: Mapping[str, bytes], keyring: Keyring, now_ms: int
    ) -> None:
        """Take the tombstones, by `Grave.field`. Without a trusted key none is believed."""
        self._namespace = namespace
        self._partition = partition
        self._stored = stored
        self._keyring = keyring
        self._now_ms = now_ms

    @classmethod
    async def read(cls, store: EventStore, partition: int, keyring: Keyring) -> Graveyard:
        """Read the tombstones of a partition."""
        stored = {grave.field: each for grave, each in (await open_eraser(store).tombstones(partition)).items()}
        return cls(store.namespace, partition, stored, keyring, int((await store.now()).timestamp() * 1000))

    def __contains__(self, session_id: object) -> bool:
        """Whether a session has a tombstone, be it what it may."""
        return bool(self._stored) and tombstone_field(str(session_id).encode(errors="replace")) in self._stored

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._stored)

    def believed(self, session_id: str) -> bool:
        """Whether a session has a tombstone that a trusted key has signed."""
        if session_id not in self:
            return False
        try:
            tombstone = decode(self._stored[tombstone_field(session_id.encode())])
        except ValueError:
            return False
        return self._doubt(tombstone, name_of(session_id)) is None

    def of_session(
        self, session_id: str, marks: Sequence[Mark], remains: Mapping[str, Sequence[str]]
    ) -> Forgotten | Finding:
        """Return what to say of a session that has a tombstone.

        Args:
            session_id: The session.
            marks: What seals and manifests know of it.
            remains: What there is of sessions that have a tombstone.
        """
        return self._judged(tombstone_field(session_id.encode()), session_id, marks, remains)

    def others(self, session_ids: Iterable[str], remains: Mapping[str, Sequence[str]]) -> list[Forgotten | Finding]:
        """Return what to say of the tombstones of which nobody knows the session."""
        known = {tombstone_field(session_id.encode()) for session_id in session_ids}
        return [self._judged(field, None, (), remains) for field in self._stored if field not in known]

    def _judged(
        self, field: str, session_id: str | None, marks: Sequence[Mark], remains: Mapping[str, Sequence[str]]
    ) -> Forgotten | Finding:
        try:
            tombstone = decode(self._stored[field])
        except ValueError as error:
            return self._finding(session_id, f"The tombstone {field} cannot be read ({error})")
        doubt = self._doubt(tombstone, name_of(session_id) if session_id is not None else None)
        doubt = doubt or next(filter(None, (_contradiction(tombstone, mark) for mark in marks)), None)
        if doubt is None and tombstone.done and field in remains:
            doubt = f"stands, and there is something left: {', '.join(remains[field][:5])}"
        if doubt is None and not tombstone.done and tombstone.begun_ms < self._now_ms - UNDER_WAY_MS:
            doubt = "tells of a session that is half forgotten: complete it with scripts/forget.py --complete"
        if doubt is not None:
            return self._finding(session_id, f"The tombstone of session {tombstone.session[:12]}... {doubt}")
        return Forgotten(session_id, tombstone)

    def _doubt(self, tombstone: Tombstone, name: str | None) -> str | None:
        """Return why a tombstone cannot be believed, None if it can."""
        if (tombstone.namespace, tombstone.partition) != (self._namespace, self._partition):
            return "is one of another partition or namespace"
        if name is not None and tombstone.session != name:
            return "is that of another session"
        if len(self._keyring) and not tombstone.signed_by(self._keyring):
            return "is not signed by a trusted key"
        return None

    def _finding(self, session_id: str | None, text: str) -> Finding:
        return Finding(Kind.TOMBSTONE, f"{text}.", session_id, partition=self._partition)


def _contradiction(tombstone: Tombstone, mark: Mark) -> str | None:
    if not tombstone.done:
        return None
    if mark.head.version > tombstone.version:
        return f"says {tombstone.version} events, and {mark.source} knows {mark.head.version}"
    if mark.head.version == tombstone.version and tombstone.digest not in ("", mark.head.digest.hex()):
        return f"has another digest than {mark.source} at version {tombstone.version}"
    return None
