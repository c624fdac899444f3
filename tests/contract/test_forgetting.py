"""Forgetting, on memory and on each server alike."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint
from msgspec import UNSET
from support.audits import audited
from support.everything import everything
from support.proofs import SIGNER, bad, seal, talk, verify

from contextengine import (
    ContextEngine,
    FilesOutOfReach,
    InvalidInput,
    SessionForgotten,
    SessionShared,
    UnknownSession,
)
from eventstore import EventStore, MessageAdded, open_store
from eventstore.archive.naming import new_file_name, prefix_of_session
from eventstore.codec import encode
from eventstore.feed import Pointer
from eventstore.ids import new_event_id
from eventstore.partitions import partition_of
from eventstore.proof.chain import genesis, link
from eventstore.proof.signing import Keyring
from eventstore.proof.tombstones import Tombstone, name_of
from eventstore.raw import open_raw
from projections import GROUP
from projections.archiving import Archivist
from projections.changes import fold
from projections.forgetting.erasing import open_eraser
from projections.forgetting.forgetter import Forgetter
from projections.rebuilding import rebuild
from projections.sealing.keeping import open_seals

SECRETS = ("hunter2", "anna-4711", "person-17", "plan-secret", "step-secret", "w-secret", "sum-secret")
"""What nothing may be left of: contents, the user, the session's id."""
SESSION, USER = "person-17", "anna-4711"


@pytest.fixture
async def engine(url: str, namespace: str, directory: Path) -> AsyncIterator[ContextEngine]:
    """An engine on each kind of store in turn, with an archive."""
    archive = f"file://{directory}/archive"
    async with ContextEngine(url, namespace=namespace, workers=False, archive=archive) as engine:
        yield engine


async def live(engine: ContextEngine, session_id: str = SESSION, user: str = USER) -> None:
    """Let a person leave traces of every kind."""
    await engine.create_session(session_id, user, {"mail": "hunter2"})
    for n in range(12):
        await engine.add_conversation_message(session_id, "user", f"hunter2 sum-secret {n}")
    await engine.set_context(session_id, "plan-secret", {"plan": "plan-secret"})
    await engine.store_checkpoint(session_id, "c1", {"step": "step-secret"})
    await engine.put_writes(session_id, "c1", "task", [("channel", "w-secret")])
    await engine.configure_compression(session_id, keep_recent=2)
    await engine.compress_conversation(session_id)


async def view_all(engine: ContextEngine) -> None:
    """See to it that every view is written."""
    await engine.list_sessions()
    await engine.get_metrics()


async def counts(engine: ContextEngine) -> dict[str, int]:
    """Return the exact totals."""
    return {name: count for name, count in (await engine.get_metrics()).items() if name.startswith(("total", "active"))}


def forgetter(engine: ContextEngine) -> Forgetter:
    """Return what forgets, below the engine."""
    return Forgetter(engine._here().store, SIGNER)


async def reads_as_unknown(engine: ContextEngine, session_id: str) -> None:
    """Check what an engine answers about a session that is gone."""
    assert await engine.get_session(session_id) is None
    assert await engine.get_conversation_history(session_id) == []
    assert await engine.get_context(session_id, "plan-secret") is None
    assert await engine.list_contexts(session_id) == []
    assert await engine.list_checkpoints(session_id) == []
    assert await engine.get_writes(session_id, "c1") == []
    assert session_id not in [session.session_id for session in await engine.list_sessions()]
    assert not await engine.list_sessions(user_id=USER)


@pytest.mark.guarantee("F1")
async def test_a_forgotten_session_reads_as_one_that_never_was(engine: ContextEngine) -> None:
    """Lists, totals, views and audit know nothing of it, and everything else is as it was."""
    await live(engine, "other")
    await engine.update_session("other", {"user_id": "bob"})
    await view_all(engine)
    before = (await counts(engine), await engine.get_conversation_history("other"))
    await live(engine)
    await view_all(engine)
    tombstone = await engine.forget_session(SESSION, by="privacy desk", reason="asked to", signing_key=SIGNER)
    await reads_as_unknown(engine, SESSION)
    assert (await counts(engine), await engine.get_conversation_history("other")) == before
    store = engine._here().store
    assert await audited(store, engine._here().views) == []
    assert (tombstone.by, tombstone.reason, tombstone.session) == ("privacy desk", "asked to", name_of(SESSION))
    assert tombstone.done
    assert await engine.forget_session(SESSION, signing_key=SIGNER) == tombstone


@pytest.mark.guarantee("F2")
async def test_it_cannot_come_back(engine: ContextEngine) -> None:
    """Every way to write to it says that it was forgotten, and writes nothing; so for an engine that knew it."""
    await live(engine)
    raw = open_raw(engine._here().store)
    await engine.forget_session(SESSION, signing_key=SIGNER)
    for writes in (
        lambda: engine.create_session(SESSION, USER),
        lambda: engine.add_conversation_message(SESSION, "user", "x"),
        lambda: engine.add_conversation_messages(SESSION, [{"role": "user", "content": "x"}]),
        lambda: engine.update_session(SESSION, {"a": 1}),
        lambda: engine.end_session(SESSION),
        lambda: engine.set_context(SESSION, "a", 1),
        lambda: engine.store_checkpoint(SESSION, "c1", {}),
        lambda: engine.fork_session(SESSION, 1, "new"),
        lambda: raw.restore(SESSION, None, [(1000, encode(new_event_id(), MessageAdded("user", "x"), None))]),
    ):
        with pytest.raises(SessionForgotten):
            await writes()
    assert await engine._here().store.version(SESSION) == 0
    await reads_as_unknown(engine, SESSION)
    results = await engine._here().store.append_many([])
    assert results == []


@pytest.mark.guarantee("F1")
async def test_nothing_is_left(engine: ContextEngine, url: str) -> None:
    """No key of the server holds the content, the user's id or the session's id, wherever it had come."""
    runtime = engine._here()
    await live(engine)
    await view_all(engine)
    async for _ in rebuild(runtime.store, runtime.views):
        pass
    await runtime.projector.park(SESSION, 3, "hunter2")
    await runtime.views.count_attempt(SESSION)
    assert await runtime.views.lease(SESSION, "somebody", 60)
    if url != "memory://":
        held = await everything(runtime.store)
        assert all(secret.encode() in held for secret in SECRETS)
    await engine.forget_session(SESSION, by="desk", reason="asked", signing_key=SIGNER)
    assert await runtime.views.parked() == []
    assert await open_eraser(runtime.store).remains() == {}
    if url != "memory://":
        left = await everything(runtime.store)
        assert not [secret for secret in SECRETS if secret.encode() in left]


@pytest.mark.guarantee("F1")
async def test_the_archive_forgets_too(engine: ContextEngine) -> None:
    """A session in the archive is forgotten there as well, with files that somebody left behind."""
    await live(engine)
    await live(engine, "other", "bob")
    runtime = engine._here()
    for session_id in (SESSION, "other"):
        await engine.end_session(session_id)
        await Archivist(runtime.store, runtime.views).archive(session_id)
    archive = runtime.store.archive
    assert archive is not None
    (name,) = await archive.names(prefix_of_session(runtime.store.namespace, SESSION))
    content = await archive.get(name)
    assert content is not None
    left_over = new_file_name(runtime.store.namespace, SESSION, 3, 1000)
    await archive.put(left_over, content)
    head = await open_raw(runtime.store).head(SESSION)
    tombstone = await engine.forget_session(SESSION, signing_key=SIGNER)
    assert head is not None
    assert (tombstone.version, tombstone.archived) == (head.version, True)
    (kept,) = await archive.names()
    assert kept.startswith(prefix_of_session(runtime.store.namespace, "other"))
    assert (await engine.get_conversation_history("other"))[-1].content == "hunter2 sum-secret 11"
    await reads_as_unknown(engine, SESSION)


async def archive(engine: ContextEngine, session_id: str = SESSION) -> list[str]:
    """End a session and archive it. Return its files."""
    runtime = engine._here()
    await engine.end_session(session_id)
    await Archivist(runtime.store, runtime.views).archive(session_id)
    assert runtime.store.archive is not None
    return await runtime.store.archive.names(prefix_of_session(runtime.store.namespace, session_id))


async def is_as_it_was(engine: ContextEngine) -> None:
    """Check that nothing was done to the session."""
    assert (await engine.get_conversation_history(SESSION))[-1].content == "hunter2 sum-secret 11"
    assert [session.session_id for session in await engine.list_sessions(user_id=USER)] == [SESSION]
    assert not await engine._here().store.forgotten(SESSION)


@pytest.mark.guarantee("F5")
async def test_what_is_not_whole_can_be_forgotten(engine: ContextEngine, directory: Path) -> None:
    """A session whose file was changed is forgotten all the same; its tombstone tells its length, and no digest."""
    await live(engine)
    (name,) = await archive(engine)
    (directory / "archive" / name).write_bytes(b"changed")
    head = await open_raw(engine._here().store).head(SESSION)
    tombstone = await engine.forget_session(SESSION, signing_key=SIGNER)
    assert head is not None
    assert (tombstone.version, tombstone.digest, tombstone.done) == (head.version, "", True)
    assert (tombstone.files, list((directory / "archive").iterdir())) == (UNSET, [])
    await reads_as_unknown(engine, SESSION)


@pytest.mark.guarantee("F6")
async def test_an_archive_that_lacks_its_file_is_the_wrong_one(engine: ContextEngine, directory: Path) -> None:
    """Nothing is done. Who says that the file is lost goes on; the tombstone names it until the file is found."""
    await live(engine)
    names = await archive(engine)
    (directory / "archive").rename(directory / "right")
    with pytest.raises(FilesOutOfReach, match="without_archive=True") as refused:
        await engine.forget_session(SESSION, signing_key=SIGNER)
    assert (refused.value.session, refused.value.files) == (SESSION, names)
    with pytest.raises(FilesOutOfReach):
        await forgetter(engine).forget(SESSION)
    (directory / "right").rename(directory / "archive")
    await is_as_it_was(engine)
    (directory / "archive").rename(directory / "right")
    tombstone = await engine.forget_session(SESSION, signing_key=SIGNER, without_archive=True)
    assert (tombstone.files, tombstone.archive, tombstone.digest, tombstone.done) == (names, UNSET, "", True)
    assert tombstone.signed_by(Keyring([SIGNER.public]))
    await reads_as_unknown(engine, SESSION)
    assert await engine.forget_session(SESSION, signing_key=SIGNER) == tombstone
    (directory / "right").rename(directory / "archive")
    cleared = await engine.forget_session(SESSION, signing_key=SIGNER)
    assert (cleared.files, list((directory / "archive").iterdir())) == (UNSET, [])
    assert (cleared.forgotten_ms, cleared.signed_by(Keyring([SIGNER.public]))) == (tombstone.forgotten_ms, True)


@pytest.mark.guarantee("F6")
async def test_files_that_were_released_go_too(engine: ContextEngine, directory: Path) -> None:
    """A session that was brought back has its file for hours yet: it is deleted, or nothing is done."""
    runtime = engine._here()
    await live(engine)
    names = await archive(engine)
    await Archivist(runtime.store, runtime.views).restore(SESSION)
    (directory / "archive").rename(directory / "right")
    with pytest.raises(FilesOutOfReach) as refused:
        await engine.forget_session(SESSION, signing_key=SIGNER)
    assert refused.value.files == names
    await is_as_it_was(engine)
    (directory / "right").rename(directory / "archive")
    tombstone = await engine.forget_session(SESSION, signing_key=SIGNER)
    assert (tombstone.files, list((directory / "archive").iterdir())) == (UNSET, [])
    assert tombstone.digest
    for partition in range(runtime.store.partitions):
        assert await open_raw(runtime.store).released(partition) == {}


@pytest.mark.guarantee("F6")
@pytest.mark.parametrize("restored", [False, True])
async def test_without_its_archive_it_is_not_forgotten(
    engine: ContextEngine, url: str, namespace: str, *, restored: bool
) -> None:
    """Who names no archive is told which file there is, and nothing is done, or the file is named in the tombstone."""
    if url == "memory://":
        pytest.skip("another process's memory")
    runtime = engine._here()
    await live(engine)
    names = await archive(engine)
    if restored:
        await Archivist(runtime.store, runtime.views).restore(SESSION)
    async with open_store(url, namespace=namespace) as blind:
        for refused in (Forgetter(blind, SIGNER).family([SESSION]), Forgetter(blind, SIGNER).forget(SESSION)):
            with pytest.raises(FilesOutOfReach, match="no archive was named") as error:
                await refused
            assert error.value.files == names
        await is_as_it_was(engine)
        careless = Forgetter(blind, SIGNER, without_archive=True)
        assert await careless.family([SESSION]) == [SESSION]
        assert (await careless.forget(SESSION)).files == names


@pytest.mark.guarantee("F4", "F6")
async def test_what_may_be_a_fork_is_out_of_reach(engine: ContextEngine, directory: Path) -> None:
    """A fork whose file the archive lacks cannot be known to be one, so nothing is done."""
    await live(engine)
    await engine.fork_session(SESSION, 3, "fork")
    await archive(engine, "fork")
    (directory / "archive").rename(directory / "right")
    with pytest.raises(FilesOutOfReach) as refused:
        await engine.forget_session(SESSION, signing_key=SIGNER, relatives=True)
    assert refused.value.session == "fork"
    assert not await engine._here().store.forgotten(SESSION)
    (directory / "right").rename(directory / "archive")
    with pytest.raises(SessionShared):
        await engine.forget_session(SESSION, signing_key=SIGNER)


@pytest.mark.guarantee("F5", "F6")
@pytest.mark.parametrize("step", ["unpoint", "bury"])
async def test_what_was_interrupted_knows_its_files(
    engine: ContextEngine, directory: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It is completed with the archive that had them, be they gone already; with one that lacks them it is not."""
    await live(engine)
    names = await archive(engine)
    monkeypatch.setattr(type(open_eraser(engine._here().store)), step, lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await forgetter(engine).forget(SESSION)
    monkeypatch.undo()
    assert len(list((directory / "archive").iterdir())) == (step == "unpoint")
    assert engine._here().store.archive is not None
    monkeypatch.setattr(type(engine._here().store.archive), "__str__", lambda _: "file:///another")
    if step == "unpoint":
        (directory / "archive").rename(directory / "right")
    with pytest.raises(FilesOutOfReach) as refused:
        await forgetter(engine).complete()
    assert (refused.value.session, refused.value.files) == (name_of(SESSION), names)
    monkeypatch.undo()
    if step == "unpoint":
        (directory / "right").rename(directory / "archive")
    (tombstone,) = await forgetter(engine).complete()
    assert (tombstone.done, tombstone.files, tombstone.archive) == (True, UNSET, UNSET)
    assert list((directory / "archive").iterdir()) == []
    assert await open_eraser(engine._here().store).remains() == {}


@pytest.mark.guarantee("F3")
async def test_the_tombstone_says_where_the_log_stood(store: EventStore) -> None:
    """It is signed, and its digest is that of the whole log, as a seal would have it."""
    await store.append("s", [MessageAdded("user", f"{n}") for n in range(600)])
    chain = genesis(b"s")
    async for page in open_raw(store).entries("s"):
        for entry in page:
            chain = link(chain, entry.recorded_ms, entry.entry or b"")
    tombstone = await Forgetter(store, SIGNER).forget("s")
    assert (tombstone.version, tombstone.recorded_ms, tombstone.digest) == (600, chain.recorded_ms, chain.digest.hex())
    assert isinstance(tombstone, Tombstone)
    assert not {b'"files":', b'"archive":'} & {*re.findall(rb'"\w+":', tombstone.message)}, (
        "as it was signed ever since"
    )


async def test_what_cannot_be_forgotten(engine: ContextEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown session, the global context, texts that are none, and a missing key are refused; nothing is done."""
    await live(engine)
    await engine.set_context("$global", "a", 1)
    monkeypatch.delenv("CONTEXTENGINE_SEAL_KEY", raising=False)
    with pytest.raises(UnknownSession):
        await engine.forget_session("nobody", signing_key=SIGNER)
    with pytest.raises(InvalidInput, match="unsigned=True"):
        await engine.forget_session(SESSION)
    for wrong in (
        {"by": 3},
        {"reason": "x" * 600},
        {"signing_key": 7},
        {"signing_key": "no pem"},
        {"relatives": 1},
        {"unsigned": "yes"},
        {"without_archive": 1},
    ):
        with pytest.raises(InvalidInput):
            await engine.forget_session(SESSION, **({"signing_key": SIGNER} | wrong))
    for wrong_id in ("$global", "", "a\0b"):
        with pytest.raises(InvalidInput):
            await engine.forget_session(wrong_id, signing_key=SIGNER)
    assert (await engine.get_conversation_history(SESSION))[-1].content == "hunter2 sum-secret 11"
    assert await engine.get_context("$global", "a") == 1
    monkeypatch.setenv("CONTEXTENGINE_SEAL_KEY", SIGNER.private_pem())
    assert (await engine.forget_session(SESSION)).key == SIGNER.key_id
    await live(engine, "t")
    assert (await engine.forget_session("t", unsigned=True)).signature == ""


@pytest.mark.guarantee("F4")
async def test_who_shares_the_past_is_named_or_forgotten_along(engine: ContextEngine) -> None:
    """Forks, forks of forks and conversations of agents keep a session from being forgotten, or are forgotten along."""
    await live(engine)
    await engine.fork_session(SESSION, 3, "fork")
    await engine.fork_session("fork", 2, "fork of the fork")
    people = [{"id": "u", "type": "user"}, {"id": "a", "type": "agent", "role": "coder"}]
    talk_id = await engine.create_conversation_session(SESSION, people, "user_to_agent")
    await live(engine, "other")
    with pytest.raises(SessionShared) as refused:
        await engine.forget_session(SESSION, signing_key=SIGNER)
    assert set(refused.value.others) == {"fork", "fork of the fork", talk_id}
    assert (await engine.get_conversation_history(SESSION))[-1].content == "hunter2 sum-secret 11"
    with pytest.raises(SessionShared):
        await engine.forget_session("fork", signing_key=SIGNER)
    await engine.forget_session("fork of the fork", signing_key=SIGNER)
    tombstone = await engine.forget_session(SESSION, signing_key=SIGNER, relatives=True)
    assert tombstone.session == name_of(SESSION)
    assert [session.session_id for session in await engine.list_sessions()] == ["other"]


@pytest.mark.guarantee("F5")
async def test_what_the_feed_tells_of_others_stays(store: EventStore) -> None:
    """A group that is behind, one that holds entries and one that comes later miss nothing of other sessions."""
    partition = partition_of(b"s", store.partitions)
    others = [f"o{n}" for n in range(200) if partition_of(f"o{n}".encode(), store.partitions) == partition]
    behind = await store.feed.join("behind", "c")
    await asyncio.gather(*(store.append(each, MessageAdded("user", each)) for each in ["s", *others]))
    held = await behind.take(count=1000, wait=0)
    await asyncio.gather(*(store.append(each, MessageAdded("user", each)) for each in ["s", *others]))
    await Forgetter(store, SIGNER).forget("s")
    told: list[Pointer] = []
    behind.abandon()
    later, again = await store.feed.join("later", "c"), await store.feed.join("behind", "d")
    for consumer in (later, again):
        told = [pointer for d in await consumer.take(count=1000, wait=0) for pointer in d.pointers]
        told += [pointer for d in await consumer.claim(idle=0, count=1000) for pointer in d.pointers]
        assert {(each, version) for each in others for version in (1, 2)} <= {tuple(p[:2]) for p in told}
        assert "s" not in {pointer.session_id for pointer in told}
    for consumer in (later, again):
        while claimed := await consumer.claim(idle=0, count=1000):
            await consumer.ack(claimed)
    await behind.ack(held)
    for group in ("later", "behind"):
        assert not sum(each.waiting for each in await store.feed.progress(group))
    assert not bad(await verify(store))


@pytest.mark.guarantee("F2")
async def test_what_was_under_way_writes_nothing(engine: ContextEngine) -> None:
    """Who had read the session before, and commits, parks, counts, leases or seals it afterwards, leaves nothing."""
    runtime = engine._here()
    await runtime.append(SESSION, MessageAdded("user", "hunter2"))
    (before,) = await runtime.views.read_sessions([SESSION])
    assert (before.version, len(before.tail)) == (0, 1)
    change = fold(SESSION, 0, before.state, before.tail)
    await engine.forget_session(SESSION, signing_key=SIGNER)
    assert await runtime.views.commit([change]) == [False]
    await runtime.projector.park(SESSION, 1, "hunter2")
    assert await runtime.views.count_attempt(SESSION) == 0
    assert await runtime.views.lease(SESSION, "somebody", 60)
    await open_seals(runtime.store).keep_links(SESSION, 0, [b"1" * 32])
    assert await runtime.views.parked() == []
    assert await open_seals(runtime.store).links(SESSION) == b""
    assert await open_eraser(runtime.store).remains() == {}
    await reads_as_unknown(engine, SESSION)


async def read_and_forget(store: EventStore, session_id: str, *, backwards: bool) -> None:
    """Read a log, which is forgotten when its first event has been read."""
    async for event in store.read(session_id, backwards=backwards):
        if event.version in (1, 3000):
            await Forgetter(store, SIGNER).forget(session_id)


@pytest.mark.guarantee("F2")
async def test_who_is_reading_meanwhile(url: str, namespace: str) -> None:
    """A read, a look back and a subscription that are under way are told; none ends as if the log did."""
    async with open_store(url, namespace=namespace, timeout=0.5) as store:
        for session_id, backwards in (("a", False), ("b", True)):
            for _ in range(3):
                await store.append(session_id, [MessageAdded("user", f"{n}") for n in range(1000)])
            with pytest.raises(SessionForgotten):
                await read_and_forget(store, session_id, backwards=backwards)
        await store.append("c", MessageAdded("user", "x"))
        following = store.subscribe("c")
        assert (await anext(following)).version == 1
        await Forgetter(store, SIGNER).forget("c")
        with pytest.raises(SessionForgotten):
            await anext(following)


async def write_until_forgotten(engine: ContextEngine, session_id: str) -> None:
    """Append until that is refused."""
    for n in range(100_000):
        try:
            await engine.add_conversation_message(session_id, "user", f"hunter2 {n}")
        except SessionForgotten:
            return
        await checkpoint()  # others have their turn
    raise AssertionError("it was never forgotten")


async def work_until(stop: asyncio.Event, engine: ContextEngine) -> None:
    """Project, and take over what others have at hand."""
    store = engine._here().store
    projector, consumer = engine._here().projector, await store.feed.join(GROUP, f"racer {id(stop)}")
    while not stop.is_set():
        await projector.step(consumer, wait=0)
        await projector.finish(consumer, await consumer.claim(idle=0, count=100))
        await checkpoint()  # others have their turn
    await consumer.leave()
    consumer.abandon()


async def read_until(stop: asyncio.Event, store: EventStore, session_ids: list[str]) -> None:
    """Read logs, each of which is at each time whole or not there."""
    whole = dict.fromkeys(session_ids, 0)
    while not stop.is_set():
        for session_id in session_ids:
            with contextlib.suppress(SessionForgotten):
                count = len(await store.read(session_id))
                assert count == 0 or count >= whole[session_id], "a part of a log was read"
                whole[session_id] = count
        await checkpoint()  # others have their turn


@pytest.mark.guarantee("F1", "F2")
async def test_racing_writers_workers_and_readers(engine: ContextEngine) -> None:
    """While sessions are forgotten, others append to them, project them and read them; nothing of them is left."""
    runtime, stop = engine._here(), asyncio.Event()
    names = [f"{SESSION}-{n}" for n in range(6)]
    for name in names:
        await runtime.append(name, *(MessageAdded("user", f"hunter2 {n}") for n in range(600)))
        await live(engine, name)
    async with asyncio.TaskGroup() as tasks:
        writing = [tasks.create_task(write_until_forgotten(engine, name)) for name in names for _ in range(2)]
        for job in (work_until(stop, engine), work_until(stop, engine), read_until(stop, runtime.store, names)):
            tasks.create_task(job)
        for name in names:
            await forgetter(engine).forget(name)
        await asyncio.wait(writing)
        stop.set()
    assert await open_eraser(runtime.store).remains() == {}
    assert await engine.list_sessions() == []
    assert (await counts(engine))["total_messages"] == 0
    assert await audited(runtime.store, runtime.views) == []


async def test_a_rebuild_meanwhile(engine: ContextEngine) -> None:
    """A session that is forgotten while views are being built anew stands in none of them."""
    runtime = engine._here()
    for n in range(80):
        await engine.add_conversation_message(f"s{n}", "user", "hunter2")
    await live(engine)
    async for said in rebuild(runtime.store, runtime.views):
        if said.sessions and said.phase == "folding":
            with contextlib.suppress(UnknownSession):
                await forgetter(engine).forget(SESSION)
            await forgetter(engine).forget(f"s{said.sessions % 80}")
    await runtime.views.refresh()
    await reads_as_unknown(engine, SESSION)
    assert await open_eraser(runtime.store).remains() == {}
    assert await audited(runtime.store, runtime.views) == []


@pytest.mark.guarantee("F3")
async def test_a_sealed_session_that_was_forgotten(store: EventStore) -> None:
    """The check says forgotten, not removed; sealing goes on; without a signature, or half done, it is a finding."""
    await talk(store, "a", "one", "two")
    await talk(store, "b", "one")
    manifest = await seal(store)
    await talk(store, "a", "three")
    tombstone = await Forgetter(store, SIGNER).forget("a", reason="asked")
    for only in ((), ("a",), ("a", "b")):
        verdict = await verify(store, *only, manifests=[manifest])
        assert (bad(verdict), verdict.proved) == (set(), True)
        assert [(each.session_id, each.tombstone) for each in verdict.forgotten] == [("a", tombstone)]
    await talk(store, "b", "two")
    after = await seal(store)
    assert (await verify(store, manifests=[manifest, after])).proved
    await Forgetter(store, None).forget("b")
    assert bad(await verify(store)) == {("tombstone", "b", 0)}
