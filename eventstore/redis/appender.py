"""Grouped commits: appends that are in flight at the same time leave together.

All appends of one turn of the event loop go out in one write, with one script call for each partition they touch.
Nobody waits for company: an append that is alone leaves alone in the same turn.

If the connection breaks, an append that may have reached the server is sent again with a mark, and the script looks for
its event ids before it writes. The first try pays nothing for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import NoScriptError

from eventstore.appending import EncodedAppend
from eventstore.codec import decode
from eventstore.errors import (
    AppendOutcomeUnknown,
    ContextEngineError,
    StoreUnavailable,
    WrongExpectedVersion,
)
from eventstore.events import RecordedEvent
from eventstore.redis.commands import Command, Script, refusal
from eventstore.redis.keys import Keys
from eventstore.redis.link import Link, LinkLost
from eventstore.redis.links import Links, Pauses
from eventstore.store import Appended, Expected

APPEND = Script.load("eventstore.redis", "append.lua")
MAX_APPENDS_PER_CALL = 128
MAX_BYTES_PER_CALL = 1024 * 1024
MAX_KNOWN_VERSIONS = 10_000

_EXPECTED = {Expected.ANY: "any", Expected.NO_STREAM: "none", Expected.EXISTS: "some"}


class _Pending:
    """An append on its way, and the future that its caller awaits."""

    __slots__ = ("append", "at_least", "epoch", "future", "resend_after", "sent")

    def __init__(self, append: EncodedAppend, future: asyncio.Future[Appended], at_least: int, epoch: int) -> None:
        self.append = append
        self.future = future
        self.at_least = at_least  # a version that the session had before the first try, as was known in this epoch
        self.epoch = epoch
        self.resend_after: int | None = None
        self.sent = False

    def lost(self, lost: LinkLost) -> None:
        """Note that a try failed, and from where on the next one has to look for the events."""
        if not lost.sent:
            return
        # What was known serves for a try on the same connection alone: a server may come back with a shorter log.
        known = self.at_least if not self.sent and lost.epoch == self.epoch else 0
        expected = self.append.expected
        self.resend_after = max(known, expected if isinstance(expected, int) else 0)
        self.sent = True

    def fail(self, error: BaseException) -> None:
        """Tell the caller that the last try failed, and whether an earlier one may have succeeded."""
        if self.future.done():
            return
        if self.sent:
            error = AppendOutcomeUnknown(self.append.session_id, self.append.event_ids, str(error))
        elif isinstance(error, LinkLost):
            error = StoreUnavailable(f"{error} Nothing was written.")
        self.future.set_exception(error)

    def settle(self, result: Any) -> int:
        """Give the caller the script's result. Return the session's version, 0 if it is not known."""
        if isinstance(result, list):
            kind = result[0]
            if kind == b"already":
                result = result[1]
            elif not self.future.done():
                self.future.set_exception(self._failure(kind, result))
        if not isinstance(result, int):
            return 0
        if not self.future.done():
            self.future.set_result(Appended(self.append.session_id, result, self.append.event_ids))
        return result

    def _failure(self, kind: bytes, result: list[Any]) -> ContextEngineError:
        append = self.append
        if kind == b"conflict":
            events = [recorded(append.session_id, found) for found in result[2]]
            expected = append.expected.value if isinstance(append.expected, Expected) else append.expected
            return WrongExpectedVersion(append.session_id, expected, result[1], events)
        return refusal(RuntimeError(result[1].decode(errors="replace")))


_Group = tuple[int, list[_Pending]]


class Appender:
    """Collects the appends of one turn of one event loop and sends them."""

    def __init__(self, links: Links, keys: Keys) -> None:
        """Belong to the running event loop."""
        self._links = links
        self._link: Link = links.shared()
        self._keys = keys
        self._loop = asyncio.get_running_loop()
        self._pending: list[_Pending] = []
        self._known: dict[bytes, int] = {}
        self._known_in = self._link.epoch
        self._resending: set[asyncio.Task[None]] = set()

    def submit(self, append: EncodedAppend) -> asyncio.Future[Appended]:
        """Send an append at the end of this turn of the loop."""
        future: asyncio.Future[Appended] = self._loop.create_future()
        if not self._pending:
            self._loop.call_soon(self._flush)
        epoch = self._link.epoch
        if epoch != self._known_in:
            self._known.clear()
            self._known_in = epoch
        self._pending.append(_Pending(append, future, self._known.get(append.session_key, 0), epoch))
        return future

    def _flush(self) -> None:
        groups = self._grouped([pending for pending in self._pending if not pending.future.done()])
        self._pending = []
        if groups:
            self._link.submit([self._command(group) for group in groups]).add_done_callback(
                lambda done: self._settle(groups, done)
            )

    def _grouped(self, all_pending: list[_Pending]) -> list[_Group]:
        """Divide appends by partition, and those of one partition into script calls of bounded size."""
        groups: list[_Group] = []
        open_groups: dict[int, tuple[list[_Pending], int]] = {}
        for pending in all_pending:
            partition = self._keys.partition(pending.append.session_key)
            size = sum(map(len, pending.append.entries))
            members, filled = open_groups.get(partition, ([], 0))
            if not members or len(members) >= MAX_APPENDS_PER_CALL or filled + size > MAX_BYTES_PER_CALL:
                members, filled = [], 0
                groups.append((partition, members))
            members.append(pending)
            open_groups[partition] = (members, filled + size)
        return groups

    def _command(self, group: _Group) -> Command:
        """Return the call of the script for a group."""
        partition, members = group
        keys = [self._keys.heads(partition), self._keys.feed(partition)]
        arguments: list[Any] = []
        for pending in members:
            append = pending.append
            keys.append(self._keys.log(partition, append.session_key))
            expected = append.expected
            arguments += (
                append.session_key,
                _EXPECTED[expected] if isinstance(expected, Expected) else expected,
                "" if pending.resend_after is None else pending.resend_after,
                len(append.entries),
                *append.entries,
            )
        return ("EVALSHA", APPEND.sha, len(keys), *keys, *arguments)

    def _settle(self, groups: list[_Group], done: asyncio.Future[list[Any]]) -> None:
        """Give every caller its result; what the link lost, or the script's absence refused, is sent again."""
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, LinkLost):
            self._send_again(groups, error)
        elif refused := self._settle_groups(groups, done.result()):
            self._send_again(refused, None)

    def _settle_groups(self, groups: list[_Group], replies: Sequence[Any]) -> list[_Group]:
        """Settle the groups that the script has dealt with, and return those for which it was not there."""
        refused = []
        for group, reply in zip(groups, replies, strict=True):
            if isinstance(reply, NoScriptError):
                refused.append(group)
            else:
                self._settle_group(group, reply)
        return refused

    def _settle_group(self, group: _Group, reply: Any) -> None:
        _, members = group
        if isinstance(reply, Exception):
            for pending in members:
                pending.fail(refusal(reply))
            return
        if len(self._known) > MAX_KNOWN_VERSIONS:
            self._known.clear()
        for pending, result in zip(members, reply, strict=True):
            self._known[pending.append.session_key] = pending.settle(result)

    def _send_again(self, groups: list[_Group], error: LinkLost | None) -> None:
        task = self._loop.create_task(self._resend(groups, error), name="contextengine-resend")
        self._resending.add(task)
        task.add_done_callback(self._resending.discard)

    async def _resend(self, groups: list[_Group], error: LinkLost | None) -> None:
        """Send groups again until they are settled, nobody awaits them any more, or the time is up."""
        pauses = Pauses(self._links.timeout)
        try:
            while groups:
                if error is not None:
                    _note(groups, error)
                    if self._link.closed or not await pauses.next():
                        break
                    groups = _awaited(groups)
                try:
                    groups, error = await self._try_again(groups), None
                except LinkLost as lost:
                    error = lost
        except asyncio.CancelledError:
            error = LinkLost("the event loop ended", sent=True, epoch=self._link.epoch)
            _note(groups, error)
            raise
        finally:
            if error is not None:
                for pending in _each(groups):
                    pending.fail(error)

    async def _try_again(self, groups: list[_Group]) -> list[_Group]:
        """Send groups once more, with the script. Return those for which the script was not there all the same."""
        load: Command = ("SCRIPT", "LOAD", APPEND.text)
        loaded, *replies = await self._link.submit([load, *map(self._command, groups)])
        refused = self._settle_groups(groups, replies)
        if not isinstance(loaded, Exception):
            return refused
        for group in refused:
            self._settle_group(group, loaded)
        return []


def _each(groups: list[_Group]) -> Iterator[_Pending]:
    return (pending for _, members in groups for pending in members)


def _note(groups: list[_Group], error: LinkLost) -> None:
    """Note for every append that a try failed."""
    for pending in _each(groups):
        pending.lost(error)


def _awaited(groups: list[_Group]) -> list[_Group]:
    """Leave out the appends that nobody awaits any more."""
    left = [(partition, [pending for pending in members if not pending.future.done()]) for partition, members in groups]
    return [group for group in left if group[1]]


def recorded(session_id: str, found: list[Any]) -> RecordedEvent:
    """Decode one entry of a stream reply: its id, and its single field and value."""
    version, recorded_ms = found[0].split(b"-")
    return decode(session_id, int(version), int(recorded_ms), found[1][1])
