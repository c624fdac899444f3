"""Grouped commits: appends that are in flight at the same time leave together.

Appends of one turn of the event loop go out in one write to each node, with one script call for each partition they
touch. Nobody waits for company: an append that is alone leaves in the same turn, and at once if the last one was alone
too. And of a crowd, one half leaves before the turn is over: so the server works on it while the client encodes the
other half, instead of each waiting for the other.

If the connection breaks, an append that may have reached the server is sent again with a mark, and the script looks for
its event ids before it writes. The first try pays nothing for that.

The mark is enough only if the first try cannot be carried out after the second has looked. Where the same node serves
the partition again, the link has seen to it: it ends its previous connection before it sends anything on a new one.
Where another node serves it now, there are two cases. The slot was moved there: then what the old node had carried out
came along with the keys, and the rest it answers with MOVED. Or a replica took over: then it has what had reached it,
and what the old primary carries out later, alone or paused, nobody will see, for it drops its data and copies the new
primary's before it serves again. Until it has learned that, nobody who knows of the new one goes back to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from eventstore.appending import EncodedAppend
from eventstore.partitions import partition_of
from eventstore.redis.batches import NOT_EXECUTED, Batch
from eventstore.redis.commands import Argument, Command, Script, Unserved, refusal
from eventstore.redis.keys import Keys
from eventstore.redis.link import Link, LinkLost
from eventstore.redis.links import Links, Pauses
from eventstore.redis.pending import Pending
from eventstore.redis.room import MOST_ON_THE_WAY, PER_APPEND, Room
from eventstore.store import ANY, EXISTS, NO_STREAM, ExpectedVersion

APPEND = Script.load("eventstore.redis", "append.lua")
MAX_APPENDS_PER_CALL = 128
MAX_BYTES_PER_CALL = 1024 * 1024
MAX_KNOWN_VERSIONS = 10_000
LEAST_PER_FLUSH = 16
"""With fewer appends than this the end of the loop's turn is waited for."""

_EXPECTED: dict[ExpectedVersion, str] = {ANY: "any", NO_STREAM: "none", EXISTS: "some"}


class Group:
    """The appends of one script call: all of one partition."""

    __slots__ = ("members", "partition", "size")

    def __init__(self, partition: int, members: list[Pending]) -> None:
        """Begin with these."""
        self.partition = partition
        self.members = members
        self.size = 0  # bytes of the events

    def takes(self, size: int) -> bool:
        """Whether so many bytes more may go with it."""
        return len(self.members) < MAX_APPENDS_PER_CALL and self.size + size <= MAX_BYTES_PER_CALL


class Appender:
    """Collects the appends of one turn of one event loop and sends them."""

    def __init__(self, links: Links, keys: Keys) -> None:
        """Belong to the running event loop."""
        self._links = links
        self._keys = keys
        self._loop = asyncio.get_running_loop()
        self._pending: list[Pending] = []
        self._enough = LEAST_PER_FLUSH
        self._flushes = False
        self._known: dict[bytes, int] = {}
        self._known_in = links.epoch
        self._room = Room(MOST_ON_THE_WAY)
        self._resending: set[asyncio.Task[None]] = set()

    def submit_now(self, append: EncodedAppend) -> Pending | None:
        """Send an append at the end of this turn of the loop; return what it becomes, or None if there is no room."""
        taken = append.size + PER_APPEND
        return self._add(append, taken) if self._room.take_now(taken) else None

    async def submit(self, append: EncodedAppend) -> Pending:
        """Do as `submit_now`, once there is room on the way."""
        taken = append.size + PER_APPEND
        await self._room.take(taken)
        return self._add(append, taken)

    def _add(self, append: EncodedAppend, taken: int) -> Pending:
        pending = Pending(self._loop, append=append, room=self._room, taken=taken)
        self._pending.append(pending)
        if len(self._pending) >= self._enough:
            self._flush()
        elif not self._flushes:
            self._flushes = True
            self._loop.call_soon(self._end_of_turn)
        return pending

    def _end_of_turn(self) -> None:
        self._flushes = False
        self._flush()

    def _flush(self) -> None:
        """Send what has come together."""
        epoch = self._forget_old_epochs()
        all_pending, self._pending = self._pending, []
        self._enough = 1 if self._room.taken == 1 else max(LEAST_PER_FLUSH, self._room.taken // 2)
        by_link: dict[Link, list[Group]] = {}
        for group in self._grouped(all_pending):
            by_link.setdefault(self._link_of(group), []).append(group)
        for link, groups in by_link.items():
            self._leave(link, groups, epoch)

    def _link_of(self, group: Group) -> Link:
        return self._links.shared(self._keys.heads(group.partition))

    def _leave(self, link: Link, groups: list[Group], epoch: int) -> None:
        link.send([self._command(group) for group in groups], partial(self._settle_first, groups, epoch))
        link.flush()

    def _forget_old_epochs(self) -> int:
        """Forget what was learned before a connection was made anew or the slots moved. Return the present epoch."""
        epoch = self._links.epoch
        if epoch != self._known_in or len(self._known) > MAX_KNOWN_VERSIONS:
            self._known.clear()
            self._known_in = epoch
        return epoch

    def _grouped(self, all_pending: list[Pending]) -> list[Group]:
        """Divide appends by partition, and those of one partition into script calls of bounded size."""
        groups: list[Group] = []
        open_groups: dict[int, Group] = {}
        known, known_in, partitions = self._known, self._known_in, self._keys.partitions
        for pending in all_pending:
            if not pending.awaited():
                continue
            append = pending.append
            partition = partition_of(append.session_key, partitions)
            group = open_groups.get(partition)
            if group is None or not group.takes(append.size):
                group = open_groups[partition] = Group(partition, [])
                groups.append(group)
            group.members.append(pending)
            group.size += append.size
            pending.at_least, pending.epoch = known.get(append.session_key, 0), known_in
        return groups

    def _command(self, group: Group) -> Command:
        """Return the call of the script for a group."""
        members = group.members
        after = [pending.resend_after for pending in members]
        return append_command(self._keys, group.partition, [pending.append for pending in members], after)

    def _batch(self, group: Group) -> Batch:
        return Batch(self._keys.heads(group.partition), [self._command(group)], APPEND)

    def _settle_first(self, groups: list[Group], epoch: int, outcome: list[Any] | LinkLost) -> None:
        """Settle what the first try has dealt with; the rest is sent again."""
        if isinstance(outcome, LinkLost):
            left, unserved = awaited(groups), outcome
        else:
            left, unserved = self._settle(groups, outcome, epoch), None
        if left:
            task = self._loop.create_task(self._resend(left, unserved), name="contextengine-resend")
            self._resending.add(task)
            task.add_done_callback(self._resending.discard)

    def _settle(self, groups: list[Group], replies: Sequence[Any], epoch: int) -> list[Group]:
        """Give every caller its result. Return the groups whose node has not carried out anything."""
        left = []
        for group, reply in zip(groups, replies, strict=True):
            if isinstance(reply, NOT_EXECUTED):
                left.append(group)
            elif isinstance(reply, Exception):
                for pending in group.members:
                    pending.fail(refusal(reply))
            else:
                # What was learned in an earlier epoch is not kept: another node may serve the partition by now.
                known = self._known if epoch == self._links.epoch else {}
                for pending, result in zip(group.members, reply, strict=True):
                    pending.settle(result, known)
        return left

    async def _resend(self, groups: list[Group], unserved: Unserved | None) -> None:
        """Send groups again until they are settled, nobody awaits them any more, or the time is up."""
        pauses = Pauses(self._links.timeout)
        try:
            note(groups, unserved)
            while groups:
                if unserved is not None:
                    if self._links.closed or not await pauses.next():
                        break
                    await self._links.refresh()
                    groups = awaited(groups)
                groups, unserved = await self._try_again(groups)
        except asyncio.CancelledError:
            unserved = LinkLost("the event loop ended", sent=True, epoch=self._links.epoch)
            note(groups, unserved)
            raise
        finally:
            if unserved is not None:
                for pending in each(groups):
                    pending.fail(unserved)

    async def _try_again(self, groups: list[Group]) -> tuple[list[Group], Unserved | None]:
        """Send groups once more. Return those that were not served, and why the last of them was not."""
        epoch = self._forget_old_epochs()
        left: list[Group] = []
        why = None
        batches = [self._batch(group) for group in groups]
        for group, outcome in zip(groups, await self._links.send(batches), strict=True):
            if isinstance(outcome, Unserved):
                note([group], outcome)
                left.append(group)
                why = outcome
            else:
                left += self._settle([group], outcome, epoch)
        return left, why


def append_command(keys: Keys, partition: int, appends: list[EncodedAppend], after: list[int | None]) -> Command:
    """Return the call of the script for appends to sessions of one partition.

    Args:
        keys: The keys of the namespace.
        partition: The partition.
        appends: The appends.
        after: For each of them, a version above which to look for it first; None where it was never sent before.
    """
    logs, sessions = [], []
    arguments: list[Argument] = []
    of_log = keys.log(partition, b"")
    for append, looked_for_after in zip(appends, after, strict=True):
        session = append.session_key
        sessions.append(session)
        logs.append(of_log + session)
        arguments.append(_how(append, looked_for_after))
        arguments += append.entries
    shared = (keys.heads(partition), keys.feed(partition), keys.tombstones(partition))
    return ("EVALSHA", APPEND.sha, 3 + len(appends), *shared, *logs, *sessions, *arguments)


def _how(append: EncodedAppend, looked_for_after: int | None) -> str:
    """Tell the script how to append; nothing where it is one event to a session of any version, for the first time."""
    expected, count = append.expected, len(append.entries)
    if expected is ANY and looked_for_after is None and count == 1:
        return ""
    return f"{_EXPECTED.get(expected, expected)}/{'' if looked_for_after is None else looked_for_after}/{count}"


def each(groups: list[Group]) -> Iterator[Pending]:
    """Give every append of some groups."""
    return (pending for group in groups for pending in group.members)


def note(groups: list[Group], unserved: Unserved | None) -> None:
    """Note for every append that a try failed; None stands for one that the node refused to carry out."""
    for pending in each(groups):
        pending.missed(unserved)


def awaited(groups: list[Group]) -> list[Group]:
    """Leave out the appends that nobody awaits any more."""
    left = [Group(group.partition, [pending for pending in group.members if pending.awaited()]) for group in groups]
    return [group for group in left if group.members]
