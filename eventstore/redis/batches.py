"""Batches of commands, and how they leave: those for one node in one write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from redis.exceptions import NoScriptError

from eventstore.redis.commands import ELSEWHERE_OR_LATER, Argument, Command, Script, Unserved
from eventstore.redis.link import Link, LinkLost


class Batch(NamedTuple):
    """Commands that leave together, nothing between them, for the node that serves a key.

    Attributes:
        key: One of theirs; all live in its slot.
        commands: The commands.
        script: The script that they call, if they call one.
    """

    key: bytes
    commands: Sequence[Command]
    script: Script | None = None


NOT_EXECUTED = (NoScriptError, *ELSEWHERE_OR_LATER)
"""Error replies that say that nothing was carried out, and that it may be when it is sent again."""

Outcome: TypeAlias = list[Any] | Unserved
"""What became of a batch: its replies, error replies among them; or why it has to be sent again."""


def call_of(script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> Batch:
    """Return the call of a script, for the node that serves its first key."""
    return Batch(keys[0], [("EVALSHA", script.sha, len(keys), *keys, *arguments)], script)


class Parcel(NamedTuple):
    """Commands on a link, and what has to be said before them."""

    link: Link
    commands: Sequence[Command]
    before: Sequence[Command] = ()


async def exchange(parcels: Sequence[Parcel]) -> list[Outcome]:
    """Send parcels, those of one link in one write, and return the replies of each."""
    by_link: dict[Link, list[int]] = {}
    for i, parcel in enumerate(parcels):
        by_link.setdefault(parcel.link, []).append(i)
    sent = [
        link.submit([command for i in mine for command in (*parcels[i].before, *parcels[i].commands)])
        for link, mine in by_link.items()
    ]
    outcomes: list[Any] = [None] * len(parcels)
    try:
        for future, mine in zip(sent, by_link.values(), strict=True):
            try:
                replies = await future
            except LinkLost as lost:
                for i in mine:
                    outcomes[i] = lost
                continue
            at = 0
            for i in mine:
                _, commands, before = parcels[i]
                begin, at = at + len(before), at + len(before) + len(commands)
                outcomes[i] = replies[begin:at]
                if before:
                    outcomes[i] = _explained(outcomes[i], replies[begin - len(before) : begin])
    finally:
        for future in sent:
            future.cancel()
    return outcomes


def not_executed(outcome: Outcome) -> Exception | None:
    """Return the first error reply that says that a batch was not carried out, in a transaction too."""
    if isinstance(outcome, list):
        for reply in outcome:
            first = reply[0] if isinstance(reply, list) and reply else reply
            if isinstance(first, NOT_EXECUTED):
                return first
    return None


def _explained(replies: list[Any], before: list[Any]) -> list[Any]:
    """Let the error of loading a script stand for the script's absence."""
    errors = [reply for reply in before if isinstance(reply, Exception)]
    return [errors[0] if errors and isinstance(reply, NoScriptError) else reply for reply in replies]
