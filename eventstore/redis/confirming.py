"""How a server confirms that what a connection has written reached a durability level.

WAITAOF alone proves no fsync where ``appendfsync`` is ``everysec``: servers (Redis 7.2 and 7.4, Valkey up to 9.1)
answer it as soon as everything has been handed to the operating system (redis/redis#13793). So it is taken for just
that, and the fsync is waited for: it begins within a second, and the server tells when none is under way.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from eventstore.durability import ACCEPTED, FSYNCED, Durability, replicated
from eventstore.errors import ServerUnfit
from eventstore.redis.commands import Command, refusal
from eventstore.redis.link import Link, LinkLost
from eventstore.redis.links import Links
from eventstore.redis.topology import OneServer

SHARE = 0.24
"""Of a call's time, so much the server may wait: twice that is still less than a link waits for a cluster's node."""
FSYNC_BEGINS = 1.2
"""Seconds after which a server with ``everysec`` is due to fsync what it had written: one, and its clock's tick."""
POLL = 0.005
_FSYNCS = re.compile(rb"aof_pending_bio_fsync:(\d+)")
_ASK_SETTINGS: Command = ("CONFIG", "GET", "*append*")
"""Matches ``appendonly``, ``appendfsync`` and ``no-appendfsync-on-rewrite``."""


class Confirmed(NamedTuple):
    """What a server confirmed.

    Attributes:
        wanted: The level that was asked for.
        reached: The highest one that is known to be reached.
        why: Why that is not the one that was wanted.
    """

    wanted: Durability
    reached: Durability
    why: str = ""


class Confirmation(NamedTuple):
    """What is said behind appends, on their own connection, to learn whether they have reached a level.

    Attributes:
        durability: The level.
        command: WAIT or WAITAOF, which answer for all that the connection has written before. Where the server knows no
            WAITAOF: a look at its settings, for one that has ``appendfsync always`` writes to disk before it answers.
        seconds: How long the server waits.
    """

    durability: Durability
    command: Command
    seconds: float

    @property
    def waits_for_fsync(self) -> bool:
        """Whether what the server confirms has still to be fsynced."""
        return self.command[0] == "WAITAOF"

    def confirmed(self, reply: Any) -> Confirmed:
        """Return what the server's reply to the command means."""
        wanted = self.durability
        if isinstance(reply, Exception):
            why = f"the server answered {reply}" if str(reply) else f"no fsync ended within {self.seconds:g} s"
            return Confirmed(wanted, ACCEPTED, why)
        if self.command is _ASK_SETTINGS:
            why = _not_always(_parsed(reply))
            return Confirmed(wanted, ACCEPTED, why) if why else Confirmed(wanted, wanted)
        if wanted == FSYNCED:
            written = "only handed to the operating system" if reply[0] else "not even written to its file"
            return Confirmed(wanted, ACCEPTED, f"what the server has is {written} after {self.seconds:g} s")
        if reply >= wanted.replicas:
            return Confirmed(wanted, wanted)
        return Confirmed(wanted, replicated(reply), f"{reply} replica(s) had the events within {self.seconds:g} s")


async def fsynced(link: Link, confirmation: Confirmation) -> None:
    """Wait until what a server has written to its file, as WAITAOF says, is on the disk.

    Raises:
        LinkLost: The connection broke, so it may be another server by now.
        TimeoutError: It took too long.
        StoreRefused: The server does not tell.
    """
    epoch = link.epoch
    (settings,) = await link.submit([_ASK_SETTINGS])
    if isinstance(settings, Exception) or _not_always(_parsed(settings)):
        await asyncio.sleep(FSYNC_BEGINS)
        async with asyncio.timeout(confirmation.seconds):
            # Twice in a row: after the first time, the server has begun the fsync that an earlier one may have put off.
            idle = 0
            while idle < 2:  # noqa: PLR2004 - see above
                found = _FSYNCS.search(await link.call("INFO", "persistence"))
                idle = idle + 1 if found and found[1] == b"0" else 0
                await asyncio.sleep(0 if idle else POLL)
    if link.epoch != epoch:
        raise LinkLost("it was made anew", sent=True, epoch=link.epoch)


async def confirmation_for(links: Links, durability: Durability) -> Confirmation:
    """Find out how the servers confirm a level.

    Raises:
        ServerUnfit: One cannot reach it, or does not tell. The message says what to set.
        StoreUnavailable: One does not answer.
        NotPermitted: One does not let this user wait.
    """
    seconds = SHARE * links.timeout
    milliseconds = max(1, round(seconds * 1000))
    if durability == FSYNCED:
        able = await _of_each(links, _waits_for_disk)
        command: Command = ("WAITAOF", 1, 0, milliseconds) if all(able) else _ASK_SETTINGS
    else:
        await _of_each(links, _waits_for_replicas)
        command = ("WAIT", durability.replicas, milliseconds)
    return Confirmation(durability, command, seconds)


async def _of_each(links: Links, ask: Callable[[Link], Awaitable[bool]]) -> list[bool]:
    async def ask_all() -> list[bool]:
        return await asyncio.gather(*(ask(links.to(node)) for node in links.topology.nodes))

    return await (ask_all() if isinstance(links.topology, OneServer) else links.patiently(ask_all))


async def _waits_for_replicas(link: Link) -> bool:
    """Make sure that WAIT is allowed."""
    await link.call("WAIT", 0, 1)
    return True


async def _waits_for_disk(link: Link) -> bool:
    """Whether a server has WAITAOF; if not, it writes everything to disk before it answers, or is refused."""
    waited, found = await link.submit([("WAITAOF", 1, 0, 1), _ASK_SETTINGS])
    settings = None if isinstance(found, Exception) else _parsed(found)
    if "appendonly" in str(waited) or (settings and settings.get("appendonly") != "yes"):
        raise ServerUnfit(
            "The server writes no append-only file, so nothing can be 'fsynced': run CONFIG SET appendonly yes, and "
            "set it in the server's configuration file."
        )
    if settings and settings.get("appendfsync") == "no":
        raise ServerUnfit(
            "The server's appendfsync is 'no', so nobody knows when something is 'fsynced': "
            "run CONFIG SET appendfsync always (or everysec, where the server has WAITAOF)."
        )
    if not isinstance(waited, Exception):
        return True
    if settings is None:
        raise ServerUnfit(
            f"It cannot be told whether something is 'fsynced': the server has no WAITAOF for this user ({waited}), "
            f"and does not tell its settings ({found}). WAITAOF comes with Redis 7.2 and Valkey."
        ) from refusal(waited)
    if why := _not_always(settings):
        raise ServerUnfit(
            f"Nothing can be 'fsynced' here: {why}, and it has no WAITAOF for this user, which comes with Redis 7.2 "
            "and Valkey. Run CONFIG SET appendfsync always, and set it in the server's configuration file."
        )
    return False


def _not_always(settings: dict[str, str]) -> str:
    """Return why a server may answer before it has written to disk; nothing if it does not."""
    for name, needed in (("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")):
        if settings.get(name) != needed:
            return f"the server's {name} is {settings.get(name)!r}"
    return ""


def _parsed(found: list[bytes]) -> dict[str, str]:
    words = [word.decode() for word in found]
    return dict(zip(words[::2], words[1::2], strict=True))
