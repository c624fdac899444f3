"""Archiving and restoring that are killed at any step, lose replies, or meet everybody else at work."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.projected import check_views
from support.proxy import Proxy
from support.servers import Server
from support.waiting import until

from contextengine import ContextEngine
from eventstore import (
    AppendOutcomeUnknown,
    CheckpointStored,
    CheckpointWritesStored,
    ContextSet,
    EventStore,
    MessageAdded,
    SessionEnded,
    open_store,
)
from eventstore.archive.directory import DirectoryArchive
from eventstore.raw import open_raw
from projections import Projector, Queries, open_views
from projections.archiving import Archivist, Outcome

ARCHIVER = Path(__file__).parents[1] / "support" / "sabotaged_archiver.py"
NOW = timedelta(0)
LENGTH = 320
"""Events: more than a page, and more than one piece of views."""


@pytest.fixture
def archive(directory: Path) -> DirectoryArchive:
    """An empty archive."""
    return DirectoryArchive(directory / "archive")


@pytest.fixture
async def store(server: Server, archive: DirectoryArchive) -> AsyncIterator[EventStore]:
    """A store on a server of the test's own."""
    async with open_store(server.url, archive=archive) as store:
        yield store


async def ended_session(store: EventStore, session_id: str = "s") -> None:
    """Make a session that has a bit of everything, and has ended."""
    await store.append(
        session_id,
        [
            *(MessageAdded("user", f"message {n}") for n in range(LENGTH - 4)),
            ContextSet("plan", {"a": [1]}),
            CheckpointStored("c1", {"step": 1}, {}),
            CheckpointWritesStored("c1", "task", [["channel", 1]]),
            SessionEnded("completed"),
        ],
    )
    assert not await Projector(store, open_views(store)).project([session_id])


async def answers(store: EventStore, session_id: str = "s") -> list[Any]:
    """Return what is answered of a session."""
    views = open_views(store)
    queries = Queries(store, views, Projector(store, views))
    return [
        await store.read(session_id),
        await store.read(session_id, backwards=True, limit=3),
        await queries.session(session_id),
        await queries.history(session_id),
        await queries.history(session_id, 5),
        await queries.context(session_id, "plan"),
        await queries.checkpoints(session_id),
        await queries.writes(session_id, "c1"),
        await queries.sessions(),
        await queries.totals(),
    ]


async def killed_at(step: int, action: str, server: Server, archive: DirectoryArchive) -> bool:
    """Run a process that archives or restores, and dies at a step. Return whether it came to that step."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ARCHIVER),
        *(server.url, str(archive.directory), action, "s", str(step)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    code = await process.wait()
    assert code in (0, -signal.SIGKILL)
    return code != 0


class TestKilled:
    @pytest.mark.guarantee("K3")
    async def test_while_it_archives(self, store: EventStore, server: Server, archive: DirectoryArchive) -> None:
        """Killed at any step, every answer is as before; the next run archives it, and leftovers are told."""
        await ended_session(store)
        before, archivist = await answers(store), Archivist(store, open_views(store))
        step = 1
        while await killed_at(step, "archive", server, archive):
            assert await answers(store) == before, step
            filed = await archivist.archive("s", NOW)
            assert filed.outcome in (Outcome.ARCHIVED, Outcome.PRESENT)
            assert await answers(store) == before, step
            await only_one_file(store, archive)
            assert (await archivist.restore("s")).outcome is Outcome.RESTORED
            assert await answers(store) == before, step
            await check_views(store)
            step += 1
        assert step > 6

    @pytest.mark.guarantee("K3")
    async def test_while_it_restores(self, store: EventStore, server: Server, archive: DirectoryArchive) -> None:
        """Killed at any step, every answer is as before; the next run restores it."""
        await ended_session(store)
        before, archivist = await answers(store), Archivist(store, open_views(store))
        step, more = 1, True
        while more:
            assert (await archivist.archive("s", NOW)).outcome in (Outcome.ARCHIVED, Outcome.PRESENT)
            more = await killed_at(step, "restore", server, archive)
            assert await answers(store) == before, step
            await archivist.restore("s")
            assert await answers(store) == before, step
            await check_views(store)
            assert await open_raw(store).archived("s") is None
            step += 1
        assert step > 12


async def only_one_file(store: EventStore, archive: DirectoryArchive) -> None:
    """Hold the archive against the log: its file is there; others are leftovers, which are told, and swept in time."""
    archived = await open_raw(store).archived("s")
    assert archived is not None
    names = await archive.names()
    assert archived.file in names
    swept = await Archivist(store, open_views(store)).sweep()
    assert sorted([*swept.left, archived.file]) == names
    assert (swept.deleted, swept.missing) == ([], [])
    for name in swept.left:  # as if it had been an hour or two ago
        await archive.delete(name)


class TestServerKilled:
    @pytest.mark.guarantee("K3")
    async def test_a_server_that_comes_back_older(
        self, store: EventStore, server: Server, archive: DirectoryArchive, directory: Path
    ) -> None:
        """A server that comes back as it was some time ago finds the files of which its logs told then."""
        await ended_session(store)
        before, archivist = await answers(store), Archivist(store, open_views(store))
        saved = directory / "saved"
        for change in (archivist.restore, archivist.archive):
            await archivist.archive("s")
            server.stop()
            shutil.copytree(directory / "appendonlydir", saved)
            server.start()
            if change == archivist.archive:
                await store.append("s", MessageAdded("user", "is going to be lost"))
            assert (await change("s")).outcome in (Outcome.RESTORED, Outcome.ARCHIVED)
            await archivist.sweep()
            server.kill()
            shutil.rmtree(directory / "appendonlydir")
            saved.rename(directory / "appendonlydir")
            server.start()
            assert await answers(store) == before


class TestLostReplies:
    async def test_of_archivist_and_readers(self, server: Server, archive: DirectoryArchive, directory: Path) -> None:
        """Whatever replies are lost, archiving and restoring come to what they say, and every answer is as before."""
        chance = random.Random()
        async with Proxy(server.path, directory / "p") as proxy, open_store(proxy.url, archive=archive) as store:
            await ended_session(store)
            before, archivist = await answers(store), Archivist(store, open_views(store))
            for _ in range(25):
                losses = [chance.randrange(1, 30)]

                def lose(_reply: bytes, losses: list[int] = losses) -> bool:
                    losses[0] -= 1
                    return losses[0] == 0

                proxy.lose_reply_if(lose)
                assert (await archivist.archive("s", NOW)).outcome is Outcome.ARCHIVED
                assert await answers(store) == before
                assert (await archivist.restore("s")).outcome is Outcome.RESTORED
                assert await answers(store) == before
            await archivist.sweep(NOW)
            assert await archive.names() == []
            await check_views(store)

    @pytest.mark.guarantee("L5")
    @pytest.mark.parametrize("stored", [True, False], ids=["stored", "lost"])
    @pytest.mark.parametrize("readable", [True, False], ids=["archive", "none"])
    async def test_of_an_append_that_was_archived(
        self, server: Server, store: EventStore, directory: Path, stored: bool, readable: bool
    ) -> None:
        """An append whose reply was lost is looked for in the archive too, and stored once; or it is unknown."""
        await ended_session(store)
        archivist = Archivist(store, open_views(store))
        archive = store.archive if readable else None
        async with Proxy(server.path, directory / "p") as proxy, open_store(proxy.url, archive=archive) as writer:
            await writer.append("warm", MessageAdded("user", "x"))

            def lose(_reply: bytes) -> bool:
                proxy.refuses = True  # nobody gets through until it was archived
                return True

            if stored:
                proxy.lose_reply_if(lose)
            else:
                proxy.refuses = True
                proxy.hold_next_request()
            two = [MessageAdded("user", "late"), MessageAdded("user", "later")]
            appending = asyncio.create_task(writer.append("s", two))
            if stored:
                await until(lambda: proxy.lost > 0)
            else:
                await until(lambda: not proxy._holds)
            assert (await archivist.archive("s", NOW)).outcome is Outcome.ARCHIVED
            proxy.lose_reply_if(lambda _: False)
            proxy.refuses = False
            if readable:
                assert (await appending).version == LENGTH + 2
                assert await store.version("s") == LENGTH + 2
                return
            with pytest.raises(AppendOutcomeUnknown) as unknown:
                await appending
            outcome = await store.outcome("s", unknown.value.event_ids)
            assert (outcome and outcome.version) == (LENGTH + 2 if stored else None)


class Everybody:
    """Who writes, reads, follows and archives the same sessions, all at once, and what each of them may expect."""

    def __init__(self, engine: ContextEngine, sessions: Sequence[str]) -> None:
        self.store = engine._here().store
        self.logged = dict.fromkeys(sessions, 0)
        self.running = True
        self.over = False
        self.archived = 0
        self._engine = engine
        self._chance = random.Random()

    async def begin(self) -> None:
        """Begin and end all sessions."""
        for session_id in self.logged:
            await self._engine.create_session(session_id)
            await self._engine.end_session(session_id)
            self.logged[session_id] = 2

    async def write(self, session_id: str) -> None:
        """Append messages, some at a time; now and then wait for an archivist, who gives way to who writes."""
        for n in range(60):
            if n % 15 == 14:
                before = self.archived
                await until(lambda: self.archived > before)  # noqa: B023 - it is awaited within the turn
            count = self._chance.randrange(1, 30)
            messages = [{"role": "user", "content": f"{n}.{k}"} for k in range(count)]
            await self._engine.add_conversation_messages(session_id, messages)
            self.logged[session_id] += count

    async def read(self, session_id: str) -> None:
        """Read log and history, which hold everything that was acknowledged before, once and in order."""
        while self.running:
            known = self.logged[session_id]
            versions = [event.version for event in await self.store.read(session_id)]
            assert versions == list(range(1, len(versions) + 1))
            history = await self._engine.get_conversation_history(session_id, 0)
            assert [message["version"] for message in history] == list(range(3, len(history) + 3))
            assert min(len(versions), len(history) + 2) >= known
            newest = [event.version for event in await self.store.read(session_id, backwards=True, limit=40)]
            assert newest == list(range(newest[0], max(0, newest[0] - 40), -1))

    async def follow(self, session_id: str) -> list[int]:
        """Follow a session to its end, and return the versions that were seen."""
        seen: list[int] = []
        async with contextlib.aclosing(self.store.subscribe(session_id)) as events:
            async for event in events:
                seen.append(event.version)
                if self.over and event.version >= self.logged[session_id]:
                    break
        return seen

    async def shelve(self) -> None:
        """Archive sessions, and restore some of them."""
        archivist = Archivist(self.store, open_views(self.store))
        while self.running:
            session_id = self._chance.choice([*self.logged])
            done = await archivist.archive(session_id, NOW)
            self.archived += done.outcome is Outcome.ARCHIVED
            if self._chance.random() < 0.5:
                await archivist.restore(session_id)


class TestTogether:
    @pytest.mark.guarantee("K1", "K3")
    async def test_everybody_at_once(self, server: Server, archive: DirectoryArchive) -> None:
        """While sessions are archived and restored without end, appends and reads lose, double and miss nothing."""
        sessions = [f"s{n}" for n in range(4)]
        async with ContextEngine(server.url, archive=archive) as engine:
            everybody, runtime = Everybody(engine, sessions), engine._here()
            await everybody.begin()
            readers = [asyncio.create_task(everybody.read(session_id)) for session_id in sessions]
            archivists = [asyncio.create_task(everybody.shelve()) for _ in range(2)]
            followers = [asyncio.create_task(everybody.follow(session_id)) for session_id in sessions]
            await asyncio.gather(*map(everybody.write, sessions))
            everybody.running = False
            await asyncio.gather(*readers)
            await asyncio.gather(*archivists)
            everybody.logged = {session_id: last + 1 for session_id, last in everybody.logged.items()}
            everybody.over = True
            for session_id in sessions:
                await runtime.store.append(session_id, MessageAdded("user", "the last"))
            for session_id, seen in zip(sessions, await asyncio.gather(*followers), strict=True):
                assert seen == list(range(1, everybody.logged[session_id] + 1))
                await Archivist(runtime.store, runtime.views).restore(session_id)
            await Archivist(runtime.store, runtime.views).sweep(NOW)
            assert await archive.names() == []
            assert not await runtime.projector.project(sessions)
            await check_views(runtime.store)
