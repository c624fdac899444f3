"""Models to be asked for summaries: classes for tests, and functions for ``python -m workers --summarizer``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import anyio

from support.waiting import until


class Model:
    """An async function from a prompt to a text, which notes every prompt.

    Args:
        meanwhile: Is awaited each time between question and answer.
    """

    __name__ = "model"

    def __init__(self, meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        self.prompts: list[str] = []
        self._meanwhile = meanwhile

    async def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        number = len(self.prompts)
        if self._meanwhile is not None:
            await self._meanwhile()
        return f"Summary {number}."


class Slow(Model):
    """A model that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()

    async def _wait(self) -> None:
        self.asked.set()
        await self.answers.wait()


async def answers(prompt: str) -> str:
    """Say that it was asked, and answer."""
    say("asked", prompt=prompt)
    return "A summary."


async def dies(prompt: str) -> str:
    """Kill its process."""
    say("asked", prompt=prompt)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def freezes(prompt: str) -> str:
    """Stop its process, and answer when somebody lets it go on."""
    say("asked", prompt=prompt)
    os.kill(os.getpid(), signal.SIGSTOP)
    return "A late summary."


async def waits(prompt: str) -> str:
    """Say that it was asked, and answer what a file holds that the environment names, once it is there."""
    say("asked", prompt=prompt)
    answer = anyio.Path(os.environ["ANSWER"])
    await until(answer.exists)
    return await answer.read_text()


def say(action: str, **values: str) -> None:
    """Write a JSON line."""
    sys.stdout.write(json.dumps({"action": action, **values}) + "\n")
    sys.stdout.flush()
