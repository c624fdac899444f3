"""The whole check of a log: seals, manifests, feeds, heads, and every entry. It only reads, and may run at any time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from eventstore.archive.places import ARCHIVE_VARIABLE
from eventstore.errors import CorruptLog, InvalidSessionId, SessionArchived, StoreRefused
from eventstore.feed import FeedId
from eventstore.ids import check_session_id
from eventstore.partitions import partition_of
from eventstore.proof.manifests import Manifest, Sealed, doubts
from eventstore.proof.signing import Keyring
from eventstore.raw import open_raw
from eventstore.rawlog import Head
from eventstore.store import EventStore
from projections.forgetting.erasing import open_eraser
from projections.sealing.book import Book
from projections.sealing.feeds import FeedCheck
from projections.sealing.findings import Finding, Forgotten, Kind, Verdict
from projections.sealing.forgotten import Graveyard
from projections.sealing.keeping import open_seals
from projections.sealing.walking import Mark, Walk

SESSIONS_AT_ONCE = 32


class Verifier:
    """Checks logs.

    Args:
        store: The log.
        keyring: The public keys whose seals are believed. Without one, no seal is.
        manifests: What was exported at earlier times, with a name for each. They are believed under the same keys.
        seen: Is told how many events have just been looked at, page by page.
    """

    def __init__(
        self,
        store: EventStore,
        keyring: Keyring,
        manifests: Sequence[tuple[str, Manifest]] = (),
        seen: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Read nothing yet."""
        self._store = store
        self._raw = open_raw(store)
        self._seals = open_seals(store)
        self._eraser = open_eraser(store)
        self._keyring = keyring
        self._manifests = manifests
        self._seen = seen
        self._unread = 0

    async def verify(self, session_ids: Sequence[str] | None = None) -> Verdict:
        """Check some sessions, or all and that there are no others.

        Raises:
            InvalidInput: A session id is none.
            StoreUnavailable: The server does not answer.
        """
        verdict = Verdict(self._store.namespace, manifests=len(self._manifests))
        self._unread = 0
        wanted = None if session_ids is None else self._by_partition(session_ids)
        manifests = self._believed(verdict)
        logs = self._by_partition(self._possible(await self._raw.logs(), verdict)) if wanted is None else {}
        unsealed: list[int] = []
        for partition in range(self._store.partitions) if wanted is None else sorted(wanted):
            book = await self._read_seals(partition, verdict)
            if book.statement is None:
                unsealed.append(partition)
            only = None if wanted is None else wanted[partition]
            await self._partition(book, manifests, logs.get(partition, set()), only, verdict)
        self._note_doubts(unsealed, verdict)
        if self._unread:
            text = f"{self._unread:,} archived sessions were not looked into: name the archive"
            verdict.doubts.append(f"{text} (--archive, or {ARCHIVE_VARIABLE} in the environment).")
        return verdict

    def _believed(self, verdict: Verdict) -> list[tuple[str, Manifest]]:
        """Return the manifests that can be believed, and note why others cannot."""
        believed = []
        for name, manifest in self._manifests if len(self._keyring) else ():
            reasons = doubts(manifest, self._keyring)
            if manifest.namespace != self._store.namespace or len(manifest.seals) != self._store.partitions:
                reasons = [f"it is one of namespace {manifest.namespace!r} with {len(manifest.seals)} partitions"]
            if reasons:
                verdict.findings.append(Finding(Kind.MANIFEST, f"{name} cannot be believed: {reasons[0]}."))
            else:
                believed.append((name, manifest))
        return believed

    async def _read_seals(self, partition: int, verdict: Verdict) -> Book:
        book = Book(self._store.namespace, self._store.partitions, partition, self._keyring)
        stored = await self._seals.seals(partition)
        verdict.seals += len(stored)
        if len(self._keyring) and (finding := book.take(stored)):
            verdict.findings.append(finding)
        if book.statement:
            verdict.sealed_ms = max(verdict.sealed_ms, book.statement.sealed_ms)
        return book

    async def _partition(
        self,
        book: Book,
        manifests: Sequence[tuple[str, Manifest]],
        logs: set[str],
        only: set[str] | None,
        verdict: Verdict,
    ) -> None:
        """Check the sessions of a partition, in an order in which what is appended meanwhile does no harm."""
        feed = FeedCheck()
        place = await self._read_feed(book.partition, feed, (0, 0), verdict)
        told = {name: feed.end(name) for name in feed.sessions()}
        heads = await self._raw.heads(book.partition) if only is None else await self._heads_of(only)
        archived = await self._raw.all_archived(book.partition)
        marks = {
            name: [Mark(head, "a seal", before_ms) for head, before_ms in found] for name, found in book.marks.items()
        }
        for name, manifest in manifests:
            _add_marks(marks, book, name, manifest.seals[book.partition], verdict)
        verdict.archived += len(archived if only is None else only & archived.keys())
        names = sorted(only if only is not None else self._possible({*heads, *logs, *marks, *told}, verdict))
        walks: list[tuple[Walk, Finding | None]] = []
        for start in range(0, len(names), SESSIONS_AT_ONCE):
            batch = names[start : start + SESSIONS_AT_ONCE]
            walks += await asyncio.gather(
                *(self._walk(name, book, marks.get(name, []), heads.get(name), told.get(name, 0)) for name in batch)
            )
        await self._read_feed(book.partition, feed, place, verdict)
        graves = await Graveyard.read(self._store, book.partition, self._keyring)
        remains = (
            await self._eraser.remains() if graves and (only is None or any(map(graves.__contains__, only))) else {}
        )
        for walk, finding in walks:
            if walk.session_id in graves:
                _tell(graves.of_session(walk.session_id, marks.get(walk.session_id, ()), remains), verdict)
                continue
            self._unread += walk.unread
            _note(walk, finding or feed.finding(walk.session_id, walk.last_version), verdict)
        for judged in graves.others(names, remains) if only is None else ():
            _tell(judged, verdict)

    async def _walk(
        self, session_id: str, book: Book, marks: list[Mark], head: Head | None, told: int
    ) -> tuple[Walk, Finding | None]:
        """Go through a session's log, and then see whether it ends where its head and the feed say."""
        try:
            links = await self._seals.links(session_id)
            walk = Walk(session_id, marks, links, book.statement.sealed_ms if book.statement else 0)
            async for page in self._raw.entries(session_id):
                walk.take(page)
                self._seen(len(page))
        except SessionArchived:
            return Walk(session_id, (), b"", 0, unread=True), None
        except CorruptLog as damaged:  # so the archive is: what lies in the log itself is looked at, whatever it is
            at = damaged.version
            return Walk(session_id, (), b"", 0), Finding(Kind.ARCHIVE, str(damaged), session_id, at, at)
        except StoreRefused as refused:
            text = f"The log is not a log: {refused}"
            return Walk(session_id, (), b"", 0), Finding(Kind.UNREADABLE, text, session_id, 1, 1)
        walk.end()
        return walk, walk.finding or await self._end(session_id, Head(walk.last_version, walk.last_ms), head, told)

    async def _end(self, session_id: str, last: Head, head: Head | None, told: int) -> Finding | None:
        """Return what is wrong with where a log ends, given its head and what the feed told before it was read."""
        known = max(head.version if head else 0, told)
        if known > last.version:
            text = f"The log ends at version {last.version}, and it has had version {known}."
            kind = Kind.TRUNCATED if last.version else Kind.REMOVED
            return Finding(kind, text, session_id, last.version + 1, last.version + 1)
        if not last.version:
            return Finding(Kind.REMOVED, "There is no such session.", session_id, 1, 1)
        now = head if head == last else await self._raw.head(session_id) or Head(0, 0)
        if now == last or now.version > last.version:  # it may have been appended to since it was read
            return None
        text = (
            f"The log ends with {last.version}-{last.recorded_ms}, and its head says {now.version}-{now.recorded_ms}."
        )
        return Finding(Kind.HEAD, text, session_id, min(now.version + 1, last.version), last.version)

    def _possible(self, names: set[str], verdict: Verdict) -> set[str]:
        """Leave out names that no session can have, and note each."""
        possible = set()
        for name in names:
            try:
                check_session_id(name)
                possible.add(name)
            except InvalidSessionId as error:
                text = f"There is something of a session that no append can have made: {error}"
                verdict.findings.append(Finding(Kind.UNREADABLE, text))
        return possible

    async def _heads_of(self, session_ids: set[str]) -> dict[str, Head]:
        found = {name: await self._raw.head(name) for name in session_ids}
        return {name: head for name, head in found.items() if head is not None}

    async def _read_feed(self, partition: int, feed: FeedCheck, after: FeedId, verdict: Verdict) -> FeedId:
        found = await self._raw.pointers(partition, after)
        feed.take(found.pointers, trimmed=found.trimmed)
        for place in found.malformed:
            text = f"The entry {place[0]}-{place[1]} of the feed cannot be read."
            verdict.findings.append(Finding(Kind.FEED, text, partition=partition))
        return found.end

    def _note_doubts(self, unsealed: Sequence[int], verdict: Verdict) -> None:
        if not len(self._keyring):
            verdict.doubts.append("No public key was given, so no seal and no manifest could be believed.")
        elif not verdict.seals and not verdict.manifests:
            verdict.doubts.append("Nothing has been sealed, so nothing is proved.")
        elif verdict.seals and not verdict.findings:
            verdict.findings += [
                Finding(Kind.SEAL, f"Partition {partition} has no seals, and others have.", partition=partition)
                for partition in unsealed
            ]

    def _by_partition(self, session_ids: Sequence[str] | set[str]) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for session_id in session_ids:
            found.setdefault(partition_of(check_session_id(session_id), self._store.partitions), set()).add(session_id)
        return found


def _add_marks(marks: dict[str, list[Mark]], book: Book, name: str, sealed: Sealed, verdict: Verdict) -> None:
    """Hold the seals of a partition against a manifest, and take what it says of the chains."""
    number = sealed.statement.number
    if book.hashes.get(number) != sealed.statement.hash:
        what = "another one" if number in book.hashes else "none of this number that can be believed"
        text = f"{name} has seal {number} of partition {book.partition}, and the store has {what}."
        verdict.findings.append(Finding(Kind.MANIFEST, text, partition=book.partition))
    for session_id, head in (sealed.chains() or {}).items():
        marks.setdefault(session_id, []).append(Mark(head, name))


def _tell(judged: Forgotten | Finding, verdict: Verdict) -> None:
    if isinstance(judged, Finding):
        verdict.findings.append(judged)
    else:
        verdict.forgotten.append(judged)


def _note(walk: Walk, finding: Finding | None, verdict: Verdict) -> None:
    verdict.sessions += 1
    verdict.events += walk.events
    verdict.sealed_events += walk.sealed
    if walk.note is not None:
        verdict.notes.append(walk.note)
    if finding is not None:
        verdict.findings.append(finding)
