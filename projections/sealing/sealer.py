"""The sealer: extends the chains by what is new in the logs, and signs where they stand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from eventstore.errors import CorruptLog, InvalidSessionId, SealsDoubtful, SessionArchived, StoreRefused
from eventstore.logs import get_logger
from eventstore.proof.chain import ChainHead, genesis, link
from eventstore.proof.manifests import Manifest, make_manifest
from eventstore.proof.seals import Heads, Statement, encode, make_seal
from eventstore.proof.signing import Keyring, Signer
from eventstore.raw import open_raw
from eventstore.rawlog import Head
from eventstore.store import EventStore
from projections.sealing.book import Book
from projections.sealing.findings import Finding, Kind
from projections.sealing.forgotten import Graveyard
from projections.sealing.keeping import open_seals

log = get_logger("sealer")

SESSIONS_AT_ONCE = 64


class Round(msgspec.Struct):
    """What one round of sealing did.

    Attributes:
        seals: How many seals were made.
        sessions: How many sessions had something new.
        events: How many events were sealed.
        findings: What was not sealed, and why.
    """

    seals: int = 0
    sessions: int = 0
    events: int = 0
    findings: list[Finding] = []


class Sealer:
    """Seals the logs of a store. It trusts nothing in the store but what its own seals vouch for.

    A chain is extended from where the last seal left it, never made again: an entry that is changed after it was sealed
    stays a contradiction for ever. Several sealers do no harm: of two that make the same seal, one is kept.

    Args:
        store: The log.
        signer: The key.
        trusted: Public keys of earlier signers, whose seals are built upon.
    """

    def __init__(self, store: EventStore, signer: Signer, trusted: Iterable[bytes] = ()) -> None:
        """Begin with nothing read."""
        self._store = store
        self._raw = open_raw(store)
        self._seals = open_seals(store)
        self._signer = signer
        self._keyring = Keyring([signer.public, *trusted])
        self._books: dict[int, Book] = {}

    async def seal(self) -> Round:
        """Seal what is new, partition by partition. One in which nothing is new gets no seal, except for its first.

        Raises:
            SealsDoubtful: The seals in the store cannot be believed.
        """
        done = Round()
        for partition in range(self._store.partitions):
            while not await self._seal(partition, done):
                pass
        for finding in done.findings:
            log.error(
                "Not sealed.",
                action="seal_refused",
                session_id=finding.session_id,
                version=finding.version,
                reason=finding.message,
            )
        return done

    async def manifest(self, *, heads: bool = True) -> Manifest:
        """Return the newest seals of all partitions, as something to be kept elsewhere.

        Args:
            heads: Whether to write down every session's chain, too.

        Raises:
            SealsDoubtful: The seals in the store cannot be believed.
        """
        newest: dict[int, tuple[Statement, str, Heads]] = {}
        for partition in range(self._store.partitions):
            book = await self._book(partition)
            if book.statement is None:
                raise SealsDoubtful(f"Partition {partition} has never been sealed: seal first.")
            newest[partition] = (book.statement, book.signature, dict(book.heads))
        return make_manifest(self._store.namespace, await self._now(), newest, heads=heads)

    async def _seal(self, partition: int, done: Round) -> bool:
        """Seal a partition. Return False if another sealer was first: then it is to be done again, behind that one."""
        book = await self._book(partition)
        now = await self._now()
        heads = await self._raw.heads(partition)
        changed, findings = await self._extended(book, heads)
        if not changed and book.statement is not None:
            done.findings += findings
            return True
        seal = make_seal(
            self._signer,
            namespace=book.namespace,
            partitions=book.partitions,
            partition=partition,
            after=book.statement,
            sealed_ms=max(now, book.statement.sealed_ms if book.statement else 0),
            heads={**book.heads, **changed},
            changed=changed,
        )
        if not await self._seals.add(partition, seal.statement.number, encode(seal)):
            if not await self._seals.seals(partition, after=book.number):
                raise SealsDoubtful(
                    f"Partition {partition} has had a seal {seal.statement.number}, and it was deleted."
                )
            return False
        done.findings += findings
        done.seals += 1
        done.sessions += len(changed)
        done.events += sum(head.version - _version(book.heads, name) for name, head in changed.items())
        book.add(seal, changed)
        return True

    async def _book(self, partition: int) -> Book:
        """Return what the seals of a partition say, with those that came since it was last read."""
        store = self._store
        book = self._books.get(partition) or Book(store.namespace, store.partitions, partition, self._keyring)
        if doubt := book.take(await self._seals.seals(partition, after=book.number)):
            raise SealsDoubtful(f"{doubt.message} Run scripts/verify.py; give earlier keys with --trusted.")
        self._books[partition] = book
        return book

    async def _now(self) -> int:
        return int((await self._store.now()).timestamp() * 1000)

    async def _extended(self, book: Book, heads: Mapping[str, Head]) -> tuple[dict[str, ChainHead], list[Finding]]:
        """Extend the chains of a partition by what is new. Return those that have changed, and what was refused."""
        findings = [
            _refused(
                name, head.version, Kind.REMOVED, f"The session is gone, which was sealed at version {head.version}"
            )
            for name, head in book.heads.items()
            if name not in heads
        ]
        new = [(name, head) for name, head in heads.items() if head != book.heads.get(name, (0, 0, b""))[:2]]
        changed: dict[str, ChainHead] = {}
        for start in range(0, len(new), SESSIONS_AT_ONCE):
            batch = new[start : start + SESSIONS_AT_ONCE]
            ends = await asyncio.gather(*(self._extend(name, book.heads.get(name), head) for name, head in batch))
            for (name, _), end in zip(batch, ends, strict=True):
                if isinstance(end, Finding):
                    findings.append(end)
                else:
                    changed[name] = end
        if findings:  # what was forgotten on purpose is not missing
            graves = await Graveyard.read(self._store, book.partition, self._keyring)
            findings = [each for each in findings if each.session_id is None or not graves.believed(each.session_id)]
        return changed, findings

    async def _extend(self, session_id: str, sealed: ChainHead | None, head: Head) -> ChainHead | Finding:
        """Extend a chain to a head, and keep its digests. What does not fit is not sealed."""
        chain = sealed or genesis(session_id.encode())
        if head.version <= chain.version:
            reason = f"The session was sealed at version {chain.version}, and its head says {head.version}"
            return _refused(session_id, head.version + 1, Kind.TRUNCATED, reason)
        digests: list[bytes] = []
        try:
            async for page in self._raw.entries(session_id, after=chain.version, until=head.version):
                for version, recorded_ms, entry in page:
                    if version != chain.version + 1 or recorded_ms < chain.recorded_ms or entry is None:
                        reason = "What comes next in the log is not the next version"
                        return _refused(session_id, chain.version + 1, Kind.DISORDER, reason)
                    chain = link(chain, recorded_ms, entry)
                    digests.append(chain.digest)
        except (InvalidSessionId, StoreRefused) as error:
            return _refused(session_id, chain.version + 1, Kind.UNREADABLE, f"The log cannot be read ({error})")
        except (SessionArchived, CorruptLog) as error:
            return _refused(session_id, chain.version + 1, Kind.ARCHIVE, str(error).removesuffix("."))
        if chain[:2] != head:
            return _refused(session_id, chain.version + 1, Kind.HEAD, "The log does not end where its head says")
        await self._seals.keep_links(session_id, sealed.version if sealed else 0, digests)
        return chain


def _version(heads: Heads, session_id: str) -> int:
    return heads[session_id].version if session_id in heads else 0


def _refused(session_id: str, version: int, kind: Kind, reason: str) -> Finding:
    return Finding(kind, f"{reason}. It is not sealed.", session_id, version)
