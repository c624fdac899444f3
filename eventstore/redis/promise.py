"""What a task awaits until a reply has come: like a future, but the task goes on in the turn that has read the reply.

Who awaits a future of asyncio goes on in the loop's next turn. For one who is alone that is one more system call for
each append and each read. A task of asyncio can await other things than such futures: whatever bears
``_asyncio_future_blocking`` and has the few methods for which the task asks.

So a caller's code runs within `Promise.set_result` and `Promise.set_exception`: in the midst of whoever settles what
others wait for, too. Whoever calls them has to have noted before what it has learned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Generic, Self, TypeVar
from weakref import WeakSet

import msgspec

T = TypeVar("T")

_RUN = asyncio.BaseEventLoop.run_forever
"""How asyncio's own loops run, apart from those for Windows."""
_ending: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
"""Loops that are about to be ended by a task's exit."""


class Promise(msgspec.Struct, Generic[T], eq=False):
    """A result that will be there, for one task of a loop to await, once.

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
        try:
            if self.done:
                return self.result()
            self._asyncio_future_blocking = True
            yield self
        except BaseException as error:
            # It came by way of `result`, whose frame knows this promise, which has it, and whoever settled that.
            error.__traceback__ = None
            raise
        return self._value  # type: ignore[return-value] # it is there

    def __repr__(self) -> str:
        """Tell nothing of what it is about: asyncio logs what tasks wait for."""
        return f"<{type(self).__name__} {'done' if self.done else 'pending'}>"

    def _go_on(self) -> None:
        """Let the task go on: at once, if this is a callback of its loop and no task is running.

        Not at once, either, where somebody has changed how loops run, as nest_asyncio does: there a task may run the
        loop from within itself, and would wait for replies that nobody reads until the callback that reads them ends.
        """
        if self._wake is None or self._context is None:
            return
        loop = self.loop
        if type(loop).run_forever is not _RUN or not loop.is_running() or asyncio.current_task(loop) is not None:
            loop.call_soon(self._wake, self, context=self._context)
            return
        try:
            self._context.run(self._wake, self)
        except (SystemExit, KeyboardInterrupt) as exit_:  # that ends the loop, but not what its callback has in hand
            if loop not in _ending:
                _ending.add(loop)
                loop.call_soon(_end, loop, exit_)

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


def _end(loop: asyncio.AbstractEventLoop, exit_: BaseException) -> None:
    _ending.discard(loop)
    raise exit_
