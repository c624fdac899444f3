"""Archiving, on memory and on each server alike: what was answered before is answered after, wherever the log lies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import zstandard
from support.projected import check_views
from support.proofs import seal, talk, verify
from support.whole_api import READS, WRITES, answers

from contextengine import ContextEngine, InvalidInput, UnknownSession, WrongExpectedVersion
from eventstore import (
    NO_STREAM,
    CheckpointStored,
    CheckpointWritesStored,
    ContextSet,
    CorruptLog,
    EventStore,
    HistoryCleared,
    MessageAdded,
    SessionArchived,
    SessionEnded,
    open_store,
)
from eventstore.archive.naming import new_file_name
from eventstore.archive.places import ARCHIVE_VARIABLE, MemoryArchive
from eventstore.events import Event
from eventstore.forking import fork
from eventstore.raw import open_raw
from eventstore.rawlog import Archived
from eventstore.redis.store import RedisStore
from projections import Projector, Queries, ViewStore, open_views
from projections.archiving import Archivist, Outcome
from projections.auditing import audit
from projections.past import past
from projections.rebuilding import rebuild

NOW = timedelta(0)
LONG = 730
"""Events, more than two pages and one commit's tail."""


@pytest.fixture
def archive() -> MemoryArchive:
    """An empty archive."""
    return MemoryArchive()


@pytest.fixture
async def store(url: str, namespace: str, archive: MemoryArchive) -> AsyncIterator[EventStore]:
    """An empty store of each kind in turn, with an archive."""
    async with open_store(url, namespace=namespace, archive=archive) as store:
        yield store


@pytest.fixture
def archivist(store: EventStore, views: ViewStore) -> Archivist:
    """Who archives."""
    return Archivist(store, views)


def conversation(length: int) -> list[Event]:
    """Return the events of a session that has a bit of everything, and has ended."""
    said: list[Event] = [MessageAdded("user", f"message {n}") for n in range(length - 6)]
    return [
        *said,
        ContextSet("plan", {"a": [1]}),
        ContextSet("other", None),
        CheckpointStored("c1", {"step": 1}, {}),
        CheckpointStored("c2", {"step": 2}, {}),
        CheckpointWritesStored("c1", "task", [["channel", 1]]),
        SessionEnded("completed"),
    ]


async def told(store: EventStore, views: ViewStore, session_id: str) -> list[Any]:
    """Return everything that is answered of a session."""
    queries = Queries(store, views, Projector(store, views))
    whole = await store.read(session_id)
    head = len(whole)
    return [
        whole,
        [await store.read(session_id, after=a, until=u) for a, u in [(0, 1), (3, 9), (head - 2, head), (head, None)]],
        [await store.read(session_id, after=a, limit=n) for a, n in [(0, 1), (4, 300), (head - 1, 5), (0, head)]],
        await store.read(session_id, backwards=True),
        [await store.read(session_id, backwards=True, after=a, until=u) for a, u in [(0, 1), (3, 9), (2, head + 5)]],
        [await store.read(session_id, backwards=True, limit=n) for n in (1, 2, 300, head)],
        await store.read(session_id, backwards=True, until=head // 2, limit=3),
        await store.version(session_id),
        await queries.session(session_id),
        await queries.exists(session_id),
        await queries.history(session_id),
        [await queries.history(session_id, n) for n in (1, 3, 500)],
        [await queries.context(session_id, key) for key in ("plan", "other", "none")],
        await queries.context_keys(session_id),
        [await queries.checkpoint(session_id, key) for key in ("c1", "c2", "none")],
        [await queries.checkpoints(session_id, n) for n in (None, 1)],
        [await queries.writes(session_id, key) for key in ("c1", "none")],
        await queries.sessions(),
        await queries.totals(),
        vars(await past(store, session_id)),
        vars(await past(store, session_id, at_version=head // 2)),
    ]


async def at_once(store: EventStore, views: ViewStore, session_ids: list[str]) -> None:
    """Bring views up to date."""
    assert not await Projector(store, views).project(session_ids)


async def only(store: EventStore) -> list[int]:
    """Return up to which versions the files hold logs of which logs tell, and see that these are all in the end."""
    archivist = Archivist(store, open_views(store))
    noted = [archived async for _, archived in archivist.archived()]
    assert (await archivist.sweep()).missing == []
    assert (await archivist.sweep(NOW)).left == []
    assert store.archive is not None
    assert await store.archive.names() == sorted(archived.file for archived in noted)
    return [archived.version for archived in noted]


@pytest.mark.guarantee("K1")
@pytest.mark.parametrize("length", [7, 250, LONG])
async def test_every_answer_stays(store: EventStore, views: ViewStore, archivist: Archivist, length: int) -> None:
    """Whatever is asked of a session is answered as before it was archived, and as before when it was restored."""
    await store.append("s", conversation(length))
    await store.append("other", MessageAdded("user", "hi"))
    await at_once(store, views, ["s", "other"])
    before = await told(store, views, "s")
    filed = await archivist.archive("s")
    assert (filed.outcome, filed.version) == (Outcome.ARCHIVED, length)
    assert filed.entry_bytes == sum(len(event.entry) for event in before[0])
    assert await told(store, views, "s") == before
    assert (await archivist.archive("s")).outcome is Outcome.PRESENT
    restored = await archivist.restore("s")
    assert (restored.outcome, restored.version) == (Outcome.RESTORED, length)
    assert await told(store, views, "s") == before
    await check_views(store, views=views)
    assert (await archivist.restore("s")).outcome is Outcome.NOT_ARCHIVED


@pytest.mark.guarantee("K1")
async def test_what_is_kept_is_one_entry(store: EventStore, views: ViewStore, archivist: Archivist) -> None:
    """Of an archived session the log keeps its last entry, the views the session view; one file has it all."""
    await store.append("s", conversation(LONG))
    await at_once(store, views, ["s"])
    await archivist.archive("s")
    if isinstance(store, RedisStore):
        log, key = store.log("s"), store.keys.of_session(b"history@1", b"s")
        assert await store.links.call("XLEN", log.key) == 1
        assert await store.links.call("EXISTS", key) == 0
    else:
        assert sum(entry is not None for _, entry in store.stored("s")) == 1  # type: ignore[attr-defined]
    ((session_id, archived),) = [each async for each in archivist.archived()]
    assert (session_id, archived.version) == ("s", LONG)
    assert store.archive is not None
    assert await store.archive.names() == [archived.file]


@pytest.mark.guarantee("K1")
async def test_it_goes_on(store: EventStore, views: ViewStore, archivist: Archivist) -> None:
    """What is appended to an archived session has the next version, and is read together with what is archived."""
    await store.append("s", conversation(300))
    await archivist.archive("s")
    assert (await store.append("s", MessageAdded("user", "late"), expected_version=300)).version == 301
    assert (
        await store.append("s", [ContextSet("plan", 2), HistoryCleared(), MessageAdded("user", "later")])
    ).version == 304
    for _ in range(2):
        queries = Queries(store, views, Projector(store, views))
        assert [event.version for event in await store.read("s")] == list(range(1, 305))
        assert [event.version for event in await store.read("s", backwards=True, limit=200)] == list(
            range(304, 104, -1)
        )
        assert [message["content"] for message in await queries.history("s")] == ["later"]
        assert await queries.context("s", "plan") == (2, 304)
        await at_once(store, views, ["s"])
    filed = await archivist.archive("s")
    assert (filed.outcome, filed.version) == (Outcome.ARCHIVED, 304)
    assert await only(store) == [filed.version]
    before = await told(store, views, "s")
    await store.append("s", MessageAdded("user", "again"))
    await archivist.restore("s")
    assert (await store.read("s"))[:304] == before[0]
    assert await only(store) == []
    await at_once(store, views, ["s"])
    await check_views(store, views=views)


@pytest.mark.guarantee("K1")
async def test_a_conflict_bears_what_got_there_first(store: EventStore, archivist: Archivist) -> None:
    """An append that expected an earlier version is told the events since, out of the archive too, 100 at most."""
    await store.append("s", conversation(300))
    await archivist.archive("s")
    await store.append("s", MessageAdded("user", "late"))
    for expected, versions in ((0, range(1, 101)), (298, range(299, 302)), (300, [301]), (301, [])):
        if expected == 301:
            continue
        with pytest.raises(WrongExpectedVersion) as conflict:
            await store.append("s", MessageAdded("user", "x"), expected_version=expected)
        assert [event.version for event in conflict.value.events] == list(versions)
        assert conflict.value.version == 301
    with pytest.raises(WrongExpectedVersion) as conflict:
        await store.append("s", MessageAdded("user", "x"), expected_version=NO_STREAM)
    assert len(conflict.value.events) == 100


@pytest.mark.guarantee("K1")
async def test_a_subscription_goes_through(store: EventStore, archivist: Archivist) -> None:
    """Who follows a session from an early version gets each event once, archived or not, and what comes later."""
    await store.append("s", conversation(300))
    await archivist.archive("s")
    followed: list[int] = []
    async for event in store.subscribe("s", after=10):
        followed.append(event.version)
        if event.version == 300:
            await store.append("s", MessageAdded("user", "late"))
        if event.version == 301:
            break
    assert followed == list(range(11, 302))


@pytest.mark.guarantee("K1")
async def test_readers_of_everything(store: EventStore, views: ViewStore, archivist: Archivist, url: str) -> None:
    """Reading all sessions, forks, audits, exports and rebuilds meet archived sessions as they were."""
    position = await store.position()
    await store.append("s", conversation(300))
    await talk(store, "other", "hi")
    await at_once(store, views, ["s", "other"])
    before = await store.read("s")
    await archivist.archive("s")
    assert [event for event in await store.read_all() if event.session_id == "s"] == before
    assert [event for event in await store.read_all(after=position) if event.session_id == "s"] == before
    async for _ in fork(store, "s", 299, "forked"):
        pass
    assert [event.type for event in await store.read("forked")] == [event.type for event in before[:299]]
    audited = await audit(store, views, "s")
    assert (audited.version, audited.head, audited.drifts) == (300, 300, [])
    steps = [step async for step in rebuild(store, views)]
    assert steps[-1].phase == "switched"
    await check_views(store, views=views)
    assert (await archivist.archive("s")).outcome is Outcome.PRESENT
    (snapshot,) = await views.read_sessions(["s"])
    assert snapshot.let_go, "views that were built anew are let go by the next run"


@pytest.mark.guarantee("K1")
async def test_views_that_are_behind(store: EventStore, views: ViewStore, archivist: Archivist) -> None:
    """Views that have not seen what was archived are made from the archive, in steps."""
    said = conversation(2500)
    for start in range(0, len(said), 500):
        await store.append("s", said[start : start + 500])
    begun = await views.begin()
    await archivist.archive("s")
    assert not await Projector(store, begun).project(["s"])
    (snapshot,) = await begun.read_sessions(["s"])
    assert (snapshot.version, snapshot.tail, snapshot.let_go) == (2500, [], False)


@pytest.mark.guarantee("K1")
async def test_the_engine(url: str, namespace: str, archive: MemoryArchive) -> None:
    """Every reading method of the engine answers of archived sessions what it answered before."""
    async with ContextEngine(url, namespace=namespace, archive=archive, workers=False) as engine:
        for write in WRITES.values():
            await write(engine)
        for session_id in ("long", "s", "forked"):
            await engine.end_session(session_id)
        before = await answers(engine)
        runtime = engine._here()
        archivist = Archivist(runtime.store, runtime.views)
        filed = [await archivist.archive(session_id) for session_id in ("long", "s", "forked")]
        assert [each.outcome for each in filed] == [Outcome.ARCHIVED] * 3
        after = await answers(engine)
        for name in READS:
            assert after[name] == before[name], name
        assert await engine.update_session("long", {"note": "late"})
        assert await engine.compress_conversation("long")
        assert await engine.undo_messages("forked", 1)
        assert len(await engine.get_conversation_history("forked", 0)) == 1


class TestDue:
    async def test_who_is(self, store: EventStore, archivist: Archivist) -> None:
        """Sessions that have ended, and to which nothing was appended for the time that is named, are due."""
        await store.append("ended", conversation(7))
        await store.append("archived", conversation(7))
        await archivist.archive("archived")
        await talk(store, "active", "hi")
        await store.append("thread", CheckpointStored("c", {}, {}))
        assert [name async for name in archivist.due(NOW)] == ["ended"]
        assert [name async for name in archivist.due(timedelta(hours=1))] == []
        for name, idle, why in (
            ("active", NOW, "not ended"),
            ("thread", NOW, "not ended"),
            ("ended", timedelta(hours=1), "recently"),
        ):
            filed = await archivist.archive(name, idle)
            assert filed.outcome is Outcome.NOT_DUE
            assert why in filed.reason
        with pytest.raises(UnknownSession):
            await archivist.archive("nobody")
        with pytest.raises(UnknownSession):
            await archivist.restore("nobody")

    async def test_parked_ones_are_not(self, store: EventStore, views: ViewStore, archivist: Archivist) -> None:
        """A session that cannot be folded stays where it is, for nobody could answer from the archive."""
        await store.append("s", conversation(7))
        await Projector(store, views).park("s", 1, "for the sake of it")
        assert [name async for name in archivist.due(NOW)] == []
        assert "parked" in (await archivist.archive("s")).reason


class TestWithout:
    @pytest.mark.guarantee("K2")
    async def test_an_archive(
        self, store: EventStore, views: ViewStore, archivist: Archivist, monkeypatch: Any
    ) -> None:
        """Without the archive what needs it raises and says what to name; what does not need it is answered."""
        monkeypatch.delenv(ARCHIVE_VARIABLE, raising=False)
        await store.append("s", conversation(300))
        await at_once(store, views, ["s"])
        queries = Queries(store, views, Projector(store, views))
        session, listed, totals = await queries.session("s"), await queries.sessions(), await queries.totals()
        await archivist.archive("s")
        store.archive = None
        for reads in (
            store.read("s"),
            store.read("s", after=298),
            store.read("s", until=3),
            store.read("s", backwards=True, limit=2),
            queries.history("s", 1),
            queries.context("s", "plan"),
            queries.checkpoints("s"),
            past(store, "s"),
        ):
            with pytest.raises(SessionArchived, match="CONTEXTENGINE_ARCHIVE"):
                await reads
        assert (await store.read("s", backwards=True, limit=1))[0].version == 300
        assert await queries.session("s") == session
        assert await queries.sessions() == listed
        assert await queries.totals() == totals
        with pytest.raises(WrongExpectedVersion):
            await store.append("s", MessageAdded("user", "x"), expected_version=3)
        assert (await store.append("s", MessageAdded("user", "late"))).version == 301
        assert (await queries.session("s")).version == 301  # type: ignore[union-attr]
        begun = await views.begin()
        (failure,) = await Projector(store, begun).project(["s"])
        assert isinstance(failure, SessionArchived)
        with pytest.raises(InvalidInput, match="archive"):
            Archivist(store, views)

    @pytest.mark.guarantee("K2")
    async def test_its_file(self, store: EventStore, archivist: Archivist, archive: MemoryArchive) -> None:
        """A file that is missing or was changed raises, whatever is read; nothing is answered from a part of it."""
        await store.append("s", conversation(300))
        await archivist.archive("s")
        (name,) = await archive.names()
        content = await archive.get(name)
        assert content is not None
        for damaged in (None, b"", content[:-1], content[:-20] + b"x" + content[-19:]):
            await archive.delete(name)
            if damaged is not None:
                await archive.put(name, damaged)
            for reads in (store.read("s"), store.read("s", until=3), store.read("s", backwards=True, limit=2)):
                with pytest.raises(CorruptLog, match="archive"):
                    await reads
            with pytest.raises(CorruptLog):
                await archivist.restore("s")
        await archive.put(name, content)
        assert len(await store.read("s")) == 300
        assert (await archivist.sweep()).missing == []
        await archive.delete(name)
        assert (await archivist.sweep()).missing == [("s", name)]


class TestSteps:
    async def test_a_session_that_goes_on_stays(
        self, store: EventStore, archivist: Archivist, archive: MemoryArchive
    ) -> None:
        """If somebody appends while the file is being written, the log stays whole, and no file is left."""
        await store.append("s", conversation(20))
        put = archive.put

        async def slow_put(name: str, content: bytes) -> None:
            await put(name, content)
            await store.append("s", MessageAdded("user", "late"))

        archive.put = slow_put  # type: ignore[method-assign]
        assert (await archivist.archive("s")).outcome is Outcome.GONE_ON
        assert await archive.names() == []
        store.archive = None
        assert len(await store.read("s")) == 21

    async def test_a_place_that_does_not_keep(
        self, store: EventStore, archivist: Archivist, archive: MemoryArchive
    ) -> None:
        """If the archive gives back something else, the log stays as it is."""
        await store.append("s", conversation(20))
        put = archive.put

        async def bad_put(name: str, content: bytes) -> None:
            await put(name, content[:-1])

        archive.put = bad_put  # type: ignore[method-assign]
        with pytest.raises(CorruptLog, match="archive"):
            await archivist.archive("s")
        store.archive = None
        assert len(await store.read("s")) == 20

    async def test_only_what_was_said_counts(self, store: EventStore, archivist: Archivist) -> None:
        """A log is let go for a file only if head, earlier file and time are as they were when that was begun."""
        await store.append("s", conversation(20))
        raw = open_raw(store)
        head = await raw.head("s")
        assert head is not None
        now = int((await store.now()).timestamp() * 1000)
        good = Archived(*head, new_file_name("n", "s", 20, now), hashlib.sha256().hexdigest(), 0, now)
        another = Archived(*head, new_file_name("n", "s", 20, now), good.sha256, 0, now)
        for wrong, before in (
            (Archived(19, head.recorded_ms, good.file, good.sha256, 0, now), None),
            (Archived(20, head.recorded_ms - 1, good.file, good.sha256, 0, now), None),
            (Archived(*head, good.file, good.sha256, 0, now - 3_700_000), None),
            (good, another),
        ):
            assert not await raw.archive("s", wrong, before)
        assert await raw.archived("s") is None
        assert len(await store.read("s")) == 20
        assert await raw.archive("s", good, None)
        assert await raw.archived("s") == good
        assert not await raw.archive("s", another, None)
        with pytest.raises(CorruptLog, match="lacks its file"):
            await raw.bring_back("s", good)

    async def test_only_what_is_noted_is_brought_back(self, store: EventStore, archivist: Archivist) -> None:
        """Who goes by an old note brings nothing back, and puts nothing in the place of what is there."""
        await store.append("s", conversation(20))
        raw = open_raw(store)
        await archivist.archive("s")
        old = await raw.archived("s")
        assert old is not None
        await store.append("s", MessageAdded("user", "late"))
        await archivist.archive("s")
        new = await raw.archived("s")
        assert new is not None
        assert not await raw.bring_back("s", old)
        assert await raw.archived("s") == new
        assert len(await store.read("s")) == 21
        assert await raw.bring_back("s", new)
        assert await raw.archived("s") is None
        assert [event.version for event in await store.read("s")] == list(range(1, 22))

    async def test_leftovers_are_swept(
        self, store: EventStore, archivist: Archivist, archive: MemoryArchive, namespace: str
    ) -> None:
        """Files of which no log tells are deleted once none can come to tell of them; no others are touched."""
        await store.append("s", conversation(20))
        await archivist.archive("s")
        (kept,) = await archive.names()
        now = int((await store.now()).timestamp() * 1000)
        old = new_file_name(namespace, "s", 3, now - 3 * 3_600_000)
        young = new_file_name(namespace, "s", 3, now - 3_600_000)
        others = [new_file_name(f"{namespace}-b", "s", 3, 1), "log-of-somebody-else", f"log-{namespace}-notes.txt"]
        for name in (old, young, *others):
            await archive.put(name, b"")
        swept = await archivist.sweep()
        assert (swept.deleted, swept.left, swept.missing) == ([old], [young], [])
        assert await archive.names() == sorted([kept, young, *others])
        await archivist.restore("s")
        swept = await archivist.sweep()
        assert (swept.deleted, swept.left) == ([], sorted([kept, young]))
        swept = await archivist.sweep(NOW)
        assert (swept.deleted, swept.left, swept.missing) == ([kept], [young], [])
        assert (await archivist.sweep(NOW)).deleted == []

    async def test_many_at_once(self, store: EventStore, views: ViewStore, archive: MemoryArchive) -> None:
        """Several who archive, restore and read the same session at once do no harm to it or to each other."""
        await store.append("s", conversation(300))
        await at_once(store, views, ["s"])
        before = await store.read("s")
        queries = Queries(store, views, Projector(store, views))
        history = await queries.history("s")
        for _ in range(3):
            filed = await asyncio.gather(*(Archivist(store, views).archive("s") for _ in range(4)))
            assert {each.outcome for each in filed} <= {Outcome.ARCHIVED, Outcome.PRESENT, Outcome.GONE_ON}
            assert sum(each.outcome is Outcome.ARCHIVED for each in filed) == 1
            assert await only(store) == [300]
            outcomes = await asyncio.gather(
                *(Archivist(store, views).restore("s") for _ in range(3)), *(store.read("s") for _ in range(5))
            )
            assert all(read == before for read in outcomes[3:])
            while (await Archivist(store, views).restore("s")).outcome is Outcome.RESTORED:
                pass
            assert await queries.history("s") == history
            assert await only(store) == []
            await check_views(store, views=views)


class TestSealed:
    @pytest.mark.guarantee("K4")
    async def test_a_sealed_session_verifies(self, store: EventStore, views: ViewStore, archivist: Archivist) -> None:
        """A sealed session that is archived is checked against its file, and is proved; sealing goes on."""
        await store.append("s", conversation(300))
        await talk(store, "other", "hi")
        manifest = await seal(store)
        await archivist.archive("s")
        verdict = await verify(store, manifests=[manifest])
        assert (verdict.proved, verdict.archived, verdict.sealed_events) == (True, 1, 301)
        await store.append("s", MessageAdded("user", "late"))
        later = await seal(store)
        verdict = await verify(store, manifests=[manifest, later])
        assert (verdict.proved, verdict.sealed_events, verdict.unsealed_events) == (True, 302, 0)
        await archivist.archive("s")
        assert (await verify(store, "s", manifests=[later])).proved

    @pytest.mark.guarantee("K4")
    async def test_without_the_archive_nothing_is_proved(self, store: EventStore, archivist: Archivist) -> None:
        """Without the archive it is neither found removed nor proved: the check says what it could not look at."""
        await store.append("s", conversation(300))
        manifest = await seal(store)
        await archivist.archive("s")
        store.archive = None
        verdict = await verify(store, manifests=[manifest])
        assert (verdict.findings, verdict.archived, verdict.proved) == ([], 1, False)
        assert "CONTEXTENGINE_ARCHIVE" in verdict.doubts[0]

    @pytest.mark.guarantee("K4")
    async def test_a_changed_file_is_found(
        self, store: EventStore, archivist: Archivist, archive: MemoryArchive
    ) -> None:
        """A file that was changed or is gone is found, and the session is named; even if the log was told of it."""
        await store.append("s", conversation(30))
        await seal(store)
        await archivist.archive("s")
        (name,) = await archive.names()
        content = await archive.get(name)
        assert content is not None
        await archive.put(name, content + b"x")
        (finding,) = (await verify(store)).findings
        assert (finding.kind.value, finding.session_id) == ("archive", "s")
        await archive.delete(name)
        (finding,) = (await verify(store)).findings
        assert (finding.kind.value, finding.session_id) == ("archive", "s")

    @pytest.mark.guarantee("K4")
    async def test_a_file_that_was_made_anew_is_found(self, store: EventStore, archivist: Archivist) -> None:
        """Who writes a file with another past, and notes it in the log as an archivist would, is found by the seals."""
        await store.append("s", conversation(30))
        await seal(store)
        await archivist.archive("s")
        raw, archive = open_raw(store), store.archive
        noted = await raw.archived("s")
        assert noted is not None
        assert archive is not None
        told_lines = zstandard.ZstdDecompressor().decompressobj().decompress(await archive.get(noted.file) or b"")
        content = zstandard.ZstdCompressor().compress(told_lines.replace(b"message 7", b"message 8"))
        forged = msgspec.structs.replace(
            noted, file=new_file_name("n", "s", 30, noted.begun_ms), sha256=hashlib.sha256(content).hexdigest()
        )
        await archive.put(forged.file, content)
        assert await raw.archive("s", forged, noted)
        assert [event.data.content for event in await store.read("s", limit=8)][7] == "message 8"  # type: ignore[union-attr]
        (finding,) = (await verify(store)).findings
        assert (finding.kind.value, finding.session_id, finding.version) == ("changed", "s", 8)

    async def test_only_what_is_sealed(self, store: EventStore, views: ViewStore) -> None:
        """If it is asked for, a session that was not sealed up to its end stays where it is."""
        strict = Archivist(store, views, sealed=True)
        await store.append("s", conversation(30))
        assert "seal.py" in (await strict.archive("s")).reason
        await seal(store)
        await store.append("s", MessageAdded("user", "late"))
        assert (await strict.archive("s")).outcome is Outcome.REFUSED
        await seal(store)
        assert (await strict.archive("s")).outcome is Outcome.ARCHIVED

    async def test_a_log_that_contradicts_its_seal_stays(self, store: EventStore, archivist: Archivist) -> None:
        """What was changed since it was sealed is not archived: it has to be looked into first."""
        if not isinstance(store, RedisStore):
            pytest.skip("nobody can change what is in memory")
        await store.append("s", conversation(30))
        await seal(store)
        log, heads = store.log("s"), store.keys.heads(store.keys.partition(b"s"))
        (last,) = await store.links.call("XREVRANGE", log.key, "+", "-", "COUNT", 1)
        later = f"30-{int(last[0].split(b'-')[1]) + 1}"
        await store.links.call("XDEL", log.key, last[0])
        await store.links.call("XADD", log.key, later, "e", last[1][1])
        await store.links.call("HSET", heads, "s", later)
        filed = await archivist.archive("s")
        assert (filed.outcome, "verify.py" in filed.reason) == (Outcome.REFUSED, True)
