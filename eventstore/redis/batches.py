"""Batches of commands, and how they leave: those for one node in one write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    sent = {
        link: link.submit([command for i in mine for command in (*parcels[i].before, *parcels[i].commands)])
        for link, mine in by_link.items()
    }
    outcomes: list[Any] = [None] * len(parcels)
    try:
        for link, mine in by_link.items():
            try:
                replies = iter(await sent[link])
            except LinkLost as lost:
                for i in mine:
                    outcomes[i] = lost
                continue
            for i in mine:
                before = [next(replies) for _ in parcels[i].before]
                outcomes[i] = _explained([next(replies) for _ in parcels[i].commands], before)
    finally:
        for future in sent.values():
            future.cancel()
    return outcomes


def _explained(replies: list[Any], before: list[Any]) -> list[Any]:
    """Let the error of loading a script stand for the script's absence."""
    errors = [reply for reply in before if isinstance(reply, Exception)]
    return [errors[0] if errors and isinstance(reply, NoScriptError) else reply for reply in replies]


def not_executed(outcome: Outcome) -> Exception | None:
    """Return the first error reply that says that a batch was not carried out, in a transaction too."""
    errors = _errors(outcome) if isinstance(outcome, list) else ()
    return next((error for error in errors if isinstance(error, (NoScriptError, *ELSEWHERE_OR_LATER))), None)


def _errors(replies: list[Any]) -> Iterator[Exception]:
    for reply in replies:
        first = reply[0] if isinstance(reply, list) and reply else reply
        if isinstance(first, Exception):
            yield first
