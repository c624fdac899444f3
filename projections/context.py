"""The context view: the present value of each of a session's context keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from eventstore.events import ContextDeleted, ContextSet, RecordedEvent

EVENTS = frozenset({ContextSet, ContextDeleted})
"""What a context is made of."""


class ContextChange(msgspec.Struct, frozen=True):
    """What some events do to a context, whatever it holds: so a fold never has to load it.

    Attributes:
        values: The keys that got a value.
        deleted: The keys that went.
    """

    values: Mapping[str, Any] = {}
    deleted: frozenset[str] = frozenset()

    def apply(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the context after the change."""
        return {key: value for key, value in {**values, **self.values}.items() if key not in self.deleted}


def fold(change: ContextChange, events: Iterable[RecordedEvent]) -> ContextChange:
    """Return the change that some more events make."""
    values, deleted = dict(change.values), set(change.deleted)
    for event in events:
        match event.data:
            case ContextSet(key=key, value=value):
                values[key] = value
                deleted.discard(key)
            case ContextDeleted(key=key):
                values.pop(key, None)
                deleted.add(key)
    return ContextChange(values, frozenset(deleted))
