"""An embedded server and its users: who starts it, who may die, when it leaves, and what is there afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from support.embedded_user import server_pid
from support.ledger import Ledger
from support.processes import Process, Processes
from support.waiting import until

from eventstore import EventStore, MessageAdded, StoreUnavailable, embedded, open_store

USER = str(Path(__file__).parents[1] / "support" / "embedded_user.py")


class Users(Processes):
    """Starts users of embedded servers; at the end neither they nor their servers are left."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.pids: set[int] = set()
        self._directory = directory

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        for pid in self.pids | set(servers_below(self._directory)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def user(self, directory: Path, *options: str, **environment: str) -> Process:
        """Start a user who waits for the word to open the directory."""
        user = await self.start(USER, url(directory), *options, **environment)
        await user.says("ready")
        return user

    async def opened(self, user: Process) -> int:
        """Let a user open its directory and return the process id of the server."""
        await user.told("open")
        pid: int = (await user.says("opened"))["pid"]
        self.pids.add(pid)
        return pid

    async def closed(self, user: Process) -> None:
        """Let a user leave."""
        await user.told("close")
        await user.says("closed")

    def gone(self, pid: int) -> bool:
        """Return whether a server's process has ended; its exit code may be waiting to be collected."""
        ended = state_of(pid) in {"", "Z"}
        if ended:
            self.pids.discard(pid)
        return ended

    async def goes(self, pid: int) -> None:
        """Wait until a server's process has ended: it lets go of its directory a moment before."""
        await until(lambda: self.gone(pid), within=5)


@pytest.fixture
async def users(directory: Path) -> AsyncIterator[Users]:
    """Users of the test's own."""
    async with Users(directory) as users:
        yield users


@pytest.fixture
def long_directory(directory: Path) -> Path:
    """A directory whose path is much longer than that of a socket may be."""
    path = directory / ("long " * 40) / ("ü" * 60)
    path.mkdir(parents=True)
    return path


def url(directory: Path) -> str:
    """Return the URL of a directory, whose server has every event on disk before it answers."""
    return f"embedded://{directory}?appendfsync=always"


def ps(*options: str) -> list[str]:
    """Return what ps writes."""
    return subprocess.run(["/bin/ps", *options], capture_output=True, text=True, check=False).stdout.splitlines()


def state_of(pid: int) -> str:
    """Return the letter of a process's state; nothing if there is no such process."""
    return "".join(ps("-o", "state=", "-p", str(pid)))[:1]


def servers_below(directory: Path) -> list[int]:
    """Return the process ids of the servers that work in a directory, or further down."""
    sockets = {path.read_text(encoding="utf-8") for path in directory.rglob("server.address")}
    lines = [line.split(maxsplit=1) for line in ps("-A", "-ww", "-o", "pid=,args=")]
    return [int(pid) for pid, command in lines if "-server" in command and any(path in command for path in sockets)]


def is_locked(path: Path) -> bool:
    """Return whether somebody holds the lock of a file."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


async def append(user: Process, count: int, times: int) -> Any:
    """Let a user append so many events, for the ``times``-th time, and return what it was answered."""
    await user.told(f"append {count}")
    return await user.says("appended", times=times)


def close_it(store: EventStore) -> None:
    """Close a store in a process that was forked from its user."""
    asyncio.run(store.aclose())


async def ids(store: EventStore) -> list[str]:
    """Return the ids of the session to which the users append."""
    return [event.event_id for event in await store.read("s")]


class TestSharing:
    @pytest.mark.guarantee("S3")
    async def test_users_that_race_get_one_server(self, users: Users, directory: Path) -> None:
        """Four processes that open a directory at the same moment share one server, and one log."""
        four = [await users.user(directory) for _ in range(4)]
        assert len(set(await asyncio.gather(*map(users.opened, four)))) == 1
        answers = await asyncio.gather(*(append(user, 10, 1) for user in four))
        assert sorted(answer["version"] for answer in answers) == [10, 20, 30, 40]
        async with open_store(url(directory)) as store:
            assert set(await ids(store)) == {event_id for answer in answers for event_id in answer["event_ids"]}

    @pytest.mark.guarantee("S3")
    async def test_the_server_outlives_its_starter(self, users: Users, directory: Path) -> None:
        """When the process that started the server is killed, the others go on, and the last one stops the server."""
        starter, other = [await users.user(directory) for _ in range(2)]
        pid = await users.opened(starter)
        assert await users.opened(other) == pid
        first = await append(starter, 3, 1)
        await starter.killed()
        second = await append(other, 3, 1)
        assert second["version"] == 6
        async with open_store(url(directory)) as store:
            assert await server_pid(store) == pid
            assert await ids(store) == first["event_ids"] + second["event_ids"]
        assert not users.gone(pid)
        await users.closed(other)
        await users.goes(pid)

    @pytest.mark.guarantee("S3")
    async def test_the_server_leaves_with_its_last_user_and_the_data_stays(self, users: Users, directory: Path) -> None:
        """The server stays while anybody uses it, ends with the last one, and comes back with everything."""
        one, two = [await users.user(directory) for _ in range(2)]
        pid = await users.opened(one)
        await users.opened(two)
        appended = await append(two, 500, 1)
        await users.closed(one)
        assert not users.gone(pid)
        assert (await append(two, 1, 2))["version"] == 501
        await users.closed(two)
        await users.goes(pid)
        async with open_store(url(directory)) as store:
            users.pids.add(await server_pid(store))
            assert (await ids(store))[:500] == appended["event_ids"]
            assert await store.version("s") == 501

    @pytest.mark.guarantee("S3")
    async def test_a_forked_process_that_closes_is_not_the_last(self, directory: Path) -> None:
        """It leaves the server to the process that opened it."""
        async with open_store(url(directory)) as store:
            child = multiprocessing.get_context("fork").Process(target=close_it, args=(store,))
            child.start()
            await anyio.to_thread.run_sync(child.join)
            assert child.exitcode == 0
            await store.append("s", MessageAdded("user", "still there"))

    async def test_a_server_whose_users_all_died_serves_the_next(self, users: Users, directory: Path) -> None:
        """A server that is left alone by kills is found by the next user, and ends with it."""
        one, two = [await users.user(directory) for _ in range(2)]
        pid = await users.opened(one)
        await users.opened(two)
        appended = await append(one, 3, 1)
        await one.killed()
        await two.killed()
        async with open_store(url(directory)) as store:
            assert await server_pid(store) == pid
            assert await ids(store) == appended["event_ids"]
        await users.goes(pid)

    async def test_a_long_path(self, users: Users, long_directory: Path) -> None:
        """A directory whose path is too long for a socket is shared like any other."""
        one, two = [await users.user(long_directory) for _ in range(2)]
        pid = await users.opened(one)
        assert await users.opened(two) == pid
        await append(one, 3, 1)
        assert (await append(two, 3, 1))["version"] == 6
        await users.closed(one)
        await users.closed(two)
        await users.goes(pid)
        async with open_store(url(long_directory)) as store:
            users.pids.add(await server_pid(store))
            assert await store.version("s") == 6

    async def test_a_directory_by_two_names(self, users: Users, directory: Path, long_directory: Path) -> None:
        """A directory with a long path, opened through a link as well, has one server."""
        (directory / "link").symlink_to(long_directory)
        one, two = await users.user(long_directory), await users.user(directory / "link")
        assert await users.opened(one) == await users.opened(two)

    async def test_users_with_different_temporary_directories(
        self, users: Users, directory: Path, long_directory: Path
    ) -> None:
        """A directory with a long path has one server, whatever its users' TMPDIR is."""
        (directory / "tmp").mkdir()
        one, two = await users.user(long_directory), await users.user(long_directory, TMPDIR=str(directory / "tmp"))
        assert await users.opened(one) == await users.opened(two)


class TestServerKilled:
    @pytest.mark.guarantee("L1", "L6", "S3")
    async def test_reopening_finds_everything_and_open_stores_go_on(self, users: Users, directory: Path) -> None:
        """After kill -9 of the server, whoever opens next starts it anew; all users go on, nothing lost or doubled."""
        ledger = Ledger()
        finished = asyncio.Event()

        async def write(writer: str) -> None:
            while not finished.is_set():
                await ledger.append(first, writer, "common", 2)
                await ledger.append(first, writer, writer)

        writers = [f"writer-{number}" for number in range(8)]
        async with open_store(url(directory), timeout=20) as first:
            with anyio.fail_after(30):
                async with asyncio.TaskGroup() as tasks:
                    for writer in writers:
                        tasks.create_task(write(writer))
                    for _ in range(2):
                        await ledger.acknowledges(200)
                        killed = await server_pid(first)
                        os.kill(killed, signal.SIGKILL)
                        await users.goes(killed)
                        async with open_store(url(directory)) as second:
                            pid = await server_pid(second)
                            users.pids.add(pid)
                            assert pid != killed
                            await ledger.acknowledges_each(writers)
                            assert await second.version("common") > 0
                    finished.set()
            assert ledger.failures == 0
            await ledger.check(first)
        await users.goes(pid)
        async with open_store(url(directory)) as store:
            users.pids.add(await server_pid(store))
            await ledger.check(store)


class TestMomentsBetween:
    async def test_the_server_dies_while_somebody_opens(self, users: Users, directory: Path) -> None:
        """Whoever waits for a server that dies just then starts another one."""
        user = await users.user(directory)
        pid = await users.opened(user)
        appended = await append(user, 3, 1)
        os.kill(pid, signal.SIGSTOP)
        opening = asyncio.create_task(embedded.EmbeddedServer.acquire(directory))
        await until(lambda: is_locked(directory / "start.lock"))
        await anyio.to_thread.run_sync(lambda: None)  # the opener has seen by now that the server lives
        os.kill(pid, signal.SIGKILL)
        with anyio.fail_after(20):
            server = await opening
        users.pids.add(server.pid)
        async with open_store(url(directory)) as store:
            assert await server_pid(store) == server.pid
            assert await ids(store) == appended["event_ids"]
        await server.release()

    @pytest.mark.parametrize("before", ["nothing", "another server"])
    async def test_the_starter_is_killed_while_it_starts(self, users: Users, directory: Path, before: str) -> None:
        """A server whose starter was killed at the moment of the start is found, used and stopped like any other."""
        if before == "another server":
            async with open_store(url(directory)):
                pass
        starter = await users.user(directory, "--dies-starting")
        await starter.told("open")
        assert await starter.ended() == -signal.SIGKILL
        user = await users.user(directory)
        pid = await users.opened(user)
        await append(user, 3, 1)
        await users.closed(user)
        await users.goes(pid)

    async def test_opening_waits_until_a_large_log_is_loaded(self, users: Users, directory: Path) -> None:
        """A directory with a log that takes a while to load opens like any other."""
        async with open_store(url(directory)) as store:
            for number in range(200):
                await store.append(f"s{number}", [MessageAdded("user", str(n)) for n in range(1000)])
        async with open_store(url(directory)) as store:
            users.pids.add(await server_pid(store))
            assert await store.version("s199") == 1000

    async def test_a_server_that_hangs_is_not_replaced(
        self, users: Users, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While a server hangs, nobody starts another one on its data; opening says that it does not answer."""
        monkeypatch.setattr(embedded, "START_TIMEOUT", 0.5)
        user = await users.user(directory)
        pid = await users.opened(user)
        os.kill(pid, signal.SIGSTOP)
        try:
            server = await embedded.EmbeddedServer.acquire(directory)
        except StoreUnavailable:
            pass
        else:
            users.pids.add(server.pid)
            await server.release()
            assert server.pid == pid
        finally:
            os.kill(pid, signal.SIGCONT)

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
    async def test_a_server_that_nobody_reaps(self, users: Users, directory: Path) -> None:
        """The last user leaves in time although nobody collects the exit code of the server that it stops."""
        user = await users.user(directory, "--orphan")
        await users.opened(user)
        await user.told("close")
        with anyio.fail_after(5):
            await user.says("closed")
