"""What a task awaits until a reply has come: like a future, but the task goes on in the turn that has read the reply.

Who awaits a future of asyncio goes on in the loop's next turn. For one who is alone that is one more system call for
each append and each read, a twentieth of what they take. A task of asyncio can await other things than such futures:
whatever bears ``_asyncio_future_blocking`` and has the few methods for which the task asks.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Generic, Self, TypeVar

import msgspec

T = TypeVar("T")


class Promise(msgspec.Struct, Generic[T], eq=False):
    """A result that will be there, for one task of a loop to await.

    Attributes:
        loop: The task's loop. Everything happens there.
        done: Whether the result is there, or an exception, or nobody waits any more.
    """

    loop: asyncio.AbstractEventLoop
    done: bool = False
    _value: T | None = None
    _error: BaseException | None = None
    _wake: Callable[[Any], object] | None = None
    _context: Context | None = None
    _asyncio_future_blocking: bool = False

    def set_result(self, value: T) -> None:
        """Give the result, and let the task go on. Nothing happens if it is done already."""
        if not self.done:
            self.done, self._value = True, value
            self._go_on()

    def set_exception(self, error: BaseException) -> None:
        """Give an exception for the task to raise, and let it go on. Nothing happens if it is done already."""
        if not self.done:
            self.done, self._error = True, error
            self._go_on()

    def cancel(self, msg: object = None) -> bool:
        """Let the task raise CancelledError, in the next turn. Return False if it is done already."""
        if self.done:
            return False
        self.done, self._error = True, asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        if self._wake is not None:
            self.loop.call_soon(self._wake, self, context=self._context)
        return True

    def __await__(self) -> Generator[Self, None, T]:
        """Wait for the result."""
        if not self.done:
            self._asyncio_future_blocking = True
            yield self  # if there is an exception, the task raises it here
        elif self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value] # it is there

    def _go_on(self) -> None:
        """Let the task go on: at once, unless another one is at it.

        Where nest_asyncio is loaded, never at once: there a task may run the loop from within itself, which would wait
        for replies in vain if the callback that reads them had not ended.
        """
        if self._wake is None or self._context is None:
            return
        if asyncio.current_task(self.loop) is not None or "nest_asyncio" in sys.modules:
            self.loop.call_soon(self._wake, self, context=self._context)
            return
        try:
            self._context.run(self._wake, self)
        except (SystemExit, KeyboardInterrupt) as exit_:  # that ends the loop, but not what its callback has in hand
            self.loop.call_soon(_raise, exit_)

    # What follows is for the task.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that is the only one whose tasks may await it."""
        return self.loop

    def add_done_callback(self, wake: Callable[[Any], object], *, context: Context) -> None:
        """Note how to let the task go on."""
        self._wake, self._context = wake, context

    def result(self) -> T:
        """Return the result, or raise the exception."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value] # it is there


def _raise(error: BaseException) -> None:
    raise error
