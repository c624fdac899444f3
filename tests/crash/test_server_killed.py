"""The server is killed, restarted, robbed of its scripts, or gone for good: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import pytest
from redis.asyncio import Redis
from support.crowd import Crowd
from support.findings import record
from support.judgement import Judgement
from support.ledger import Ledger
from support.projected import check_views, projected
from support.proxy import Proxy
from support.rounds import rounds
from support.servers import Server, binaries
from support.waiting import until

from contextengine import ContextEngine
from eventstore import (
    Append,
    AppendOutcomeUnknown,
    ContextSet,
    EventStore,
    MessageAdded,
    OutOfMemory,
    StoreUnavailable,
    open_store,
)
from eventstore.redis import reads
from eventstore.redis.commands import Command
from eventstore.redis.link import Replies
from eventstore.redis.store import RedisStore
from projections import Projector, Queries, open_views

T = TypeVar("T")

SERVERS = binaries()
WRITERS = 32
ROOM = 100_000
"""Bytes that a server may take beyond what it has: less than what the writers of a round bring."""
SHORT = 0.5
ABOUT = 2 * SHORT + 2.0
"""The timeout once for the reply and once for the tries after it, and something for a busy machine."""


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of server in turn."""
    return str(request.param)


@pytest.fixture
def server(kind: str, directory: Path) -> Iterator[Server]:
    """A server of each kind in turn, which has every event on disk before it answers."""
    with Server(SERVERS[kind], directory, appendfsync="always") as server:
        yield server


@pytest.fixture
def one_server(directory: Path) -> Iterator[Server]:
    """A server of the first kind, which has every event on disk before it answers."""
    with Server(next(iter(SERVERS.values())), directory, appendfsync="always") as server:
        yield server


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


class TestAwayWhileAppending:
    @pytest.mark.parametrize("appendfsync", ["always", "everysec"])
    @pytest.mark.guarantee("L1", "L2", "L3", "L6", "L8")
    async def test_killed(self, kind: str, directory: Path, appendfsync: str) -> None:
        """32 writers ride over every kill -9; the log holds what they were told, and nothing else.

        With everysec a server whose disk is slow answers before it has written: what is lost then is a figure.
        """
        with Server(SERVERS[kind], directory, appendfsync=appendfsync) as server:
            times = rounds(20)
            judgement = await self.outages(server, times, Server.kill, Server.start)
        faults = [fault for fault in judgement.faults if appendfsync == "always" or not fault.startswith("lost: ")]
        assert not faults, faults[:5]
        record(f"the server is killed, appendfsync {appendfsync}", server=kind, rounds=times, **judgement.figures)

    @pytest.mark.guarantee("L1", "L2", "L3", "L8")
    async def test_frozen(self, kind: str, server: Server) -> None:
        """32 writers ride over outages of a server that hangs; the log holds what they were told, and nothing else."""
        times = rounds(20)
        judgement = await self.outages(server, times, Server.freeze, Server.thaw)
        assert not judgement.faults, judgement.faults[:5]
        record("the server hangs, and goes on", server=kind, rounds=times, **judgement.figures)

    @staticmethod
    async def outages(
        server: Server, times: int, goes: Callable[[Server], None], comes: Callable[[Server], None]
    ) -> Judgement:
        """Let the server go away and come back under writers, some of whom are impatient, and judge its log."""
        ledger = Ledger()
        chance = random.Random(3)
        async with (
            open_store(server.url, timeout=20) as one,
            open_store(server.url, timeout=20) as two,
            open_store(server.url, timeout=20) as three,
            open_store(server.url, timeout=0.2) as impatient,
        ):
            with anyio.fail_after(30 + 10 * times):
                async with Crowd(ledger, [one, two, three, impatient], writers=WRITERS) as crowd:
                    for _ in range(times):
                        await ledger.acknowledges(chance.randint(200, 600))
                        await asyncio.to_thread(goes, server)
                        await ledger.fails(WRITERS // 4)
                        await asyncio.to_thread(comes, server)
                        await crowd.each_is_heard()
            await ledger.ask()
            return await ledger.judge(one)

    @pytest.mark.guarantee("L8")
    async def test_an_unknown_outcome_can_be_looked_up(self, one_server: Server, directory: Path) -> None:
        """An append whose reply was lost with its server may be there, and its ids tell that it is, wholly."""
        async with Proxy(one_server.path, directory / "p") as proxy, open_store(proxy.url, timeout=SHORT) as store:
            await store.append("s", said("before"))
            one_server.freeze()
            append = asyncio.ensure_future(store.append("s", [said("a"), said("b")]))
            proxy.lose_reply_if(lambda _reply: True)
            one_server.thaw()
            with pytest.raises(AppendOutcomeUnknown) as raised:
                await append
        one_server.kill()
        one_server.start()
        async with open_store(one_server.url) as store:
            assert [event.event_id for event in await store.read("s", after=1)] == raised.value.event_ids

    @pytest.mark.guarantee("L8")
    async def test_an_append_that_the_server_never_read_is_unknown_and_absent(self, one_server: Server) -> None:
        """An append that died in a socket was sent, so its outcome is unknown; it was not stored."""
        async with open_store(one_server.url, timeout=SHORT) as store:
            await store.append("s", said("before"))
            one_server.freeze()
            append = asyncio.ensure_future(store.append("s", said("a")))
            await sent(store)
            one_server.kill()
            with pytest.raises(AppendOutcomeUnknown):
                await append
            one_server.start()
            assert await store.version("s") == 1
            assert (await store.append("s", said("b"), expected_version=1)).version == 2


async def sent(store: EventStore) -> None:
    """Return when what was submitted before stands in the socket: the link writes in the next turns of the loop."""
    for _ in range(5):
        await asyncio.sleep(0)  # no-sleep-ok: gives up the turn, and waits for nothing


class TestRestarted:
    @pytest.mark.guarantee("L6", "L9")
    async def test_an_open_store_goes_on(self, kind: str, server: Server) -> None:
        """A store, a view and a subscription that were open when the server restarted go on where they were."""
        ledger = Ledger()
        times = rounds(20)
        async with open_store(server.url, timeout=20) as store:
            views = open_views(store)
            projector = Projector(store, views)
            queries = Queries(store, views, projector)
            subscription = store.subscribe("s")
            for batch in range(times):
                appended = await ledger.append(store, "writer", "s", 120)
                assert appended is not None
                assert appended.version == 120 * (batch + 1)
                assert [(await anext(subscription)).version for _ in range(120)] == [
                    120 * batch + number for number in range(1, 121)
                ]
                assert len(await queries.history("s")) == 120 * (batch + 1)
                await projector.project(["s"])
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)
            await subscription.aclose()
            await check_views(store)
            judgement = await ledger.check(store)
        record("a full restart between two batches", server=kind, rounds=times, **judgement.figures)

    async def test_an_open_engine_goes_on(self, one_server: Server) -> None:
        """An engine that was open when the server was killed and restarted goes on, and so does the worker in it."""
        async with ContextEngine(one_server.url, timeout=20) as engine:
            for times in (1, 2, 3):
                await engine.add_conversation_message("s", "user", f"{times}")
                await engine.update_session("s", increment_requests=True)
                one_server.kill()
                one_server.start()
                history = await engine.get_conversation_history("s")
                assert [message["content"] for message in history] == [f"{n + 1}" for n in range(times)]
                session = await engine.get_session("s")
                assert session is not None
                assert session["request_count"] == 2 * times  # each user's message counts as a request here
        async with open_store(one_server.url) as store, ContextEngine(one_server.url) as engine:
            await projected(store)
            await check_views(store)
            assert (await engine.health_check())["status"] == "healthy"

    async def test_others_are_not_cut_off(self, one_server: Server) -> None:
        """A store that connects to a restarted server leaves the connections of others alone."""
        for _ in range(100):
            async with client_of(one_server) as client:
                await client.client_id()
        async with open_store(one_server.url) as store:
            await store.append("s", said("a"))
            assert isinstance(store, RedisStore)
            number = store.links.shared().client_id
            assert number is not None
            one_server.kill()
            one_server.start()
            while True:
                async with client_of(one_server) as bystander:
                    if await bystander.client_id() < number:
                        continue
                    assert await bystander.client_id() == number
                    await store.append("s", said("b"))
                    assert await bystander.client_id() == number
                    return


def client_of(server: Server) -> Redis:
    """Return a client with one connection, which it makes anew when it breaks."""
    return Redis(unix_socket_path=str(server.path), single_connection_client=True)


class TestScriptsForgotten:
    @pytest.mark.parametrize("restarts", [False, True], ids=["flushed", "flushed and restarted"])
    @pytest.mark.guarantee("L1", "V1")
    async def test_nothing_is_lost_or_refused(self, kind: str, server: Server, restarts: bool) -> None:
        """SCRIPT FLUSH, and a restart, again and again between appends, commits and reads, is noticed by nobody."""
        ledger = Ledger()
        times = rounds(20) if restarts else 10 * rounds(6)
        async with open_store(server.url, timeout=20) as store, Redis.from_url(server.url) as raw:
            views = open_views(store)
            projector = Projector(store, views)
            queries = Queries(store, views, projector)
            finished = asyncio.Event()
            readers = ("writer-0", "writer-1")
            reads: Counter[str] = Counter()

            async def read(session_id: str) -> None:
                seen = 0
                while not finished.is_set():
                    versions = [message["version"] for message in await queries.history(session_id)]
                    assert versions == list(range(1, len(versions) + 1))
                    assert len(versions) >= seen
                    seen = len(versions)
                    found = await queries.session(session_id)
                    assert (found.version if found else 0) >= seen
                    assert await projector.project([session_id]) == []
                    reads[session_id] += 1

            async def everybody_reads(times: int) -> None:
                goals = {session_id: reads[session_id] + times for session_id in readers}
                await until(lambda: all(reads[session_id] >= goal for session_id, goal in goals.items()))

            with anyio.fail_after(60 + 2 * times):
                async with asyncio.TaskGroup() as tasks, Crowd(ledger, [store], writers=8) as crowd:
                    for session_id in readers:
                        tasks.create_task(read(session_id))
                    for _ in range(times):
                        await raw.script_flush()
                        if restarts:
                            await asyncio.to_thread(server.stop)
                            await asyncio.to_thread(server.start)
                        await ledger.append(store, "pacer", "paces")
                        await crowd.each_is_heard()
                        await everybody_reads(2)
                    finished.set()
            assert not ledger.unknown
            assert {refused.session_id for refused in ledger.refused} <= {"raced"}
            assert await store.version("paces") == times
            await projector.project(["common", "paces", "raced", *crowd.names])
            await check_views(store)
            judgement = await ledger.check(store)
        what = "SCRIPT FLUSH and a restart while appending" if restarts else "SCRIPT FLUSH while appending"
        record(what, server=kind, rounds=times, **judgement.figures)

    async def test_a_server_that_forgets_before_every_write(self, one_server: Server) -> None:
        """A server that has forgotten its scripts whenever something reaches it still serves everything."""
        async with open_store(one_server.url) as store:
            assert isinstance(store, RedisStore)
            views = open_views(store)
            projector = Projector(store, views)
            queries = Queries(store, views, projector)
            link = store.links.shared()
            submit = link.submit

            def forgetful(commands: Sequence[Command]) -> Replies:
                submit([("SCRIPT", "FLUSH")])
                return submit(commands)

            link.submit = forgetful  # type: ignore[method-assign]
            with anyio.fail_after(20):
                await store.append("s", said("a"))
                assert await projector.project(["s"]) == []
                assert (await queries.totals()).events == 1
                assert await queries.session("s") is not None
                assert len(await queries.history("s")) == 1

    async def test_each_script_is_loaded_where_it_is_missing(self, server: Server) -> None:
        """Every operation that runs a script works as the first one after SCRIPT FLUSH."""
        async with open_store(server.url) as store, Redis.from_url(server.url) as raw:
            views = open_views(store)
            projector = Projector(store, views)
            queries = Queries(store, views, projector)
            operations: list[Callable[[], Awaitable[object]]] = [
                lambda: store.append("s", [said("a"), ContextSet("key", "value")]),
                lambda: queries.history("s"),
                lambda: queries.session("s"),
                lambda: queries.context("s", "key"),
                lambda: queries.context_keys("s"),
                lambda: projector.project(["s"]),
                lambda: queries.history("s", 1),
                lambda: asyncio.gather(*(queries.history("s") for _ in range(16))),
                store.position,
                store.feed.trim,
                lambda: store.feed.progress("g"),
                queries.totals,
            ]
            for operation in operations:
                await raw.script_flush()
                await operation()
            assert [message["content"] for message in await queries.history("s")] == ["a"]
            assert (await queries.context("s", "key"))[0] == "value"
            await check_views(store)


class TestOutOfMemory:
    @pytest.mark.guarantee("L2", "L8", "S11")
    async def test_what_is_refused_is_not_there(self, kind: str, server: Server) -> None:
        """While the server has no memory left, appends are refused and write nothing, and whatever is read is right."""
        ledger = Ledger()
        times = rounds(20)
        async with open_store(server.url) as store, Redis.from_url(server.url) as raw:
            queries = Queries(store, views := open_views(store), Projector(store, views))

            async def write(writer: str) -> None:
                for _ in range(5):
                    for session_id, count in (("common", 50), (writer, 20)):
                        try:
                            await ledger.append(store, writer, session_id, count)
                        except OutOfMemory as refused:
                            assert "'maxmemory'" in str(refused)  # noqa: PT017 - some are refused, some are not

            async def everybody_writes(number: int) -> None:
                await asyncio.gather(*(write(f"writer-{number}-{writer}") for writer in range(8)))

            await ledger.append(store, "writer", "common")
            for number in range(times):
                before = len(ledger.refused)
                used = (await raw.info("memory"))["used_memory"]
                await raw.config_set("maxmemory", used + ROOM)
                await everybody_writes(number)
                assert len(ledger.refused) > before
                assert len(await queries.history("common")) == await store.version("common")
                everything = [pointer async for pointer in store.heads()]
                assert (await queries.totals()).events == sum(pointer.version for pointer in everything)
                assert {at.session_id: at.version for at in (await queries.sessions()).sessions} == {
                    pointer.session_id: pointer.version for pointer in everything
                }
                await raw.config_set("maxmemory", 0)
                assert (await queries.totals()).events == sum(pointer.version for pointer in everything)
            refused = len(ledger.refused)
            await everybody_writes(times)
            assert len(ledger.refused) == refused
            judgement = await ledger.check(store)
            assert (await queries.totals()).events == judgement.found
            await check_views(store)
        record("out of memory under noeviction", server=kind, rounds=times, refused=refused, **judgement.figures)


class TestGoneForGood:
    @pytest.fixture(params=[Server.kill, Server.freeze], ids=["killed", "frozen"])
    def gone(self, request: pytest.FixtureRequest) -> Callable[[Server], None]:
        """How the server goes away: it refuses connections, or takes them and never answers."""
        how: Callable[[Server], None] = request.param
        return how

    @pytest.mark.guarantee("L8", "S1")
    async def test_the_log_says_so(
        self, one_server: Server, gone: Callable[[Server], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without its server a store answers each call in about its timeout with an error, and never with nothing."""
        monkeypatch.setattr(reads, "LONGEST_BLOCK", SHORT)  # a subscription may be silent for so long besides
        async with open_store(one_server.url, timeout=SHORT) as store:
            await store.append("s", said("a"))
            position = await store.position()
            gone(one_server)
            for _ in range(2):
                await all_unavailable(
                    store.append("s", said("b")),
                    store.append("s", said("c"), expected_version=1),
                    store.read("s"),
                    store.read("s", backwards=True, limit=1),
                    store.read("nobody"),
                    store.version("s"),
                    store.read_all(),
                    store.read_all(after=position),
                    store.position(),
                    anext(store.subscribe("s")),
                    store.feed.progress("g"),
                    store.feed.heartbeats("g"),
                    store.feed.join("g", "c"),
                    store.feed.trim(),
                )
                many = await about_timely(store.append_many([Append("s", [said("d")]), Append("t", [said("e")])]))
                assert all(isinstance(result, StoreUnavailable | AppendOutcomeUnknown) for result in many)

    @pytest.mark.guarantee("S1")
    async def test_the_engine_says_so(self, one_server: Server, gone: Callable[[Server], None]) -> None:
        """Without its server an engine's calls raise; no read takes "I could not read" for "there is nothing"."""
        engine = ContextEngine(one_server.url, timeout=SHORT)
        await engine.initialize()
        await engine.create_session("s")
        await engine.add_conversation_message("s", "user", "a")
        await engine.set_context("s", "key", "value")
        gone(one_server)
        for _ in range(2):
            await all_unavailable(
                engine.get_session("s"),
                engine.get_session("nobody"),
                engine.get_conversation_history("s"),
                engine.get_conversation_history("nobody"),
                engine.get_context("s", "key"),
                engine.list_contexts("s"),
                engine.list_sessions(),
                engine.create_session("t"),
                engine.add_conversation_message("s", "user", "b"),
                engine.set_context("s", "key", "other"),
                engine.update_session("s", increment_requests=True),
                engine.end_session("s"),
            )
        health = await about_timely(engine.health_check())
        assert (health["status"], health["redis_connected"], health["lag"]) == ("unhealthy", False, None)
        await about_timely(engine.close())

    async def test_opening_says_so(self, one_server: Server, gone: Callable[[Server], None]) -> None:
        """A store whose server does not answer cannot be opened, and that takes about the timeout."""
        gone(one_server)
        await all_unavailable(open_store(one_server.url, timeout=SHORT))


async def all_unavailable(*calls: Awaitable[object]) -> None:
    """Check that every one of these calls raises `StoreUnavailable` or `AppendOutcomeUnknown`, and soon enough."""
    results = await about_timely(asyncio.gather(*calls, return_exceptions=True))
    assert [r for r in results if not isinstance(r, StoreUnavailable | AppendOutcomeUnknown)] == []


async def about_timely(call: Awaitable[T]) -> T:
    """Await a call that must not take much longer than the timeout of its store."""
    async with asyncio.timeout(ABOUT):
        return await call


async def test_nothing_is_written_to_a_lost_connection(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A crowd that does not know yet that the server has gone is told so; the event loop has nothing to complain of."""
    async with open_store(server.url, timeout=SHORT) as store:
        await store.append("s", MessageAdded("user", "first"))
        server.kill()
        results = await asyncio.gather(
            *(store.append(f"s{n}", MessageAdded("user", "x")) for n in range(500)), return_exceptions=True
        )
    assert {type(result) for result in results} <= {StoreUnavailable, AppendOutcomeUnknown}
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
