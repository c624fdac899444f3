"""Somebody who can write to Redis changes what was recorded. Each attack is made on a real server, and must be seen."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from support.proofs import SIGNER, bad, seal, talk, verify

from eventstore import EventStore, open_store
from eventstore.proof.chain import genesis, link
from eventstore.proof.manifests import Manifest
from eventstore.proof.signing import Signer
from eventstore.redis.keys import Keys
from projections.sealing.sealer import Sealer

PARTITIONS = 2
SESSION = "victim"


class Attacker:
    """Somebody with raw access to Redis and without the key."""

    def __init__(self, client: Redis, namespace: str) -> None:
        self.client: Any = client
        self.keys = Keys(namespace, PARTITIONS)
        self.partition = self.keys.partition(SESSION.encode())
        self.log = self.keys.log(self.partition, SESSION.encode())
        self.heads = self.keys.heads(self.partition)
        self.feed = self.keys.feed(self.partition)
        self.seals = self.keys.shared(self.partition, b"seals@1")
        self.chain = self.keys.of_session(b"chain@1", SESSION.encode())

    async def entries(self) -> list[tuple[bytes, bytes]]:
        """Return the log: ids and entries."""
        return [(place, fields[b"e"]) for place, fields in await self.client.xrange(self.log)]

    async def rewrite(self, entries: list[tuple[bytes, bytes]], *, tidy: bool = True) -> None:
        """Put another log in the place of the session's; with ``tidy``, set its head as well."""
        await self.client.delete(self.log)
        for place, entry in entries:
            await self.client.xadd(self.log, {"e": entry}, id=place)
        if tidy:
            await self.client.hset(self.heads, SESSION, entries[-1][0])

    async def renumbered(self, entries: list[tuple[bytes, bytes]]) -> None:
        """Put another log in the session's place, numbered from 1, and a feed to match it."""
        numbered = [(b"%d-%s" % (v, place.split(b"-")[1]), entry) for v, (place, entry) in enumerate(entries, 1)]
        await self.rewrite(numbered)
        await self.refeed(len(numbered))

    async def refeed(self, count: int) -> None:
        """Leave as many pointers to the session in the feed as it has entries."""
        others = [fields for _, fields in await self.client.xrange(self.feed) if SESSION.encode() not in fields]
        await self.client.delete(self.feed)
        for fields in others + [{SESSION: f"{version}/1"} for version in range(1, count + 1)]:
            await self.client.xadd(self.feed, fields)

    async def rechain(self) -> None:
        """Make the digests beside the log anew, to fit it."""
        chain, digests = genesis(SESSION.encode()), []
        for place, entry in await self.entries():
            chain = link(chain, int(place.split(b"-")[1]), entry)
            digests.append(chain.digest)
        await self.client.set(self.chain, b"".join(digests))


@contextlib.asynccontextmanager
async def attacked(url: str, namespace: str) -> AsyncIterator[tuple[EventStore, Attacker, Manifest]]:
    """Give a sealed store with some sessions, somebody to attack it, and the manifest that was kept elsewhere."""
    async with open_store(url, namespace=namespace, partitions=PARTITIONS) as store, Redis.from_url(url) as client:
        for name in ("bystander 1", "bystander 2", "bystander 3"):
            await talk(store, name, "hello", "goodbye")
        await talk(store, SESSION, "one", "two", "three")
        await seal(store)
        await talk(store, SESSION, "four", "five", "six")
        manifest = await seal(store)
        await talk(store, SESSION, "not sealed yet")
        verdict = await verify(store, manifests=[manifest])
        assert verdict.proved
        assert (verdict.sealed_events, verdict.unsealed_events) == (12, 1)
        yield store, Attacker(client, namespace), manifest


async def edited(attacker: Attacker) -> None:
    """Change the text of version 4, by rewriting the stream."""
    entries = await attacker.entries()
    entries[3] = (entries[3][0], entries[3][1].replace(b"four", b"4444"))
    await attacker.rewrite(entries)


async def edited_meta(attacker: Attacker) -> None:
    """Change nothing but the time of version 4."""
    entries = await attacker.entries()
    entries[3] = (entries[2][0].replace(b"3-", b"4-"), entries[3][1] + b" ")
    await attacker.rewrite(entries)


async def deleted(attacker: Attacker) -> None:
    """XDEL version 4."""
    await attacker.client.xdel(attacker.log, (await attacker.entries())[3][0])


async def deleted_and_renumbered(attacker: Attacker) -> None:
    """Leave version 4 out, and let those after it move up."""
    entries = await attacker.entries()
    await attacker.renumbered(entries[:3] + entries[4:])


async def inserted(attacker: Attacker) -> None:
    """Put an entry of the attacker's before version 4, and let the others move on."""
    entries = await attacker.entries()
    lie = (entries[3][0], entries[3][1].replace(b"four", b"a lie"))
    await attacker.renumbered([*entries[:3], lie, *entries[3:]])


async def swapped(attacker: Attacker) -> None:
    """Exchange versions 4 and 5."""
    entries = await attacker.entries()
    (a, four), (b, five) = entries[3:5]
    await attacker.rewrite([*entries[:3], (a, five), (b, four), *entries[5:]])


async def swapped_sessions(attacker: Attacker) -> None:
    """Put another session's log, by DUMP and RESTORE, in the place of this one."""
    other = attacker.keys
    for name in (b"bystander 1", b"bystander 2", b"bystander 3"):
        dumped = await attacker.client.dump(other.log(other.partition(name), name))
        await attacker.client.restore(attacker.log, 0, dumped, replace=True)


async def truncated(attacker: Attacker) -> None:
    """Cut versions 4 to 7 off, and set everything that tells of them."""
    await attacker.renumbered((await attacker.entries())[:3])
    await attacker.client.set(attacker.chain, (await attacker.client.get(attacker.chain))[: 3 * 32])


async def removed(attacker: Attacker) -> None:
    """Take the session away, and whatever tells of it but the seals."""
    await attacker.refeed(0)
    await attacker.client.delete(attacker.log, attacker.chain)
    await attacker.client.hdel(attacker.heads, SESSION)


async def edited_and_rechained(attacker: Attacker) -> None:
    """Change version 4, and make the digests beside the log anew."""
    await edited(attacker)
    await attacker.rechain()


ATTACKS: list[tuple[Callable[[Attacker], Awaitable[None]], tuple[str, int]]] = [
    (edited, ("changed", 4)),
    (edited_meta, ("changed", 4)),
    (deleted, ("missing", 4)),
    (deleted_and_renumbered, ("changed", 4)),
    (inserted, ("changed", 4)),
    (swapped, ("changed", 4)),
    (swapped_sessions, ("changed", 1)),
    (truncated, ("truncated", 4)),
    (removed, ("removed", 1)),
    (edited_and_rechained, ("changed", 4)),
]


@pytest.mark.guarantee("A1", "A3")
@pytest.mark.parametrize(("attack", "seen"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
async def test_an_attack_is_seen(
    redis_url: str, namespace: str, attack: Callable[[Attacker], Awaitable[None]], seen: tuple[str, int]
) -> None:
    """The check names what was done, the session, and the first bad version, by the seals beside the log alone."""
    async with attacked(redis_url, namespace) as (store, attacker, _):
        await attack(attacker)
        kind, version = seen
        assert bad(await verify(store)) == {(kind, SESSION, version)}
        assert bad(await verify(store, SESSION)) == {(kind, SESSION, version)}
        assert (await verify(store, "bystander 1")).proved


@pytest.mark.guarantee("A1", "A3")
@pytest.mark.parametrize("lie", [b"\xff", b"[" * 60_000], ids=["no UTF-8", "bottomless"])
async def test_what_cannot_be_decoded_stops_no_check(redis_url: str, namespace: str, lie: bytes) -> None:
    """An entry, a seal or a tombstone that no decoder takes is named, and everything else is looked at."""
    async with attacked(redis_url, namespace) as (store, attacker, _):
        entries = await attacker.entries()
        entries[3] = (entries[3][0], entries[3][1].replace(b'"four"', lie))
        await attacker.rewrite(entries)
        assert bad(await verify(store)) == {("unreadable", SESSION, 4)}
        await attacker.client.xadd(attacker.seals, {"e": b'{"x":' + lie})
        tombstones = attacker.keys.tombstones(attacker.partition)
        await attacker.client.hset(tombstones, "0" * 40, b'{"x":' + lie)
        assert {kind for kind, *_ in bad(await verify(store))} == {"unreadable", "seal", "tombstone"}


@pytest.mark.guarantee("A4")
@pytest.mark.parametrize(("attack", "seen"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
async def test_an_attack_is_seen_in_the_manifest(
    redis_url: str, namespace: str, attack: Callable[[Attacker], Awaitable[None]], seen: tuple[str, int]
) -> None:
    """When all seals and digests are gone as well, the manifest tells of the same."""
    async with attacked(redis_url, namespace) as (store, attacker, manifest):
        await attack(attacker)
        for partition in range(PARTITIONS):
            await attacker.client.delete(attacker.keys.shared(partition, b"seals@1"))
        await attacker.client.delete(attacker.chain)
        found = bad(await verify(store, manifests=[manifest]))
        assert {each for each in found if each[1] is None} == {("manifest", None, 0)}
        (kind, session_id, version), *more = [each for each in found if each[1] is not None]
        assert not more
        assert (session_id, kind) in {(SESSION, seen[0]), (SESSION, "truncated")}
        assert version <= seen[1]


@pytest.mark.guarantee("A3")
async def test_a_chain_that_is_rebuilt_without_the_key(redis_url: str, namespace: str) -> None:
    """Who seals a changed log with a key of his own is found out by the key."""
    async with attacked(redis_url, namespace) as (store, attacker, manifest):
        await edited_and_rechained(attacker)
        for partition in range(PARTITIONS):
            await attacker.client.delete(attacker.keys.shared(partition, b"seals@1"))
        forger = Signer.new()
        await seal(store, forger)
        assert (await verify(store, signer=forger)).proved  # it is his own word
        assert {kind for kind, _, _ in bad(await verify(store))} == {"seal"}
        assert ("changed", SESSION, 1) in bad(await verify(store, manifests=[manifest]))


@pytest.mark.guarantee("A3")
async def test_seals_are_bound_to_each_other(redis_url: str, namespace: str) -> None:
    """A seal that is left out, changed, or taken from another partition is seen."""
    async with attacked(redis_url, namespace) as (store, attacker, manifest):
        place, fields = (await attacker.client.xrange(attacker.seals))[0]
        await attacker.client.xdel(attacker.seals, place)
        assert ("seal", None, 0) in bad(await verify(store))
        await attacker.client.delete(attacker.seals)
        await attacker.client.xadd(attacker.seals, {"e": fields[b"e"].replace(b'"events":', b'"events":1')}, id="1-0")
        assert ("seal", None, 0) in bad(await verify(store))
        await attacker.client.delete(attacker.seals)
        other = attacker.keys.shared(1 - attacker.partition, b"seals@1")
        for place, fields in await attacker.client.xrange(other):
            await attacker.client.xadd(attacker.seals, fields, id=place)
        assert ("seal", None, 0) in bad(await verify(store))
        assert ("manifest", None, 0) in bad(await verify(store, manifests=[manifest]))


@pytest.mark.guarantee("A4")
async def test_what_is_rolled_back_with_its_seals(redis_url: str, namespace: str) -> None:
    """A log that is cut back to an earlier seal, along with the later ones, looks right to all but the manifest."""
    async with attacked(redis_url, namespace) as (store, attacker, manifest):
        await truncated(attacker)
        places = [place for place, _ in await attacker.client.xrange(attacker.seals)]
        await attacker.client.xdel(attacker.seals, *places[1:])
        assert (await verify(store)).proved
        found = bad(await verify(store, manifests=[manifest]))
        assert found == {("manifest", None, 0), ("truncated", SESSION, 4)}


@pytest.mark.guarantee("A3")
async def test_what_is_put_there_from_outside(redis_url: str, namespace: str) -> None:
    """A session that is written past the log, and an entry behind its end, are seen at once."""
    async with attacked(redis_url, namespace) as (store, attacker, _):
        entries = await attacker.entries()
        await attacker.client.xadd(attacker.log, {"e": entries[0][1]}, id="8-9999999999999")
        assert bad(await verify(store)) == {("head", SESSION, 8)}
        await attacker.client.xdel(attacker.log, "8-9999999999999")
        ghost = attacker.keys.log(attacker.keys.partition(b"ghost"), b"ghost")
        await attacker.client.xadd(ghost, {"e": entries[0][1]}, id="1-1000")
        assert ("backdated", "ghost", 1) in bad(await verify(store))
        await attacker.client.delete(ghost)
        await attacker.client.xadd(ghost, {"e": entries[0][1]}, id="1-9999999999999")
        assert bad(await verify(store)) == {("head", "ghost", 1)}
        await attacker.client.hset(attacker.keys.heads(attacker.keys.partition(b"ghost")), "ghost", "1-9999999999999")
        assert bad(await verify(store)) == {("feed", "ghost", 1)}
        await attacker.client.delete(ghost)
        await attacker.client.set(ghost, "not a stream")
        assert bad(await verify(store)) == {("unreadable", "ghost", 1)}
        done = await Sealer(store, SIGNER).seal()
        assert {(finding.kind.value, finding.session_id) for finding in done.findings} == {("unreadable", "ghost")}
        await attacker.client.delete(ghost)
        await attacker.client.hdel(attacker.keys.heads(attacker.keys.partition(b"ghost")), "ghost")
        impossible = b"x" * 600
        await attacker.client.hset(attacker.heads, impossible, "1-1")
        assert bad(await verify(store)) == {("unreadable", None, 0)}
        assert [finding.kind.value for finding in (await Sealer(store, SIGNER).seal()).findings] == ["unreadable"]


@pytest.mark.guarantee("A2")
async def test_a_sealer_does_not_seal_what_contradicts_its_seals(redis_url: str, namespace: str) -> None:
    """After an attack the sealer refuses that session by name, seals the others, and the proof of the attack stays."""
    async with attacked(redis_url, namespace) as (store, attacker, _):
        await truncated(attacker)
        await talk(store, "bystander 1", "something new")
        done = await Sealer(store, SIGNER).seal()
        assert [(finding.session_id, finding.version) for finding in done.findings] == [(SESSION, 4)]
        assert (done.sessions, done.events) == (1, 1)
        assert bad(await verify(store)) == {("truncated", SESSION, 4)}
        await talk(store, SESSION, "4", "5", "6", "7")
        done = await Sealer(store, SIGNER).seal()
        assert bad(await verify(store)) == {("changed", SESSION, 4)}


@pytest.mark.guarantee("A5")
async def test_what_seals_cannot_prove(redis_url: str, namespace: str) -> None:
    """What was changed before it was sealed is not seen; the work of who has the key, in an old manifest alone."""
    async with attacked(redis_url, namespace) as (store, attacker, manifest):
        entries = await attacker.entries()
        entries[6] = (entries[6][0], entries[6][1].replace(b"not sealed yet", b"anything at all"))
        await attacker.rewrite(entries)
        assert (await verify(store)).proved
        await edited_and_rechained(attacker)
        for partition in range(PARTITIONS):
            await attacker.client.delete(attacker.keys.shared(partition, b"seals@1"))
        assert not (await verify(store)).proved
        await seal(store)  # with the true key
        assert (await verify(store)).proved
        assert ("changed", SESSION, 1) in bad(await verify(store, manifests=[manifest]))
