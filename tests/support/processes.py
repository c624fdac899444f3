"""Processes for tests: Python programs that say in JSON lines what they do, to be killed and frozen at will."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Self

import anyio

SAYS_WITHIN = 30.0
SABOTAGED = Path(__file__).with_name("sabotaged_worker.py")
SABOTAGED_COMPACTOR = Path(__file__).with_name("sabotaged_compactor.py")
TESTS = Path(__file__).parents[1]


class Process:
    """A running Python program and what it has said so far. `Processes` starts them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.lines: list[dict[str, Any]] = []
        self._process = process
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    def said(self, action: str) -> list[dict[str, Any]]:
        """Return the lines with an ``action`` that it has said so far."""
        return [line for line in self.lines if line.get("action") == action]

    async def says(self, action: str, *, times: int = 1) -> dict[str, Any]:
        """Wait until it has said a line with an ``action`` so many times, and return the last of these lines."""
        with anyio.fail_after(SAYS_WITHIN):
            while len(found := self.said(action)) < times:
                assert not self._reading.done(), f"It ended without saying {action!r}: {self.lines}"
                await self._news.wait()
        return found[times - 1]

    async def told(self, word: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")
        await self._process.stdin.drain()

    def freeze(self) -> None:
        """Stop it where it stands."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to leave."""
        self._process.send_signal(signal.SIGTERM)

    async def killed(self) -> None:
        """Kill it at once, frozen or not, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.ended()

    async def ended(self, *, within: float = SAYS_WITHIN) -> int:
        """Wait until it has ended and return its exit code."""
        with anyio.fail_after(within):
            code = await self._process.wait()
            await asyncio.wait([self._reading])
        return code

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                with contextlib.suppress(ValueError):
                    self.lines.append(json.loads(line))
                self._tell()
        finally:
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Processes:
    """Starts processes, and leaves none behind."""

    def __init__(self) -> None:
        self._started: list[Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for process in self._started:
            await process.killed()

    async def start(self, *command: str, **environment: str) -> Process:
        """Run Python with some arguments."""
        process = Process(
            await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2**24,
                env=os.environ | environment,
            )
        )
        self._started.append(process)
        return process

    async def worker(self, url: str, name: str, *options: str, claim_after: float = 1.0) -> Process:
        """Start ``python -m workers``."""
        return await self.start("-m", "workers", *_arguments(url, name, claim_after), *options)

    async def sabotaged_worker(self, url: str, name: str, *, claim_after: float = 1.0) -> Process:
        """Start a worker that obeys the messages it folds; see `support.sabotaged_worker`."""
        return await self.start(str(SABOTAGED), *_arguments(url, name, claim_after))

    async def compactor(
        self,
        url: str,
        name: str,
        *options: str,
        summarizer: str = "answers",
        dies: str = "never",
        claim_after: float = 0.2,
        patience: float = 0.5,
        **environment: str,
    ) -> Process:
        """Start a compaction worker with a model of `support.summarizers`; see `support.sabotaged_compactor`."""
        model = ("--summarizer", f"support.summarizers:{summarizer}", "--timeout", str(patience))
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        arguments = (*_arguments(url, name, claim_after), "--compaction", *model, *options)
        return await self.start(str(SABOTAGED_COMPACTOR), dies, *arguments, PYTHONPATH=path, **environment)


def _arguments(url: str, name: str, claim_after: float) -> list[str]:
    return ["--url", url, "--name", name, "--claim-after", str(claim_after)]
