"""The checkpoint view: the checkpoints of a thread, and the writes beside each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from eventstore.events import CheckpointStored, CheckpointWritesStored, RecordedEvent
from projections.history import time_of

Checkpoint: TypeAlias = dict[str, Any]
"""``checkpoint_id``, ``thread_id``, ``data``, ``metadata``, ``created_at`` (naive UTC, ISO 8601), ``version``."""

Writes: TypeAlias = dict[str, Any]
"""``task_id``, ``writes`` (a list), ``version``."""

EVENTS = frozenset({CheckpointStored, CheckpointWritesStored})
"""What checkpoints are made of."""


class CheckpointChange(msgspec.Struct, frozen=True):
    """What some events do to the checkpoints of a thread, whatever there are: so a fold never has to load them.

    Attributes:
        stored: The checkpoints that were stored, the last one of each id, oldest first.
        writes: The writes that were stored, the last ones of each checkpoint and task.
    """

    stored: Mapping[str, Checkpoint] = {}
    writes: Mapping[tuple[str, str], Writes] = {}

    def newest(self, stored: Sequence[Checkpoint], limit: int | None) -> list[Checkpoint]:
        """Return the newest checkpoints after the change, newest first, given the newest before it."""
        kept = [checkpoint for checkpoint in stored if checkpoint["checkpoint_id"] not in self.stored]
        return [*reversed(list(self.stored.values())), *kept][:limit]

    def writes_of(self, checkpoint_id: str, stored: Sequence[Writes]) -> list[Writes]:
        """Return the writes of a checkpoint after the change, in the order in which they were stored."""
        by_task = {writes["task_id"]: writes for writes in stored}
        by_task |= {task: writes for (owner, task), writes in self.writes.items() if owner == checkpoint_id}
        return sorted(by_task.values(), key=lambda writes: writes["version"])


def fold(change: CheckpointChange, events: Iterable[RecordedEvent]) -> CheckpointChange:
    """Return the change that some more events make."""
    stored, all_writes = dict(change.stored), dict(change.writes)
    for event in events:
        match event.data:
            case CheckpointStored(checkpoint_id=checkpoint_id, data=data, metadata=metadata):
                stored.pop(checkpoint_id, None)
                stored[checkpoint_id] = {
                    "checkpoint_id": checkpoint_id,
                    "thread_id": event.session_id,
                    "data": data,
                    "metadata": metadata,
                    "created_at": time_of(event),
                    "version": event.version,
                }
            case CheckpointWritesStored(checkpoint_id=checkpoint_id, task_id=task_id, writes=writes):
                all_writes[checkpoint_id, task_id] = {"task_id": task_id, "writes": writes, "version": event.version}
    return CheckpointChange(stored, all_writes)
