"""Models to be asked for summaries: some note what they are asked, some wait until they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


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
