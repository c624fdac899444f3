"""Out of one store and into another: what comes back is what was there, byte for byte."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.proofs import SIGNER, bad, seal, talk, verify

from eventstore import (
    ContextSet,
    CorruptLog,
    EventStore,
    InvalidInput,
    MessageAdded,
    UnknownSession,
    open_store,
)
from eventstore.archive.lines import Event as Line
from eventstore.events import Event
from eventstore.proof.signing import Keyring, Signer
from eventstore.raw import open_raw
from eventstore.rawlog import Head
from projections import Projector, open_views
from projections.transfer import records
from projections.transfer.exporting import Exporter
from projections.transfer.reading import ExportFile
from projections.transfer.restoring import Outcome, Restored, Restorer

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, max_size=3))
events = st.builds(MessageAdded, st.just("user"), texts) | st.builds(
    ContextSet, st.text("abc", min_size=1, max_size=3), values
)

DEEP = b"[" * 60_000 + b"]" * 60_000


async def export(store: EventStore, path: Path, *session_ids: str) -> Path:
    """Export sessions, or all, to a file."""
    lines = [line async for line in Exporter(store).lines(session_ids or None)]
    await asyncio.to_thread(path.write_bytes, b"".join(lines))
    return path


async def restore(store: EventStore, path: Path) -> dict[str, Restored]:
    """Import a file, and return what has become of each session."""
    return {done.session_id: done async for done in Restorer(store).restore(ExportFile(path))}


async def content(store: EventStore) -> dict[str, list[tuple[int, int, bytes]]]:
    """Return everything that is in a store: versions, times and bytes."""
    found: dict[str, list[tuple[int, int, bytes]]] = {}
    async for event in store.read_all():
        found.setdefault(event.session_id, []).append((event.version, event.recorded_ms, event.entry))
    return found


@pytest.mark.guarantee("A6")
def test_a_round_trip_changes_nothing(url: str, directory: Path) -> None:
    """Whatever sessions hold, an export that is imported elsewhere is the same to the byte."""

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.dictionaries(
            texts.filter(lambda t: t and "\0" not in t),
            st.lists(events, min_size=1, max_size=5),
            min_size=1,
            max_size=4,
        )
    )
    def check(sessions: dict[str, list[Event]]) -> None:
        asyncio.run(round_trip(sessions))

    async def round_trip(sessions: dict[str, list[Event]]) -> None:
        async with (
            open_store(url, namespace=uuid.uuid4().hex, partitions=2) as source,
            open_store(url, namespace=uuid.uuid4().hex, partitions=3) as target,
        ):
            for session_id, said in sessions.items():
                await source.append(session_id, said)
            path = await export(source, directory / "all.jsonl")
            done = await restore(target, path)
            assert {each.outcome for each in done.values()} <= {Outcome.RESTORED}
            assert await content(target) == await content(source)
            assert {each.outcome for each in (await restore(target, path)).values()} <= {Outcome.PRESENT}
            assert not (await verify(target)).findings
            for session_id in sessions:
                one, again = [
                    (await export(store, directory / "one.jsonl", session_id)).read_bytes().splitlines()[1:-1]
                    for store in (source, target)
                ]
                assert one == again
            views = open_views(target)
            assert not await Projector(target, views).project(sessions)
            snapshots = await views.read_sessions(list(sessions))
            assert [snapshot.version for snapshot in snapshots] == [len(said) for said in sessions.values()]

    check()


@pytest.mark.guarantee("A6")
async def test_seals_come_along(store: EventStore, url: str, namespace: str, directory: Path) -> None:
    """A copy under the same name has the seals as well, and is proved by the same key; its sealing goes on."""
    await talk(store, "a", "one", "two")
    await talk(store, "b", "three")
    manifest = await seal(store)
    path = await export(store, directory / "all.jsonl")
    file = ExportFile(path, Keyring([SIGNER.public]))
    assert (file.sessions, file.events, file.proved) == (2, 3, 3)
    with pytest.raises(InvalidInput, match="not signed by a trusted key"):
        ExportFile(path, Keyring([Signer.new().public]))
    async with open_store("memory://", namespace=namespace) as copy:
        await restore(copy, path)
        assert (await verify(copy, manifests=[manifest])).proved
        await talk(copy, "a", "four")
        await seal(copy)
        assert (await verify(copy, manifests=[manifest])).sealed_events == 4
    async with open_store(url, namespace=f"{namespace}.other") as other:
        await restore(other, path)
        assert (await verify(other)).doubts == ["Nothing has been sealed, so nothing is proved."]


@pytest.mark.guarantee("A7")
async def test_another_session_is_not_touched(store: EventStore, url: str, namespace: str, directory: Path) -> None:
    """A session that the target has, and that is another one or has gone on, is refused; the rest is imported."""
    for name in ("same", "other", "longer", "new"):
        await talk(store, name, "one", "two")
    path = await export(store, directory / "all.jsonl")
    async with open_store(url, namespace=f"{namespace}.target") as target:
        await restore(target, await export(store, directory / "two.jsonl", "same", "longer"))
        await talk(target, "other", "somebody else's")
        await talk(target, "longer", "three")
        before = await content(target)
        done = await restore(target, path)
        assert {name: each.outcome for name, each in done.items()} == {
            "same": Outcome.PRESENT,
            "other": Outcome.REFUSED,
            "longer": Outcome.REFUSED,
            "new": Outcome.RESTORED,
        }
        after = await content(target)
        assert after.pop("new") == (await content(store))["new"]
        assert after == before


@pytest.mark.guarantee("A7")
async def test_an_import_that_was_interrupted_goes_on(
    store: EventStore, url: str, namespace: str, directory: Path
) -> None:
    """Where a part of a session is there already, the rest is put behind it."""
    await store.append("s", [MessageAdded("user", f"{n}") for n in range(700)])
    path = await export(store, directory / "all.jsonl")
    async with open_store(url, namespace=f"{namespace}.target") as target:
        there = await store.read("s", limit=510)
        assert await open_raw(target).restore("s", None, [(e.recorded_ms, e.entry) for e in there]) is None
        assert (await restore(target, path))["s"].outcome is Outcome.RESTORED
        assert await content(target) == await content(store)
        head = Head(there[-1].version, there[-1].recorded_ms)
        assert await open_raw(target).restore("s", head, [(there[-1].recorded_ms, b"[]")]) is not None
        assert await content(target) == await content(store)


@pytest.mark.guarantee("A7")
async def test_a_damaged_file_is_refused(store: EventStore, directory: Path) -> None:
    """Whatever line is changed, left out, doubled, or cut, the file is refused before anything is written."""
    await talk(store, "a", "one", "two", "three")
    await talk(store, "b", "four")
    await seal(store)
    whole = (await export(store, directory / "all.jsonl")).read_bytes().splitlines(keepends=True)
    damaged = directory / "damaged.jsonl"
    for at, line in enumerate(whole):
        for lines in (
            [*whole[:at], *whole[at + 1 :]],
            [*whole[:at], line, *whole[at:]],
            [*whole[:at], line.replace(b"o", b"0"), *whole[at + 1 :]] if b"o" in line else whole[:-1],
            [*whole[:at], line[: len(line) // 2]],
        ):
            damaged.write_bytes(b"".join(lines))
            with pytest.raises(InvalidInput, match=r"damaged\.jsonl is damaged, or no export, at line \d+"):
                ExportFile(damaged)
    for nothing in (
        b"",
        b"\n",
        b"\xff\xfe",
        b"{}\n",
        b"\x28\xb5\x2f\xfd\x00",
        b'{"kind":"event","entry":' + DEEP + b"}\n",
    ):
        damaged.write_bytes(nothing)
        with pytest.raises(InvalidInput):
            ExportFile(damaged)


@pytest.mark.guarantee("A6")
@pytest.mark.parametrize("entry", [DEEP, b"[" * 900 + b"]" * 900, b'["\xff"]'], ids=["bottomless", "deep", "no UTF-8"])
def test_an_entry_that_is_no_event_comes_along(entry: bytes, directory: Path) -> None:
    """What somebody else wrote into a log stands in a line that can be read, wherever the reader stands."""
    line = Line.of("s", 1, 1, entry)
    read = records.decode(msgspec.json.encode(line))
    assert isinstance(read, Line)
    assert read.content == entry
    assert not line.entry


async def test_what_cannot_be_exported(store: EventStore) -> None:
    """A session that does not exist, or whose log has a gap, is not exported."""
    with pytest.raises(UnknownSession):
        [line async for line in Exporter(store).lines(["nobody"])]
    if hasattr(store, "links"):
        await talk(store, "s", "one", "two", "three")
        first = (await store.read("s"))[0]
        key = store.keys.log(store.keys.partition(b"s"), b"s")  # type: ignore[attr-defined]
        await store.links.call("XDEL", key, f"1-{first.recorded_ms}")
        with pytest.raises(CorruptLog, match="version 1"):
            [line async for line in Exporter(store).lines()]
        assert bad(await verify(store)) == {("missing", "s", 1)}
