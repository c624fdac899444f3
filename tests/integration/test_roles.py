"""Roles: each may do what it is for under the rules that `scripts/acl.py` prints, and nothing that hurts a log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import acl
import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError
from support.audits import audited
from support.processes import Processes
from support.projected import projected
from support.servers import Server, binaries
from support.waiting import until
from support.whole_api import ERASES, OPENS, READS, TELLS, WRITES, answers, public_methods

from contextengine import ContextEngine, DurabilityNotReached, InvalidInput, NotPermitted, ServerUnfit
from eventstore import CheckpointWritesStored, MessageAdded, RecordedEvent, open_store
from eventstore.archive.places import MemoryArchive
from eventstore.redis.store import RedisStore
from eventstore.store import DEFAULT_NAMESPACE
from projections import Projector, open_views
from projections.archiving import Archivist, Outcome
from projections.redis.commits import COMMIT
from projections.redis.roles import ROLES, rules, user_rules
from projections.redis.views import READ

ABLE = [name for name in binaries() if name != "redis-6.2"]
"""The servers that can tell a user's commands apart by their keys."""
HASH = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"


class Guarded:
    """A server with a user for each role."""

    def __init__(self, server: Server, admin: Redis) -> None:
        self.admin = admin
        self._server = server

    async def set_up(self, printed: str) -> None:
        """Carry out what the script printed."""
        for line in printed.splitlines():
            await self.admin.execute_command(*line.split())  # type: ignore[no-untyped-call]

    def url(self, role: str) -> str:
        """Return the URL of a role's user."""
        return self._server.url.replace("unix://", f"unix://{DEFAULT_NAMESPACE}-{role}:secret@")

    def engine(self, role: str) -> ContextEngine:
        """Return an engine in a role, without workers."""
        return ContextEngine(self.url(role), workers=False)

    async def everything(self) -> dict[bytes, bytes]:
        """Return every key and what it holds."""
        return {key: await self.admin.dump(key) or b"" async for key in self.admin.scan_iter()}


@pytest.fixture(params=ABLE)
async def guarded(
    request: pytest.FixtureRequest, directory: Path, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Guarded]:
    """A server of each kind that can, with the rules of the script as they stand."""
    assert acl.main(["--password-hash", HASH]) == 0
    with Server(binaries()[request.param], directory) as server:
        async with Redis.from_url(server.url) as admin:
            guarded = Guarded(server, admin)
            await guarded.set_up(capsys.readouterr().out)
            yield guarded


def test_no_method_is_forgotten() -> None:
    """The calls of `support.whole_api` are all public methods of the engine."""
    assert {*WRITES, *READS, *TELLS, *OPENS, *ERASES} == public_methods()


class TestMay:
    @pytest.mark.guarantee("S6", "D2")
    async def test_a_writer_waits_for_what_it_has_written(self, guarded: Guarded) -> None:
        """A writer may ask for any level that the server can reach; without WAITAOF it would need the settings."""
        waits = "waitaof" in str(await guarded.admin.acl_cat("blocking"))
        async with open_store(guarded.url("writer"), timeout=2) as store:
            with pytest.raises(DurabilityNotReached, match="0 replica"):
                await store.append("s", MessageAdded("user", "a"), durability="replicated")
            if waits:
                appended = await store.append("s", MessageAdded("user", "b"), durability="fsynced")
                assert (appended.version, appended.durability) == (2, "fsynced")
            else:
                with pytest.raises(ServerUnfit, match="does not tell its settings"):
                    await store.append("s", MessageAdded("user", "b"), durability="fsynced")

    @pytest.mark.guarantee("S6")
    async def test_a_writer_uses_the_whole_engine_and_a_reader_reads_it(self, guarded: Guarded) -> None:
        """Without any worker, a writer and a reader get right answers, though they may not write a single view."""
        async with guarded.engine("writer") as writer:
            for name, write in WRITES.items():
                assert await write(writer) is not False, name
            for tell in TELLS.values():
                await tell(writer)
            written = await answers(writer)
        before = await guarded.everything()
        assert not [key for key in before if b"@" in key], "a writer wrote a view"
        async with guarded.engine("reader") as reader:
            assert await answers(reader) == written
            page = await reader.list_sessions(limit=2)
            assert [s.session_id for s in [*page, *await reader.list_sessions(cursor=page.cursor)]] == [
                s.session_id for s in written["list_sessions"]
            ]
            for tell in TELLS.values():
                await tell(reader)
        assert await guarded.everything() == before
        async with guarded.engine("worker") as worker:
            assert await answers(worker) == written
        async with guarded.engine("reader") as reader:
            assert await answers(reader) == written

    @pytest.mark.guarantee("S6", "K1")
    async def test_a_custodian_archives_and_all_read(self, guarded: Guarded) -> None:
        """Who has another role cannot archive, and leaves nothing behind; whoever may read, reads what is archived."""
        archive = MemoryArchive()
        async with guarded.engine("writer") as writer:
            for write in WRITES.values():
                await write(writer)
            await writer.end_session("long")
            expected = await answers(writer)
        async with open_store(guarded.url("custodian")) as store:
            assert not await Projector(store, open_views(store)).project(["long", "s"])
        before = await guarded.everything()
        for role in ("reader", "writer", "worker", "auditor"):
            async with open_store(guarded.url(role), archive=archive) as store:
                with pytest.raises(NotPermitted):
                    await Archivist(store, open_views(store)).archive("long")
        assert (await guarded.everything(), await archive.names()) == (before, [])
        async with open_store(guarded.url("custodian"), archive=archive) as store:
            archivist = Archivist(store, open_views(store))
            assert [session_id async for session_id in archivist.due(timedelta(0))] == ["long", "s"]
            for session_id in ("long", "s"):
                assert (await archivist.archive(session_id)).outcome is Outcome.ARCHIVED
            for role in ("reader", "writer", "worker", "custodian"):
                async with ContextEngine(guarded.url(role), workers=False, archive=archive) as engine:
                    assert await answers(engine) == expected, role
            async with open_store(guarded.url("auditor"), archive=archive) as audited:
                assert len(await audited.read("long")) == await audited.version("long")
            async with open_store(guarded.url("worker"), archive=archive) as worker:
                with pytest.raises(NotPermitted):
                    await Archivist(worker, open_views(worker)).restore("long")
            for session_id in ("long", "s"):
                assert (await archivist.restore(session_id)).outcome is Outcome.RESTORED
            assert (await archivist.sweep(timedelta(0))).missing == []
        async with guarded.engine("reader") as reader:
            assert await answers(reader) == expected

    @pytest.mark.guarantee("S6", "F1")
    async def test_a_custodian_alone_forgets(self, guarded: Guarded) -> None:
        """Whoever has another role is refused, and nothing is done; a custodian forgets, archived sessions, too."""
        (forget,) = ERASES.values()
        async with guarded.engine("worker") as worker:
            for name, write in WRITES.items():
                assert await write(worker) is not False, name
            await answers(worker)
            before = await answers(worker)
        left = await guarded.everything()
        for role in ("reader", "writer", "worker", "auditor"):
            async with guarded.engine(role) as engine:
                with pytest.raises(NotPermitted):
                    await forget(engine)
        assert await guarded.everything() == left
        async with guarded.engine("custodian") as custodian:
            assert await answers(custodian) == before
            tombstone = await forget(custodian)
            assert tombstone.done
            assert await custodian.get_session("s") is None
            assert await custodian.get_session("long") is not None

    @pytest.mark.guarantee("S6")
    async def test_half_projected_views_are_completed_by_who_may_not_write_them(self, guarded: Guarded) -> None:
        """Lists and totals of a reader are exact where the workers stopped halfway, with a session parked."""
        async with open_store(guarded.url("worker")) as store, guarded.engine("writer") as writer:
            await writer.create_session("old", "ann")
            await writer.add_conversation_message("changed", "user", "a")
            await writer.add_conversation_message("ended", "user", "a")
            projector = Projector(store, open_views(store))
            consumer = await store.feed.join("projection", "a")
            while await projector.step(consumer, wait=0):
                pass
            await store.feed.trim()
            assert await guarded.admin.exists(f"{_tag(store, 'old')}:feed-trimmed")
            consumer.abandon()
            await writer.update_session("changed", {"user_id": "ann"})
            await writer.end_session("ended")
            await writer.create_session("new")
            await projector.park("new", 1, "for the sake of it")
            expected = (
                ["ended", "changed", "old"],
                ["changed", "old"],
                ["changed", "old"],
                {"total_sessions": 3, "active_sessions": 2, "total_messages": 2},
            )
            for role in ("reader", "auditor", "writer", "worker"):
                async with guarded.engine(role) as engine:
                    listed = [
                        await engine.list_sessions(),
                        await engine.list_sessions(user_id="ann"),
                        await engine.list_sessions(status="active"),
                    ]
                    metrics = await engine.get_global_metrics()
                    found = [sorted(s.session_id for s in page) for page in listed]
                    assert found == [sorted(names) for names in expected[:3]], role
                    assert metrics.items() >= expected[3].items(), role
                    walked, cursor = [], None
                    while (page := await engine.list_sessions(limit=1, cursor=cursor)) and page.cursor:
                        walked.append(page[0].session_id)
                        cursor = page.cursor
                    assert walked == [s.session_id for s in listed[0]], role

    async def test_workers_work(self, guarded: Guarded) -> None:
        """Worker processes, of both kinds, project, compact, take over and leave under the worker's rules."""
        url = guarded.url("worker")
        async with Processes() as processes, guarded.engine("writer") as writer:
            projecting = await processes.worker(url, "a", claim_after=0.2)
            compacting = await processes.worker(url, "b", "--compaction", "--threshold", "10", "--keep-recent", "2")
            for worker in (projecting, compacting):
                await worker.says("worker_started")
            for n in range(20):
                await writer.add_conversation_message("s", "user", f"locker {n}")
            await compacting.says("history_compacted")
            async with open_store(guarded.url("reader")) as store:
                await projected(store)
                (snapshot,) = await open_views(store).read_sessions(["s"])
                assert (snapshot.version, snapshot.tail) == (await store.version("s"), [])
            for worker in (projecting, compacting):
                worker.terminate()
                assert await worker.ended() == 0
                assert not [line for line in worker.lines if line["level"] in ("warning", "error")]

    @pytest.mark.guarantee("S6", "V8")
    async def test_a_worker_makes_views_anew(self, guarded: Guarded) -> None:
        """Views whose log has become another one go, under the worker's rules as well."""
        async with open_store(guarded.url("worker")) as store:
            assert isinstance(store, RedisStore)
            projector = Projector(store, open_views(store))
            await store.append("s", [CheckpointWritesStored("c", "t", [1]), *([MessageAdded("user", "a")] * 8)])
            await projector.project(["s"])
            await guarded.admin.delete(store.keys.log(store.keys.partition(b"s"), b"s"))
            await guarded.admin.delete(store.keys.heads(store.keys.partition(b"s")))
            await store.append("s", MessageAdded("user", "b"))
            assert await projector.project(["s"]) == []
            assert await audited(store, projector.views) == []
            assert await projector.views.forked() == 1

    async def test_who_may_not_work_says_so(self, guarded: Guarded) -> None:
        """A worker process without the rules exits, a worker inside an engine is missed by its health; calls go on."""
        async with ContextEngine(guarded.url("writer")) as engine:
            await engine.add_conversation_message("s", "user", "hi")
            assert [s.session_id for s in await engine.list_sessions()] == ["s"]

            async def missed() -> bool:
                issues = (await engine.health_check())["issues"]
                return any("The worker in this process died: NotPermitted" in issue for issue in issues)

            await until(missed)
        async with Processes() as processes:
            for kind in ([], ["--compaction"]):
                worker = await processes.worker(guarded.url("reader"), "a", *kind)
                assert await worker.ended() == 1
                assert "NotPermitted" in worker.said("worker_failed")[0]["error"]

    async def test_workers_park_and_retry(self, guarded: Guarded) -> None:
        """A worker may count what may have killed another, park a session and retry it."""
        async with open_store(guarded.url("worker")) as store:
            await store.append("s", MessageAdded("user", "a"))
            views = open_views(store)
            assert await views.count_attempt("s") == 1
            await views.forget_attempts("s")
            projector = Projector(store, views)
            await projector.park("s", 1, "for the sake of it")
            assert await projector.retry("s") is None

    async def test_an_auditor_reads_the_log(self, guarded: Guarded) -> None:
        """An auditor reads every log, by session and over all, and looks at the streams as they are."""
        async with open_store(guarded.url("writer")) as store:
            await store.append("s", [MessageAdded("user", "a"), MessageAdded("user", "b")])
            written = await store.read("s")
            async with open_store(guarded.url("auditor")) as audited:
                assert [written, written, 2] == [
                    await audited.read("s"),
                    await audited.read_all(),
                    await audited.version("s"),
                ]
                await audited.position()
                followed: list[RecordedEvent] = []
                async for event in audited.subscribe("s"):
                    followed.append(event)
                    if len(followed) == len(written):
                        break
                assert followed == written
                with pytest.raises(NotPermitted, match=r"acl\.py"):
                    await audited.append("s", MessageAdded("user", "c"))
            async with Redis.from_url(guarded.url("auditor")) as raw:
                key = _log(store, "s")
                assert (await raw.xinfo_stream(key))["length"] == 2
                assert await raw.dump(key)

    async def test_a_reader_cannot_make_a_namespace(self, guarded: Guarded) -> None:
        """A namespace that does not exist is not made by who may only read, and the refusal says so."""
        with pytest.raises(NotPermitted):
            await open_store(guarded.url("reader"))
        assert await guarded.everything() == {}

    @pytest.mark.guarantee("S6")
    async def test_a_reader_writes_nothing(self, guarded: Guarded) -> None:
        """Every writing method of an engine in the role of a reader raises, and nothing is written."""
        async with guarded.engine("writer") as writer:
            await writer.create_session("s", metadata={"source": "web"})
            await writer.set_context("s", "key", 1)
            await writer.add_conversation_messages("long", [{"role": "user", "content": f"{n}"} for n in range(30)])
            await writer.fork_session("long", 3, "forked")
        before = await guarded.everything()
        silent = {"create_session", "fork_session", "auto_compress_on_limit"}  # it is all there, or not due
        silent |= {"cleanup_inactive_sessions", "cleanup_expired_sessions"}
        async with guarded.engine("reader") as reader:
            for name, write in WRITES.items():
                if name == "compress_on_append_if_needed" or name in silent:
                    continue
                with pytest.raises(NotPermitted):
                    await write(reader)
        assert await guarded.everything() == before


def _tag(store: Any, session_id: str) -> str:
    """Return how the keys of a session's partition begin."""
    assert isinstance(store, RedisStore)
    return f"{{{store.namespace}:{store.keys.partition(session_id.encode())}}}"


def _log(store: Any, session_id: str) -> str:
    """Return the key of a session's log."""
    return f"{_tag(store, session_id)}:log:{session_id}"


ODD = ["s", "}:history@1:x", "0}:feed", "history@1:", "parked"]
"""Sessions, some named as if their logs were something else."""

VIEWED = "session@1:viewed"
"""A session view of each partition: without one the script that reads views asks for no other."""

ELSEWHERE: list[tuple[str | int, ...]] = [
    ("FLUSHDB",),
    ("FLUSHALL",),
    ("SWAPDB", 0, 1),
    ("EVAL", "return redis.call('DEL', KEYS[1])", 1, "{other:0}:log:s"),
    ("FUNCTION", "LOAD", "#!lua name=harm\nredis.register_function('harm', function(k) return 1 end)"),
    ("FUNCTION", "FLUSH"),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    ("CONFIG", "GET", "requirepass"),
    ("ACL", "SETUSER", "me", "on", "nopass", "+@all", "~*"),
    ("ACL", "LIST"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "localhost", 1),
    ("BGREWRITEAOF",),
    ("SAVE",),
    ("MONITOR",),
    ("CLIENT", "PAUSE", 1000),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("XADD", "{other:0}:log:s", "*", "e", "x"),
    ("XRANGE", "{other:0}:log:s", "-", "+"),
    ("HSETNX", "{other}:namespace", "partitions", 1),
    ("GET", "secret of somebody else"),
    ("DEL", "{other:0}:log:s"),
    ("UNLINK", "secret of somebody else"),
    ("RENAME", "{contextengine:0}:heads", "{other:0}:heads"),
]
"""Commands that would hurt the server, or what is not of this namespace."""


def attacks(log: str, other: str, foreign: str, dump: bytes) -> list[tuple[str | bytes | int, ...]]:
    """Return commands that would hurt a log, or what it stands on."""
    partition = log.partition(":log:")[0]
    heads, feed, viewed = f"{partition}:heads", f"{partition}:feed", f"{partition}:{VIEWED}"
    harm = "return redis.call('DEL', KEYS[1])"
    view = ("0", "", 1, "", "{}")
    deleting = (1, "s", 13, *view, 0, 0, 0, 0, 1, 2, "DEL", log)
    unlinking = (1, "s", 11, *view, 1, log, 0, 0, 0, 0)
    trimming = (1, "s", 15, *view, 0, 0, 0, 0, 1, 4, "XTRIM", log, "MAXLEN", "0")
    return [
        ("XDEL", log, "1-1"),
        ("XTRIM", log, "MAXLEN", 0),
        ("XTRIM", log, "MINID", "9"),
        ("XSETID", log, "99-1"),
        ("XGROUP", "CREATE", log, "g", "0"),
        ("XGROUP", "DESTROY", log, "projection"),
        ("XGROUP", "SETID", feed, "projection", "$"),
        ("DEL", log),
        ("UNLINK", log),
        ("DEL", heads),
        ("HDEL", heads, "s"),
        ("DEL", feed),
        ("RENAME", log, other),
        ("RENAME", other, log),
        ("RENAMENX", log, other),
        ("COPY", log, other),
        ("COPY", other, log, "REPLACE"),
        ("MOVE", log, 1),
        ("RESTORE", log, 0, dump, "REPLACE"),
        ("RESTORE", other, 0, dump),
        ("MIGRATE", "localhost", "1", log, 0, 10),
        ("SET", log, "x"),
        ("SET", heads, "x"),
        ("GETDEL", log),
        ("GETSET", log, "x"),
        ("EXPIRE", log, 1),
        ("PEXPIREAT", log, 1),
        ("LPUSH", log, "x"),
        ("SORT", other, "STORE", log),
        ("BITOP", "NOT", log, other),
        ("SUNIONSTORE", log, other),
        ("EVAL", harm, 1, log),
        ("EVAL", "return 1", 0),
        ("EVALSHA", foreign, 1, log),
        ("EVALSHA", COMMIT.sha, 5, heads, other, other, other, other, *deleting),
        ("EVALSHA", COMMIT.sha, 6, heads, other, other, other, other, log, *deleting),
        ("EVALSHA", COMMIT.sha, 6, heads, other, other, other, other, log, *trimming),
        ("EVALSHA", COMMIT.sha, 6, heads, other, other, other, other, log, *unlinking),
        ("EVALSHA", READ.sha, 4, viewed, log, heads, log, 1, "s", "DEL"),
        ("FCALL", "harm", 1, log),
        ("HSET", "{contextengine}:namespace", "partitions", 1),
        *ELSEWHERE,
    ]


async def _error_of(user: Redis, attack: tuple[Any, ...]) -> ResponseError:
    """Return how a command is refused: as a whole, or what a script does for each session."""
    try:
        (reply,) = await user.execute_command(*attack)  # type: ignore[no-untyped-call]
    except ResponseError as refused:
        return refused
    assert isinstance(reply, ResponseError), f"{attack} came to {reply}"
    return reply


class TestMayNot:
    @pytest.mark.parametrize("role", [role for role in ROLES if role != "custodian"])
    @pytest.mark.guarantee("S6")
    async def test_nobody_can_hurt_a_log(self, guarded: Guarded, role: str) -> None:
        """Whatever would delete, trim, rename, overwrite or expire a log, by command or by script, is denied."""
        async with guarded.engine("writer") as engine:
            for session_id in ODD:
                await engine.add_conversation_message(session_id, "user", "a")
            await engine.get_session("s")  # the scripts are known to the server now
            await engine.get_context("s", "k")
            store = engine._here().store
            places = {session_id: _log(store, session_id) for session_id in ODD}
        for session_id in ODD:
            await guarded.admin.set(f"{_tag(store, session_id)}:{VIEWED}", "1   {}")
        await guarded.admin.script_load(COMMIT.text)
        foreign = await guarded.admin.script_load("return redis.call('XDEL', KEYS[1], '1-1')")
        before = await guarded.everything()
        async with Redis.from_url(guarded.url(role)) as user:
            own = await user.script_load("return redis.call('DEL', KEYS[1])")
            for session_id, log in places.items():
                other = f"{_tag(store, session_id)}:log:another"
                for attack in [
                    *attacks(log, other, str(foreign), before[log.encode()]),
                    ("EVALSHA", own, 1, log),
                ]:
                    refused = await _error_of(user, attack)
                    denied = isinstance(refused, NoPermissionError) or "script" in str(refused)
                    assert denied, f"{role} is not denied {attack}: {refused}"
        assert await guarded.everything() == before

    @pytest.mark.guarantee("S6")
    async def test_a_custodian_keeps_to_its_namespace(self, guarded: Guarded) -> None:
        """Who may take a log away may do so here: the server, and what belongs to others, are out of reach."""
        async with open_store(guarded.url("writer")) as store:
            await store.append("s", MessageAdded("user", "a"))
        await guarded.admin.set("secret of somebody else", "x")
        await guarded.admin.xadd("{other:0}:log:s", {"e": "x"})
        before = await guarded.everything()
        async with Redis.from_url(guarded.url("custodian")) as user:
            for attack in ELSEWHERE:
                with pytest.raises(NoPermissionError):
                    await user.execute_command(*attack)  # type: ignore[no-untyped-call]
        assert await guarded.everything() == before

    @pytest.mark.parametrize("role", ["reader", "auditor"])
    async def test_who_only_reads_appends_nothing(self, guarded: Guarded, role: str) -> None:
        """A reader and an auditor may add to no log, feed or list of heads."""
        async with Redis.from_url(guarded.url(role)) as user:
            for attack in (
                ("XADD", "{contextengine:0}:log:s", "*", "e", "x"),
                ("XADD", "{contextengine:0}:feed", "*", "s", "1/1"),
                ("HSET", "{contextengine:0}:heads", "s", "1-1"),
                ("CLIENT", "KILL", "ID", 1),
            ):
                with pytest.raises(NoPermissionError):
                    await user.execute_command(*attack)  # type: ignore[no-untyped-call]


class TestWhatIsLeft:
    async def test_a_log_that_a_writer_trimmed_shows(self, guarded: Guarded) -> None:
        """A log trimmed by an append with MAXLEN, which no rule can forbid, has fewer entries than its head says."""
        async with open_store(guarded.url("writer")) as store, Redis.from_url(guarded.url("auditor")) as auditor:
            await store.append("s", [MessageAdded("user", f"{n}") for n in range(5)])
            log, last = _log(store, "s"), (await store.read("s"))[-1]
            assert await auditor.xlen(log) == await store.version("s")
            async with Redis.from_url(guarded.url("writer")) as thief:
                await thief.xadd(log, {"e": last.entry}, id=f"6-{last.recorded_ms}", maxlen=1, approximate=False)
            assert await auditor.xlen(log) < await store.version("s")


class TestScript:
    async def test_as_a_file(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The lines in the form of a file are taken by a server that starts with that file."""
        assert acl.main(["writer", "--user", "app", "--password-hash", HASH, "--format", "file"]) == 0
        (directory / "users").write_text("user default on nopass ~* &* +@all\n" + capsys.readouterr().out)
        with Server(binaries()[ABLE[0]], directory, aclfile=str(directory / "users")) as server:
            async with ContextEngine(server.url.replace("unix://", "unix://app:secret@"), workers=False) as engine:
                await engine.add_conversation_message("s", "user", "hi")
                assert len(await engine.get_conversation_history("s")) == 1

    async def test_new_rules_leave_the_password(self, guarded: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
        """Without a password the rules are given anew and the user's password stays; its earlier rights go."""
        await guarded.admin.execute_command("ACL", "SETUSER", "contextengine-writer", "+xdel", "~*")  # type: ignore[no-untyped-call]
        assert acl.main(["writer", "--any-script"]) == 0
        told = capsys.readouterr()
        assert "password" in told.err
        await guarded.set_up(told.out)
        async with guarded.engine("writer") as engine, Redis.from_url(guarded.url("writer")) as user:
            await engine.add_conversation_message("s", "user", "hi")
            with pytest.raises(NoPermissionError):
                await user.xdel(_log(engine._here().store, "s"), "1-1")
            assert await user.evalsha(await user.script_load("return 1"), 0) == 1

    @pytest.mark.parametrize(
        "arguments",
        [
            ["emperor"],
            ["writer", "--namespace", "a b"],
            ["writer", "--namespace", "x} ~* {y"],
            ["writer", "--user", "a b"],
            ["writer", "--user", ""],
            ["writer", "--password-hash", "secret"],
            ["writer", "--password-hash", HASH, "--nopass"],
            ["writer", "--format", "prose"],
            ["--user", "one"],
        ],
        ids=str,
    )
    def test_bad_arguments(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """What would make other rules than were meant is refused, and nothing is printed to be carried out."""
        assert acl.main(arguments) == 2
        told = capsys.readouterr()
        assert not told.out
        assert told.err

    def test_refusals_of_the_library(self) -> None:
        """The functions below the script refuse the same."""
        with pytest.raises(InvalidInput):
            rules("emperor", "n")
        with pytest.raises(InvalidInput):
            user_rules("writer", "n", "two words", None)
