"""Promises: who awaits one goes on at once, and otherwise finds what asyncio's own futures would give."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from support.waiting import under_way

from eventstore import MessageAdded
from eventstore.appending import encode_append
from eventstore.redis.pending import Pending
from eventstore.redis.promise import Promise
from eventstore.redis.room import Room
from eventstore.store import ANY

NAME: ContextVar[str] = ContextVar("name", default="nobody")


class Failed(Exception):
    """What a promise may come to."""


def fail(promise: Promise[str]) -> None:
    """Let a promise fail."""
    promise.set_exception(Failed())


def promised() -> Promise[str]:
    """Return a promise for tasks of the running loop."""
    return Promise(asyncio.get_running_loop())


async def called(callback: Callable[[], object]) -> None:
    """Return when the loop has called a callback, as it calls a protocol."""
    over = asyncio.Event()

    def call() -> None:
        callback()
        over.set()

    asyncio.get_running_loop().call_soon(call)
    await over.wait()


async def told(promise: Promise[str], of: list[str]) -> None:
    """Note what was promised, once it is there."""
    of.append(await promise)


async def test_who_awaits_goes_on_before_the_callback_has_ended() -> None:
    """That is what a promise is for: there is no turn of the loop in between."""
    promise, seen = promised(), list[str]()
    (task,) = await under_way(told(promise, seen))

    def reply() -> None:
        promise.set_result("here")
        seen.append("after")

    await called(reply)
    await task
    assert seen == ["here", "after"]


async def test_each_of_a_crowd_goes_on_in_the_order_of_the_replies() -> None:
    """One callback reads the replies to many."""
    promises, seen = [promised() for _ in range(5)], list[str]()
    tasks = await under_way(*(told(promise, seen) for promise in promises))

    def reply() -> None:
        for number, promise in enumerate(promises):
            promise.set_result(str(number))

    await called(reply)
    await asyncio.gather(*tasks)
    assert seen == ["0", "1", "2", "3", "4"]


async def test_a_task_that_gives_the_result_is_not_interrupted() -> None:
    """Tasks do not run inside each other."""
    promise, seen = promised(), list[str]()
    (task,) = await under_way(told(promise, seen))
    promise.set_result("here")
    seen.append("first")
    await task
    assert seen == ["first", "here"]


async def test_an_exception_is_raised_where_it_is_awaited() -> None:
    """It comes out of the await."""
    promise = promised()
    (task,) = await under_way(told(promise, []))
    await called(lambda: promise.set_exception(ValueError("no")))
    with pytest.raises(ValueError, match="no"):
        await task


async def test_what_is_there_already_is_not_waited_for() -> None:
    """A result, an exception, a cancellation."""
    result, failed, cancelled = promised(), promised(), promised()
    result.set_result("here")
    failed.set_exception(ValueError("no"))
    cancelled.cancel("enough")
    assert await result == "here"
    with pytest.raises(ValueError, match="no"):
        await failed
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await cancelled


async def test_only_the_first_outcome_counts() -> None:
    """What comes later changes nothing."""
    promise = promised()
    promise.set_result("first")
    promise.set_result("second")
    promise.set_exception(ValueError("third"))
    assert not promise.cancel()
    assert await promise == "first"


async def test_a_task_that_is_cancelled_cancels_what_it_awaits_and_learns_nothing_more() -> None:
    """The reply may come all the same."""
    promise, seen = promised(), list[str]()
    (task,) = await under_way(told(promise, seen))
    assert task.cancel("enough")
    assert promise.done
    promise.set_result("too late")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert seen == []


async def test_a_task_that_has_its_result_is_cancelled_later() -> None:
    """Where asyncio would have dropped the result of a task that is cancelled in the same turn."""
    promise, seen = promised(), list[str]()

    async def work() -> None:
        await told(promise, seen)
        await asyncio.Event().wait()

    (task,) = await under_way(work())

    def reply() -> None:
        promise.set_result("here")
        task.cancel()

    await called(reply)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["here"]


async def test_time_limits_hold() -> None:
    """Those of asyncio, and those of anyio."""
    promises = [promised(), promised()]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(told(promises[0], []), 0.001)
    with pytest.raises(TimeoutError), anyio.fail_after(0.001):
        await promises[1]
    assert all(promise.done for promise in promises)


async def test_each_task_goes_on_in_its_own_context() -> None:
    """Neither in that of the reader nor in that of the one before it."""
    promises, seen = [promised(), promised()], list[str]()

    async def work(name: str, promise: Promise[str]) -> None:
        NAME.set(name)
        await promise
        seen.append(NAME.get())

    tasks = await under_way(*(work(name, promise) for name, promise in zip("ab", promises, strict=True)))

    def reply() -> None:
        for promise in promises:
            promise.set_result("here")
        seen.append(NAME.get())

    await called(reply)
    await asyncio.gather(*tasks)
    assert seen == ["a", "b", "nobody"]


def test_a_task_that_exits_ends_the_loop_but_not_the_callback() -> None:
    """The others of its callback have what was promised to them when the loop runs again; it may be ended again."""
    loop, seen = asyncio.new_event_loop(), list[str]()

    async def leave(promise: Promise[str]) -> None:
        await promise
        raise SystemExit(3)

    def reply(promises: list[Promise[str]]) -> None:
        for promise in promises:
            promise.set_result("here")
        seen.append("after")

    try:
        for _ in range(2):
            promises = [Promise[str](loop), Promise[str](loop)]
            leaving, staying = loop.create_task(leave(promises[0])), loop.create_task(told(promises[1], seen))
            loop.call_soon(reply, promises)
            with pytest.raises(SystemExit, match="3"):
                loop.run_forever()
            loop.run_until_complete(asyncio.wait_for(staying, 10))
            with pytest.raises(SystemExit):
                leaving.result()
    finally:
        loop.close()
    assert seen == ["here", "after"] * 2


def test_tasks_that_exit_together_let_the_others_clean_up() -> None:
    """One exit ends the run; another one must not end what comes after it."""
    seen = list[str]()

    async def leave(promise: Promise[str]) -> None:
        await promise
        raise SystemExit(3)

    async def main() -> None:
        promises = [promised() for _ in range(4)]
        leaving = await under_way(*map(leave, promises))

        def reply() -> None:
            for promise in promises:
                promise.set_result("here")

        asyncio.get_running_loop().call_soon(reply)
        try:
            await asyncio.wait(leaving, return_when=asyncio.ALL_COMPLETED)
            await asyncio.Event().wait()
        finally:
            seen.extend(map(str, await asyncio.gather(*leaving, return_exceptions=True)))

    with pytest.raises(SystemExit, match="3"):
        asyncio.run(main())
    assert seen == ["3", "3", "3", "3"]


async def test_a_failure_is_let_go_with_whoever_caught_it() -> None:
    """No traceback keeps the promise that keeps the exception, until the garbage is collected."""

    async def meet(promises: list[Promise[str]]) -> weakref.ref[BaseException]:
        try:
            await promises.pop()  # else it would be this frame that keeps it
        except (Failed, asyncio.CancelledError) as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        for fails in (False, True):
            waited_for, there = promised(), promised()
            (task,) = await under_way(meet([waited_for]))
            await called(functools.partial(fail, waited_for) if fails else waited_for.cancel)
            fail(there) if fails else there.cancel()
            errors = await task, await meet([there])
            del waited_for, there, task
            assert [error() for error in errors] == [None, None]
    finally:
        gc.enable()


async def test_nothing_is_told_of_what_a_task_waits_for() -> None:
    """Tasks are logged with what they wait for, and messages are nobody's business."""
    loop = asyncio.get_running_loop()
    append = encode_append("s", MessageAdded("user", "secret"), ANY, None, 1000)
    pending = Pending(loop, append=append, room=Room(1000), taken=0)
    (task,) = await under_way(told(pending, []))  # type: ignore[arg-type]
    assert repr(pending) == "<Pending pending>"
    assert "Pending" in repr(task)
    assert "secret" not in repr(task)
    task.cancel()
    await asyncio.wait([task])
    assert repr(pending) == "<Pending done>"


def test_where_loops_run_in_another_way_a_task_goes_on_later() -> None:
    """As with nest_asyncio: nobody would read what a nested run waits for until this callback ends."""

    class Loop(asyncio.SelectorEventLoop):
        def run_forever(self) -> None:
            super().run_forever()

    loop, seen = Loop(), list[str]()
    promise = Promise[str](loop)

    def reply() -> None:
        promise.set_result("here")
        seen.append("after")

    try:
        task = loop.create_task(told(promise, seen))
        loop.call_soon(reply)
        loop.run_until_complete(task)
    finally:
        loop.close()
    assert seen == ["after", "here"]


async def test_a_task_of_a_closed_loop_does_not_go_on_elsewhere() -> None:
    """It is asyncio that says so, as for its futures."""
    loop = asyncio.new_event_loop()
    promise, seen = Promise[str](loop), list[str]()
    thread = threading.Thread(target=abandoned, args=(loop, told(promise, seen)))
    thread.start()
    thread.join()
    with pytest.raises(RuntimeError, match="closed"):
        promise.set_result("here")
    assert seen == []


def abandoned(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Begin work on a loop, and close the loop."""
    loop.set_exception_handler(lambda *_: None)  # it would tell that the work was left
    task = loop.create_task(work)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    task.set_name("abandoned")


def test_a_task_is_cancelled_while_its_loop_stands_still() -> None:
    """As asyncio.run does at the end."""
    loop = asyncio.new_event_loop()
    promise = Promise[str](loop)
    try:
        task = loop.create_task(told(promise, []))
        loop.call_soon(loop.stop)
        loop.run_forever()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    finally:
        loop.close()


async def test_the_tasks_of_another_loop_may_not_await_it() -> None:
    """That is refused as for futures of asyncio."""
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await Promise[str](loop)
    finally:
        loop.close()
