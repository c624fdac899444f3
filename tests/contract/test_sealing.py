"""Sealing and checking, on memory and on each server alike."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from support.proofs import SIGNER, bad, seal, talk, verify

from eventstore import EventStore, MessageAdded, SealsDoubtful
from eventstore.codec import encode
from eventstore.ids import new_event_id
from eventstore.partitions import partition_of
from eventstore.proof.signing import Signer
from eventstore.raw import open_raw
from projections import GROUP
from projections.sealing.keeping import open_seals
from projections.sealing.sealer import Round, Sealer
from workers.sealing import SealingWorker


@pytest.mark.guarantee("A1")
async def test_a_store_that_nobody_changed_is_proved(store: EventStore) -> None:
    """After sealing everything is proved, and what comes later is counted as not sealed yet, not as wrong."""
    await talk(store, "a", "one", "two")
    await store.append("b", [MessageAdded("user", f"{n}") for n in range(600)])
    first = await seal(store)
    await talk(store, "a", "three")
    verdict = await verify(store, manifests=[first])
    assert (verdict.proved, verdict.sessions, verdict.events, verdict.unsealed_events) == (True, 2, 603, 1)
    second = await seal(store)
    verdict = await verify(store, manifests=[first, second])
    assert (verdict.proved, verdict.unsealed_events, verdict.manifests) == (True, 0, 2)
    assert (await verify(store, "a", manifests=[first])).proved


@pytest.mark.guarantee("A2")
async def test_sealing_again_seals_what_is_new(store: EventStore) -> None:
    """A round signs the partitions in which something is new, and no others; another sealer goes on from there."""
    await talk(store, "a", "one")
    sealer = Sealer(store, SIGNER)
    assert (await sealer.seal()).seals == store.partitions
    assert (await sealer.seal()).seals == 0
    await talk(store, "a", "two", "three")
    done = await Sealer(store, SIGNER).seal()
    assert (done.seals, done.sessions, done.events) == (1, 1, 2)
    assert (await sealer.seal()).seals == 0
    assert (await verify(store)).proved


@pytest.mark.guarantee("A2")
async def test_sealers_that_race(store: EventStore) -> None:
    """Several sealers and writers at once make one sequence of seals, and everything is proved."""
    sealers = [Sealer(store, SIGNER) for _ in range(3)]
    for n in range(4):
        await asyncio.gather(
            *(sealer.seal() for sealer in sealers), *(talk(store, f"s{m % 3}", f"{n} {m}") for m in range(9))
        )
        assert not (await verify(store)).findings
    await seal(store)
    verdict = await verify(store)
    assert (verdict.proved, verdict.events, verdict.sealed_events) == (True, 36, 36)


async def test_a_check_beside_writers_finds_nothing(store: EventStore) -> None:
    """Appending, sealing and trimming while a check runs is no reason for a finding."""
    await talk(store, "s", "first")
    sealer = Sealer(store, SIGNER)
    await sealer.seal()
    async with anyio.create_task_group() as tasks:

        async def write() -> None:
            for n in range(30):
                await talk(store, f"s{n % 4}", f"{n}")
                if n % 5 == 0:
                    await sealer.seal()

        tasks.start_soon(write)
        for _ in range(6):
            assert not bad(await verify(store))
    consumer = await store.feed.join(GROUP, "c")
    await consumer.ack(await consumer.take(count=1000, wait=0))
    await store.feed.trim()
    await sealer.seal()
    assert (await verify(store)).proved
    await talk(store, "s", "after the trim")
    assert not bad(await verify(store))


@pytest.mark.guarantee("A3")
async def test_doubts_are_not_proofs(store: EventStore) -> None:
    """Without a key, or without seals, nothing is proved, and the verdict says why; nor is a session of no events."""
    await talk(store, "a", "one")
    assert (await verify(store)).doubts == ["Nothing has been sealed, so nothing is proved."]
    manifest = await seal(store)
    verdict = await verify(store, manifests=[manifest], signer=None)
    assert not verdict.proved
    assert "No public key" in verdict.doubts[0]
    assert bad(await verify(store, "nobody")) == {("removed", "nobody", 1)}
    stranger = await verify(store, manifests=[manifest], signer=Signer.new())
    assert {kind for kind, _, _ in bad(stranger)} == {"seal", "manifest"}


@pytest.mark.guarantee("A3")
async def test_digests_beside_the_log_prove_nothing(store: EventStore) -> None:
    """Digests that were changed are seen, and do not make the log a wrong one."""
    await talk(store, "a", "one", "two")
    await seal(store)
    await open_seals(store).keep_links("a", 0, [b"\0" * 32])
    verdict = await verify(store)
    assert (bad(verdict), verdict.sealed_events) == ({("seal", "a", 1)}, 2)


@pytest.mark.guarantee("A2")
async def test_a_key_is_followed_by_another(store: EventStore) -> None:
    """A new signer builds on the seals of one that it is told to trust, and on no others."""
    await talk(store, "a", "one")
    await seal(store)
    await talk(store, "a", "two")
    second = Signer.new()
    with pytest.raises(SealsDoubtful, match="not trusted"):
        await Sealer(store, second).seal()
    assert (await Sealer(store, second, trusted=[SIGNER.public]).seal()).events == 1
    with pytest.raises(SealsDoubtful, match="not trusted"):
        await Sealer(store, SIGNER).seal()


@pytest.mark.guarantee("A2")
async def test_the_worker_seals_until_it_is_stopped(store: EventStore) -> None:
    """It seals at once, at its interval, and once more when it is asked to stop."""
    await talk(store, "a", "one")
    rounds: list[Round] = []
    sealed = anyio.Event()

    async def told(done: Round) -> None:
        rounds.append(done)
        sealed.set()

    worker = SealingWorker(Sealer(store, SIGNER), every=1000, sealed=told)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await sealed.wait()
        await talk(store, "a", "two")
        await worker.stop()
    assert [done.events for done in rounds] == [1, 1]
    assert (await verify(store)).unsealed_events == 0


@pytest.mark.guarantee("A3")
async def test_what_was_put_there_with_an_old_time(store: EventStore) -> None:
    """Events that are older than a seal that does not know them are a finding until they are sealed, then a note."""
    await talk(store, "a", "one")
    await seal(store)
    other = next(f"s{n}" for n in range(1000) if store_partition(store, f"s{n}") == store_partition(store, "a"))
    assert (
        await open_raw(store).restore(other, None, [(1000, encode(new_event_id(), MessageAdded("user", "x"), None))])
        is None
    )
    assert bad(await verify(store)) == {("backdated", other, 1)}
    await seal(store)
    verdict = await verify(store)
    assert verdict.proved
    (note,) = verdict.notes
    assert f"'{other}', versions 1 to 1," in note


def store_partition(store: EventStore, session_id: str) -> int:
    """Return a session's partition."""
    return partition_of(session_id.encode(), store.partitions)
