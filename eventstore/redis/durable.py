"""Appends that are to be more than accepted: they leave over links of their own, and the server says what they reached.

WAIT and WAITAOF answer for what their own connection has written, and hold up whatever comes behind them there. So each
level has links of its own, and appends leave in batches: their script calls, then one command that waits for all of
them. What comes meanwhile leaves together when that has been answered. An append whose reply was lost is sent again
with what waits for it behind it; where the script finds it there already, it writes its head again, so that the wait
covers it on whichever connection it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from eventstore.durability import Durability
from eventstore.errors import StoreRefused
from eventstore.redis.appender import APPEND, Appender, Group, awaited, each, note
from eventstore.redis.batches import Batch, Parcel, exchange
from eventstore.redis.commands import Unserved
from eventstore.redis.confirming import Confirmation, Confirmed, confirmation_for, fsynced
from eventstore.redis.keys import Keys
from eventstore.redis.link import Link, LinkLost
from eventstore.redis.links import Links, load
from eventstore.redis.nodes import PerLoop


class DurableAppender(Appender):
    """Sends the appends of one event loop that are to reach one level."""

    def __init__(self, links: Links, keys: Keys, confirmation: Confirmation) -> None:
        """Belong to the running event loop, and have the links for oneself."""
        super().__init__(links, keys)
        self._confirmation = confirmation
        self._held: dict[Link, list[Group]] = {}
        """What waits until a link's last batch has been answered; a link is here while it is waiting for one."""

    def _leave(self, link: Link, groups: list[Group], epoch: int) -> None:
        if link in self._held:
            self._held[link] += groups
            return
        self._held[link] = []
        commands = [*map(self._command, groups), self._confirmation.command]
        link.send(commands, partial(self._answered, link, groups, epoch))
        link.flush()

    def _answered(self, link: Link, groups: list[Group], epoch: int, outcome: list[Any] | LinkLost) -> None:
        if isinstance(outcome, list) and self._confirmation.waits_for_fsync:
            task = self._loop.create_task(self._fsynced(link, groups, epoch, outcome), name="contextengine-fsync")
            self._resending.add(task)
            task.add_done_callback(self._resending.discard)
        else:
            self._over(link, groups, epoch, outcome)

    async def _fsynced(self, link: Link, groups: list[Group], epoch: int, outcome: list[Any]) -> None:
        try:
            proved = await self._proved(link, outcome)
        except asyncio.CancelledError:
            lost = LinkLost("the event loop ended", sent=True, epoch=epoch)
            note(groups, lost)
            for pending in each(groups):
                pending.fail(lost)
            raise
        self._over(link, groups, epoch, proved)

    async def _proved(self, link: Link, outcome: list[Any]) -> list[Any] | LinkLost:
        """Return replies when what they tell of is on the disk, and that it is; or why that is not known."""
        *replies, waited = outcome
        if isinstance(waited, Exception) or not waited[0]:
            return outcome
        try:
            await fsynced(link, self._confirmation)
        except Unserved as lost:
            return LinkLost(str(lost), sent=True, epoch=link.epoch)
        except (TimeoutError, StoreRefused) as error:
            return [*replies, error]
        return [*replies, Confirmed(self._confirmation.durability, self._confirmation.durability)]

    def _over(self, link: Link, groups: list[Group], epoch: int, outcome: list[Any] | LinkLost) -> None:
        held = awaited(self._held.pop(link))
        if held:
            self._leave(link, held, self._links.epoch)
        self._settle_first(groups, epoch, outcome)

    async def _try_again(self, groups: list[Group]) -> tuple[list[Group], Unserved | None]:
        """Send groups once more, those for one node before one wait, and the script before them."""
        epoch = self._forget_old_epochs()
        by_link: dict[Link, list[Group]] = {}
        for group in groups:
            by_link.setdefault(self._link_of(group), []).append(group)
        parcels = [
            Parcel(link, [*map(self._command, mine), self._confirmation.command], [load(APPEND)])
            for link, mine in by_link.items()
        ]
        left: list[Group] = []
        elsewhere: list[Group] = []
        why = None
        for (link, mine), answered in zip(by_link.items(), await exchange(parcels), strict=True):
            outcome = answered
            if isinstance(answered, list) and self._confirmation.waits_for_fsync:
                outcome = await self._proved(link, answered)
            if isinstance(outcome, Unserved):
                note(mine, outcome)
                left += mine
                why = outcome
            else:
                elsewhere += self._settle(mine, outcome, epoch)
        if elsewhere:  # slots are moving: each group finds its own way
            still, unserved = await super()._try_again(elsewhere)
            return left + still, why or unserved
        return left, why

    def _batch(self, group: Group) -> Batch:
        batch = super()._batch(group)
        return batch._replace(commands=[*batch.commands, self._confirmation.command])

    def _settle(self, groups: list[Group], replies: Sequence[Any], epoch: int) -> list[Group]:
        *replies, reply = replies
        if isinstance(reply, Exception) and str(reply).startswith("UNBLOCKED"):
            # The server stopped being a primary while it was waiting: what it had taken, its successor may lack.
            lost = LinkLost(str(reply), sent=True, epoch=self._links.epoch)
            for pending in each(groups):
                pending.missed(lost)
            return groups
        confirmed = reply if isinstance(reply, Confirmed) else self._confirmation.confirmed(reply)
        for pending in each(groups):
            pending.confirmed = confirmed
        return super()._settle(groups, replies, epoch)


class Levels:
    """The appenders of each level above ``accepted`` that has been asked for."""

    def __init__(self, links: Links, keys: Keys) -> None:
        """Make none yet."""
        self._links = links
        self._keys = keys
        self._appenders: dict[Durability, tuple[Links, PerLoop[DurableAppender]]] = {}

    async def appender(self, durability: Durability) -> Appender:
        """Return the running loop's appender of a level. The first time, it raises as `confirmation_for` does."""
        if durability not in self._appenders:
            confirmation = await confirmation_for(self._links, durability)
            links = self._links.apart()
            appenders = PerLoop(partial(DurableAppender, links, self._keys, confirmation))
            self._appenders.setdefault(durability, (links, appenders))
        return self._appenders[durability][1].here()

    async def aclose(self) -> None:
        """Close the links."""
        for links, _ in self._appenders.values():
            await links.aclose()
