"""From a store to lines."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence

from eventstore.errors import CorruptLog, UnknownSession
from eventstore.partitions import partition_of
from eventstore.proof import merkle
from eventstore.proof.chain import ChainHead, genesis, link
from eventstore.proof.seals import Statement, decode, head_of, leaves
from eventstore.raw import open_raw
from eventstore.store import EventStore
from projections.sealing.keeping import open_seals
from projections.transfer import records


class Exporter:
    """Writes sessions down, and counts those that it wrote last.

    It only reads the store, and may run while others write: a session is taken as it stands.

    It judges no seals: whoever reads the lines does, with a key of his own.
    """

    def __init__(self, store: EventStore) -> None:
        """Read nothing yet."""
        self.sessions = 0
        self.events = 0
        self._store = store
        self._raw = open_raw(store)
        self._seals = open_seals(store)
        self._sealed: dict[int, _Sealed] = {}

    async def lines(self, session_ids: Sequence[str] | None = None) -> AsyncIterator[bytes]:
        """Give the lines, line ends included, of some sessions or of all.

        Raises:
            UnknownSession: One of the sessions does not exist.
            CorruptLog: A log has a gap, or an entry that is none of ours. Run ``verify.py``.
        """
        self.sessions = self.events = 0
        digest = hashlib.sha256()
        async for line in self._lines(session_ids):
            text = records.encode(line) + b"\n"
            digest.update(text)
            yield text
        yield records.encode(records.End(self.sessions, self.events, digest.hexdigest())) + b"\n"

    async def _lines(self, session_ids: Sequence[str] | None) -> AsyncIterator[records.Line]:
        store = self._store
        exported_ms = int((await store.now()).timestamp() * 1000)
        yield records.Export(records.FORMAT, store.namespace, store.partitions, exported_ms)
        if session_ids is not None:
            for session_id in dict.fromkeys(session_ids):
                async for line in self._session(session_id):
                    yield line
            return
        for partition in range(store.partitions):
            # The seals first: what they tell of is in the logs, which only grow.
            await self._sealed_in(partition)
            for session_id in sorted(await self._raw.heads(partition), key=str.encode):
                async for line in self._session(session_id):
                    yield line
        for partition in range(store.partitions):
            for number, seal in (await self._sealed_in(partition)).stored:
                yield records.Seal(partition, number, seal.decode())

    async def _session(self, session_id: str) -> AsyncIterator[records.Line]:
        sealed = await self._sealed_in(partition_of(session_id.encode(), self._store.partitions))
        head = await self._raw.head(session_id)
        if head is None:
            raise UnknownSession(session_id)
        chain = genesis(session_id.encode())
        async for page in self._raw.entries(session_id, until=head.version):
            for version, recorded_ms, entry in page:
                if version != chain.version + 1 or entry is None:
                    raise CorruptLog(session_id, chain.version + 1, "it is missing, or no entry of ours")
                chain = link(chain, recorded_ms, entry)
                yield records.Event.of(session_id, version, recorded_ms, entry)
        if chain.version != head.version:
            raise CorruptLog(session_id, chain.version + 1, f"the log ends before version {head.version}")
        self.sessions += 1
        self.events += chain.version
        yield records.Session(session_id, chain.version, chain.digest.hex(), sealed.proof(session_id))

    async def _sealed_in(self, partition: int) -> _Sealed:
        if partition not in self._sealed:
            self._sealed[partition] = _Sealed(await self._seals.seals(partition))
        return self._sealed[partition]


class _Sealed:
    """The seals of a partition, taken at their word."""

    def __init__(self, stored: Sequence[tuple[int, bytes]]) -> None:
        self.stored = stored
        self._heads: dict[str, ChainHead] = {}
        self._newest: tuple[Statement, str] | None = None
        for _, text in stored:
            try:
                seal = decode(text)
                self._heads |= {written[0]: head_of(written) for written in seal.changed}
            except ValueError:
                break
            self._newest = (seal.statement, seal.signature)
        self._tree = merkle.Tree(leaves(self._heads))
        self._places = {name: place for place, name in enumerate(sorted(self._heads, key=str.encode))}

    def proof(self, session_id: str) -> records.Proof | None:
        """Return what the newest seal says of a session, None if it says nothing."""
        head = self._heads.get(session_id)
        if head is None or self._newest is None:
            return None
        index = self._places[session_id]
        path = [each.hex() for each in self._tree.inclusion(index)]
        return records.Proof(*self._newest, head.version, head.recorded_ms, head.digest.hex(), index, path)
