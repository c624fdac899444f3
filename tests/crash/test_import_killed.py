"""An import that is killed, and run again: everything is there once, and in order."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from importing import MARK
from support.imports import SCRIPT, import_by_script, imported, logged, logs, verdicts
from support.original import Original, tour
from support.proxy import Proxy
from support.servers import Server

from eventstore import EventStore, SessionEnded, open_store


class TestKilled:
    async def test_at_any_moment(self, original: Original, server: Server, target_url: str, directory: Path) -> None:
        """However often the import is killed, with kill -9: in the end everything is there once, and in order."""
        chance = random.Random()
        await tour(original)
        for session in range(12):
            await original.create_session(f"session-{session}", "ann")
            for number in range(chance.randrange(30)):
                await original.add_message(f"session-{session}", "user", number)
        for number in range(2300):
            await original.add_message("long", "user", number)
        assert (
            import_by_script("--from", server.url, "--to", f"{server.url}?db=1", "--namespace", "once").returncode == 0
        )
        kills = 0
        async with Proxy(server.path, directory / "p") as proxy:
            while True:
                left = chance.randrange(5, 30) if kills < 8 else sys.maxsize
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    str(SCRIPT),
                    *("--from", server.url, "--to", f"{proxy.url}?db=1", "--namespace", "killed"),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                )

                def kill(_reply: bytes, process: asyncio.subprocess.Process = process) -> bool:
                    nonlocal left
                    left -= 1
                    if left == 0:
                        process.send_signal(signal.SIGKILL)
                    return left <= 0

                proxy.lose_reply_if(kill)
                if await process.wait() == 0:
                    break
                assert process.returncode == -signal.SIGKILL
                kills += 1
        assert kills > 0
        once, killed = await logs(target_url, "once"), await logs(target_url, "killed")
        assert {name: [event.data for event in log] for name, log in killed.items()} == {
            name: [event.data for event in log] for name, log in once.items()
        }
        assert all(event.meta == MARK for log in killed.values() for event in log)

    @staticmethod
    async def import_half(original: Original, target: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Import a session of three appends, and fail after the first."""
        for number in range(2500):
            await original.add_message("long", "user", number)
        append, calls = type(target).append, 0

        async def failing(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise InterruptedError
            return await append(*arguments, **options)

        with monkeypatch.context() as patched:
            patched.setattr(type(target), "append", failing)
            with pytest.raises(InterruptedError):
                await imported(original, target)
        assert await target.version("long") == 1000

    async def test_between_two_appends(
        self, original: Original, target_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A session of which a part was imported is completed."""
        async with open_store(target_url) as target:
            await self.import_half(original, target, monkeypatch)
            assert await verdicts(original, target) == {"long": "IMPORTED"}
            assert await logged(target, "long") == [*range(2500)]

    async def test_and_then_written_to(
        self, original: Original, target_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A session of which a part was imported, and to which somebody has written since, is refused by name."""
        async with open_store(target_url) as target:
            await self.import_half(original, target, monkeypatch)
            await target.append("long", SessionEnded("failed"))
            outcomes = await imported(original, target)
            assert "interrupted" in str(outcomes["long"].refusal)
            assert await target.version("long") == 1001
