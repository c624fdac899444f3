"""Durability levels: what has to have happened to an append before it counts as done."""

from __future__ import annotations

import re
from typing import ClassVar, Self

from eventstore.errors import InvalidInput, shown

MOST_REPLICAS = 1000
_LEVEL = re.compile(r"accepted|fsynced|replicated(?::([1-9][0-9]{0,3}))?")


class Durability(str):
    """The name of a level: ``accepted``, ``fsynced``, ``replicated`` or ``replicated:<replicas>``.

    | level | the events are | a crash that loses them nevertheless |
    |---|---|---|
    | accepted | in the server's memory | of the server, or of its machine, as its ``appendfsync`` says |
    | fsynced | on the server's disk | of the disk; and a replica may take over that lacks them |
    | replicated:n | in the memory of n replicas besides | of all of them; and another replica may take over |

    A plain string serves wherever a level is asked for, and levels are strings.
    """

    __slots__ = ()

    ACCEPTED: ClassVar[Durability]
    FSYNCED: ClassVar[Durability]
    REPLICATED: ClassVar[Durability]

    def __new__(cls, level: object) -> Self:
        """Take a level by its name; ``replicated:1`` is ``replicated``.

        Raises:
            InvalidInput: There is no such level.
        """
        if isinstance(level, cls):
            return level
        found = _LEVEL.fullmatch(level) if isinstance(level, str) else None
        if found is None or int(found[1] or 0) > MOST_REPLICAS:
            raise InvalidInput(
                "durability must be 'accepted', 'fsynced', 'replicated' or 'replicated:<number of replicas, up to "
                f"{MOST_REPLICAS:,}>', not {shown(level)}."
            )
        return super().__new__(cls, "replicated" if found[1] == "1" else found[0])

    @property
    def replicas(self) -> int:
        """How many replicas have to have the events."""
        return int(self.partition(":")[2] or 1) if self.startswith("replicated") else 0


Durability.ACCEPTED = ACCEPTED = Durability("accepted")
Durability.FSYNCED = FSYNCED = Durability("fsynced")
Durability.REPLICATED = REPLICATED = Durability("replicated")


def replicated(replicas: int) -> Durability:
    """Return the level at which so many replicas have the events; accepted for none."""
    return Durability(f"replicated:{replicas}") if replicas else ACCEPTED
