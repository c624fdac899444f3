"""Durability levels: which a server can reach, what a call is told, and that nothing is promised that was not seen."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.clusters import Cluster, cluster_binaries
from support.replicas import Pair, ask
from support.servers import Server, binaries
from support.waiting import until

from contextengine import ContextEngine, Durability, DurabilityNotReached, InvalidInput, ServerUnfit, StoreUnavailable
from eventstore import Append, Appended, EventStore, MessageAdded, open_store

SERVERS = binaries()
WAITING = "valkey-9.1"
"""The kind of server here that has WAITAOF."""
BAD: list[Any] = [
    "",
    "fsync",
    "FSYNCED",
    "replicated:0",
    "replicated:-1",
    "replicated:1001",
    "replicated:2 ",
    1,
    True,
    b"accepted",
]
SHORT = 2.0
"""A timeout for calls that are meant to end without what they wait for."""


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


@pytest.fixture(params=SERVERS)
async def pair(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[Pair]:
    """A primary and a replica of each kind."""
    async with Pair(SERVERS[request.param], directory) as pair:
        yield pair


class TestNames:
    @pytest.mark.parametrize("level", ["accepted", "fsynced", "replicated", "replicated:2", "replicated:1000"])
    def test_a_level_is_its_name(self, level: str) -> None:
        """A level equals the string that names it, and tells how many replicas it is about."""
        assert Durability(level) == level
        assert Durability(Durability(level)) == level
        assert Durability(level).replicas == {"replicated": 1, "replicated:2": 2, "replicated:1000": 1000}.get(level, 0)

    def test_one_replica_is_replicated(self) -> None:
        """There is one name for each level."""
        assert Durability("replicated:1") == Durability.REPLICATED == "replicated"

    @pytest.mark.parametrize("bad", BAD, ids=repr)
    @pytest.mark.guarantee("D1")
    async def test_what_is_no_level_is_refused(self, store: EventStore, url: str, bad: Any) -> None:
        """What names no level is refused by name wherever one is asked for, and nothing is written."""
        with pytest.raises(InvalidInput, match="durability must be"):
            await store.append("s", said("a"), durability=bad)
        with pytest.raises(InvalidInput, match="durability must be"):
            await store.append_many([Append("s", [said("a")])], durability=bad)
        with pytest.raises(InvalidInput, match="durability must be"):
            open_store(url, durability=bad)
        with pytest.raises(InvalidInput, match="durability must be"):
            ContextEngine(url, durability=bad)
        async with ContextEngine(url, namespace=store.namespace, workers=False) as engine:
            with pytest.raises(InvalidInput, match="durability must be"):
                await engine.add_conversation_message("s", "user", "a", durability=bad)
            with pytest.raises(InvalidInput, match="durability must be"):
                await engine.add_conversation_messages("s", [{"role": "user"}], durability=bad)
        assert await store.version("s") == 0


class TestAccepted:
    @pytest.mark.guarantee("D1")
    async def test_is_what_an_append_reaches_that_asks_for_nothing(self, store: EventStore) -> None:
        """Without a word about durability an append is accepted, and says no more, whatever the server does."""
        assert (await store.append("s", said("a"))).durability == Durability.ACCEPTED == store.durability
        assert (await store.append("s", said("a"), durability="accepted")).durability == "accepted"

    @pytest.mark.parametrize("level", ["fsynced", "replicated", "replicated:3"])
    @pytest.mark.guarantee("D1")
    async def test_is_all_that_memory_knows(self, level: str) -> None:
        """Memory refuses any other level, when it is opened and when it is called, and writes nothing."""
        with pytest.raises(InvalidInput, match="memory:// keeps nothing"):
            await open_store("memory://", durability=level)
        async with open_store("memory://") as store:
            with pytest.raises(InvalidInput, match="memory:// keeps nothing"):
                await store.append("s", said("a"), durability=level)
            with pytest.raises(InvalidInput, match="memory:// keeps nothing"):
                await store.append_many([Append("s", [said("a")])], durability=level)
            assert await store.version("s") == 0

    async def test_an_engine_that_asks_for_more_does_not_fall_back_to_memory(
        self, monkeypatch: pytest.MonkeyPatch, directory: Path
    ) -> None:
        """An engine whose level memory does not have raises where its server is away, though it may fall back."""
        monkeypatch.setenv("CONTEXTENGINE_URL", f"unix://{directory}/nobody")
        with pytest.raises(StoreUnavailable):
            await ContextEngine(durability="fsynced").initialize()
        with pytest.raises(StoreUnavailable):
            await ContextEngine(durability="fsynced", fallback="memory").initialize()


class TestFsynced:
    @pytest.mark.parametrize("kind", SERVERS)
    @pytest.mark.guarantee("D2")
    async def test_a_server_that_writes_before_it_answers_reaches_it(self, directory: Path, kind: str) -> None:
        """With appendfsync always every kind of server reaches it: for a store, for a call, for many appends."""
        with Server(SERVERS[kind], directory, appendfsync="always") as server:
            async with open_store(server.url, durability="fsynced") as store:
                assert store.durability == "fsynced"
                assert (await store.append("s", said("a"))).durability == "fsynced"
                assert (await store.append("s", said("a"), durability="accepted")).durability == "accepted"
                results = await store.append_many([Append(name, [said("a")]) for name in "stuvw"])
                assert [result.durability for result in results if isinstance(result, Appended)] == ["fsynced"] * 5
            async with open_store(server.url) as store:
                assert (await store.append("s", said("a"), durability="fsynced")).version == 4

    @pytest.mark.guarantee("D2")
    async def test_a_server_that_writes_every_second_is_waited_for(self, directory: Path) -> None:
        """Where the server has WAITAOF, an append returns when what it wrote is on the disk, and many share a wait."""
        with Server(SERVERS[WAITING], directory) as server:
            async with open_store(server.url, durability="fsynced") as store:
                await asyncio.gather(*(store.append(f"s{number}", said("a")) for number in range(200)))
            waits = (await ask(server, "INFO", "commandstats"))["cmdstat_waitaof"]["calls"]
            assert waits <= 6  # one to see whether it may, the others of batches that are as large as they may be
            async with open_store(server.url) as store:
                appended = await store.append("s0", said("a"), durability="fsynced")
                assert appended.durability == "fsynced"

    @pytest.mark.skipif(not shutil.which("strace"), reason="nobody here can tell when a server calls fsync")
    @pytest.mark.guarantee("D2")
    async def test_is_not_believed_before_there_was_an_fsync(self, directory: Path) -> None:
        """Each append returns after an fsync that began after it was written, whatever WAITAOF said before."""
        calls, traced = directory / "calls", directory / "traced"
        traced.write_text(
            f'#!/bin/sh\nexec strace -D -f -ttt -e trace=fdatasync,fsync -o {calls} {SERVERS[WAITING]} "$@"\n',
            encoding="utf-8",
        )
        traced.chmod(0o755)
        with Server(str(traced), directory) as server:
            async with open_store(server.url, durability="fsynced") as store:
                for _ in range(4):
                    before = time.time()
                    await store.append("s", said("a"))
                    begun = [float(line.split()[1]) for line in calls.read_text().splitlines() if "sync(" in line]
                    assert [at for at in begun if at > before]

    @pytest.mark.parametrize("kind", [kind for kind in SERVERS if kind != WAITING])
    @pytest.mark.guarantee("D2")
    async def test_a_server_that_cannot_say_is_refused(self, directory: Path, kind: str) -> None:
        """An older server that writes every second is refused with what to set; when it is set, it serves."""
        with Server(SERVERS[kind], directory) as server:
            with pytest.raises(ServerUnfit, match=r"appendfsync is 'everysec'.*CONFIG SET appendfsync always"):
                await open_store(server.url, durability="fsynced")
            async with open_store(server.url) as store:
                with pytest.raises(ServerUnfit, match="CONFIG SET appendfsync always"):
                    await store.append("s", said("a"), durability="fsynced")
                assert await store.version("s") == 0
                await ask(server, "CONFIG", "SET", "appendfsync", "always")
                assert (await store.append("s", said("a"), durability="fsynced")).durability == "fsynced"
                await ask(server, "CONFIG", "SET", "appendfsync", "everysec")
                with pytest.raises(DurabilityNotReached, match="appendfsync is 'everysec'") as caught:
                    await store.append("s", said("b"), durability="fsynced")
                assert (caught.value.version, caught.value.reached) == (2, "accepted")
                assert await store.version("s") == 2
                await ask(server, "CONFIG", "SET", "appendfsync", "always")
                await ask(server, "CONFIG", "SET", "no-appendfsync-on-rewrite", "yes")
                with pytest.raises(DurabilityNotReached, match="no-appendfsync-on-rewrite is 'yes'"):
                    await store.append("s", said("c"), durability="fsynced")

    @pytest.mark.parametrize("kind", SERVERS)
    @pytest.mark.parametrize(("setting", "value"), [("appendonly", "no"), ("appendfsync", "no")])
    @pytest.mark.guarantee("D2")
    async def test_a_server_that_never_writes_is_refused(
        self, directory: Path, kind: str, setting: str, value: str
    ) -> None:
        """Without a file, or without fsync, the level is refused: at open for a store, at the call for a call."""
        with Server(SERVERS[kind], directory, **{setting: value}) as server:
            with pytest.raises(ServerUnfit, match=f"CONFIG SET {setting}"):
                await open_store(server.url, durability="fsynced")
            async with open_store(server.url) as store:
                with pytest.raises(ServerUnfit, match=f"CONFIG SET {setting}"):
                    await store.append("s", said("a"), durability="fsynced")
                assert await store.version("s") == 0

    @pytest.mark.guarantee("D2")
    async def test_a_file_that_is_given_up_is_noticed(self, directory: Path) -> None:
        """A server that stops writing its file while a store is open promises nothing any more."""
        with Server(SERVERS[WAITING], directory) as server:
            async with open_store(server.url, durability="fsynced") as store:
                await store.append("s", said("a"))
                await ask(server, "CONFIG", "SET", "appendonly", "no")
                with pytest.raises(DurabilityNotReached) as caught:
                    await store.append("s", said("b"))
                assert await store.outcome("s", caught.value.event_ids) == Appended("s", 2, caught.value.event_ids)

    @pytest.mark.parametrize("kind", SERVERS)
    async def test_who_may_not_ask_for_settings(self, directory: Path, kind: str) -> None:
        """Where CONFIG is denied, as hosted servers do, WAITAOF serves; where there is none, the level is refused."""
        with Server(SERVERS[kind], directory, appendfsync="always") as server:
            await ask(server, "ACL", "SETUSER", "bob", "on", ">pw", "~*", "&*", "+@all", "-config")
            url = server.url.replace("unix://", "unix://bob:pw@")
            if kind == WAITING:
                async with open_store(url, durability="fsynced") as store:
                    assert (await store.append("s", said("a"))).durability == "fsynced"
            else:
                with pytest.raises(ServerUnfit, match="no WAITAOF for this user"):
                    await open_store(url, durability="fsynced")

    async def test_an_embedded_server_reaches_it(self, directory: Path) -> None:
        """embedded:// reaches it as it is, and with everysec too."""
        for number, options in enumerate(["", "?appendfsync=everysec"]):
            async with open_store(f"embedded://{directory}/{number}{options}", durability="fsynced") as store:
                assert (await store.append("s", said("a"))).durability == "fsynced"


class TestReplicated:
    @pytest.mark.guarantee("D3")
    async def test_a_replica_that_follows(self, pair: Pair) -> None:
        """With a replica that follows, the level is reached, and the replica has the events then."""
        async with open_store(pair.url, durability="replicated") as store:
            for version in range(1, 21):
                appended = await store.append("s", said("a"))
                assert (appended.version, appended.durability) == (version, "replicated")
                log = store.keys.log(store.keys.partition(b"s"), b"s").decode()  # type: ignore[attr-defined]
                assert await ask(pair.replica, "XLEN", log) == version

    @pytest.mark.guarantee("D3")
    async def test_a_replica_that_stalls(self, pair: Pair) -> None:
        """With a replica that stalls, the call says so: the events exist, once; and later ones reach the level."""
        async with open_store(pair.url, durability="replicated", timeout=SHORT) as store:
            await store.append("s", said("a"))
            pair.line.stall()
            with pytest.raises(DurabilityNotReached, match=r"0 replica\(s\).*Do not append them anew") as caught:
                await store.append("s", [said("b"), said("c")])
            error = caught.value
            assert (error.session_id, error.version, error.wanted, error.reached) == ("s", 3, "replicated", "accepted")
            assert [event.event_id for event in await store.read("s", after=1)] == error.event_ids
            pair.line.flow()
            assert (await store.append("s", said("d"))).version == 4

    @pytest.mark.guarantee("D3")
    async def test_fewer_replicas_than_asked_for(self, pair: Pair) -> None:
        """An append that asks for two replicas where there is one says which level it reached."""
        async with open_store(pair.url, timeout=SHORT) as store:
            with pytest.raises(DurabilityNotReached, match="are replicated, not replicated:2") as caught:
                await store.append("s", said("a"), durability="replicated:2")
            assert caught.value.reached == Durability.REPLICATED
            results = await store.append_many([Append(name, [said("b")]) for name in "st"], durability="replicated:2")
            assert [type(result) for result in results] == [DurabilityNotReached] * 2

    @pytest.mark.guarantee("D4")
    async def test_who_asks_for_less_does_not_wait(self, pair: Pair) -> None:
        """While a replica stalls, appends that ask for no replica, and reads, go on beside one that waits."""
        async with open_store(pair.url) as store:
            await store.append("s", said("a"), durability="replicated")
            pair.line.stall()
            waiting = asyncio.ensure_future(store.append("s", said("b"), durability="replicated"))
            await until(lambda: _blocked(pair.primary))
            for version in range(3, 103):
                assert (await store.append("s", said("c"))).version == version
            assert len(await store.read("s")) == 102
            assert not waiting.done()
            pair.line.flow()
            assert (await waiting).version == 2

    @pytest.mark.guarantee("D4")
    async def test_those_that_wait_share_their_waits(self, pair: Pair) -> None:
        """What comes while a batch waits leaves together afterwards: two waits for 301 appends."""
        async with open_store(pair.url) as store:
            await store.append("s", said("a"), durability="replicated")
            before = (await ask(pair.primary, "INFO", "commandstats"))["cmdstat_wait"]["calls"]
            pair.line.stall()
            first = asyncio.ensure_future(store.append("s", said("b"), durability="replicated"))
            await until(lambda: _blocked(pair.primary))
            others = []
            for number in range(300):
                others.append(asyncio.ensure_future(store.append(f"s{number % 9}", said("c"), durability="replicated")))
                await asyncio.sleep(0)  # no-sleep-ok: each in a turn of the loop of its own
            pair.line.flow()
            assert {appended.durability for appended in await asyncio.gather(first, *others)} == {"replicated"}
            calls = (await ask(pair.primary, "INFO", "commandstats"))["cmdstat_wait"]["calls"]
            assert calls - before == 2

    @pytest.mark.guarantee("D4")
    async def test_a_lost_reply_is_no_promise(self, pair: Pair) -> None:
        """An append whose reply was lost, and that is found there, has not reached a replica for being found."""
        async with open_store(pair.url, timeout=SHORT) as store:
            await store.append("s", said("a"), durability="replicated")
            await pair.level()
            pair.line.stall()
            pair.front.lose_next_reply()
            with pytest.raises(DurabilityNotReached) as caught:
                await store.append("s", said("b"), durability="replicated")
            assert pair.front.lost == 1
            assert [event.event_id for event in await store.read("s", after=1)] == caught.value.event_ids

    @pytest.mark.guarantee("D4")
    async def test_a_lost_reply_may_be_a_promise(self, pair: Pair) -> None:
        """An append whose reply was lost reaches its level once, where the replica follows."""
        async with open_store(pair.url) as store:
            await store.append("s", said("a"), durability="replicated")
            for version in range(2, 12):
                pair.front.lose_next_reply()
                appended = await store.append("s", said("b"), durability="replicated")
                assert (appended.version, appended.durability) == (version, "replicated")
            assert pair.front.lost == 10

    @pytest.mark.guarantee("D3")
    async def test_an_engine_says_what_it_knows(self, pair: Pair) -> None:
        """An engine whose message did not get as far as was asked for has the message, and counts it, once."""
        async with ContextEngine(pair.url, durability="replicated", timeout=SHORT) as engine:
            await engine.create_session("s")
            assert await engine.add_conversation_message("s", "user", "a")
            pair.line.stall()
            with pytest.raises(DurabilityNotReached) as caught:
                await engine.add_conversation_message("s", "user", "b")
            assert await engine.add_conversation_message("s", "user", "c", durability="accepted")
            assert await engine.add_conversation_messages(
                "s", [{"role": "user", "content": "d"}], durability="accepted"
            )
            history = await engine.get_conversation_history("s")
            assert [message.content for message in history] == ["a", "b", "c", "d"]
            found = await engine.outcome("s", caught.value.event_ids)
            assert found is not None
            assert found.version == caught.value.version == 3
            pair.line.flow()


class TestCluster:
    @pytest.mark.skipif(WAITING not in cluster_binaries(), reason="no server here that has WAITAOF")
    @pytest.mark.guarantee("D2", "D3")
    async def test_each_node_answers_for_its_own(self) -> None:
        """On a cluster the node of each partition says what its own appends have reached."""
        with Cluster(SERVERS[WAITING], replicas=1) as cluster:
            async with open_store(cluster.url, durability="replicated") as store:
                results = await asyncio.gather(*(store.append(f"s{number}", said("a")) for number in range(60)))
                assert {result.durability for result in results} == {"replicated"}
                results = await asyncio.gather(
                    *(store.append(f"s{number}", said("a"), durability="fsynced") for number in range(60))
                )
                assert {(result.version, result.durability) for result in results} == {(2, "fsynced")}
            for node in cluster.replicas[:1]:
                node.freeze()
            async with open_store(cluster.url, timeout=SHORT) as store:
                many = await asyncio.gather(
                    *(store.append(f"s{number}", said("a"), durability="replicated") for number in range(60)),
                    return_exceptions=True,
                )
                fates = [type(result) for result in many]
                assert {*fates} == {Appended, DurabilityNotReached}
                stuck = {number for number in range(60) if fates[number] is DurabilityNotReached}
                keys = [store.keys.heads(store.keys.partition(f"s{n}".encode())) for n in range(60)]  # type: ignore[attr-defined]
                assert stuck == {n for n in range(60) if cluster.owner(keys[n]) is cluster.primaries[0]}
            for node in cluster.replicas[:1]:
                node.thaw()


async def _blocked(server: Server) -> bool:
    """Whether a client waits for something at a server."""
    return bool((await ask(server, "INFO", "clients"))["blocked_clients"])
