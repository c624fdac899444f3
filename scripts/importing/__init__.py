"""From the Redis layout of the original ContextEngine (aiecs 2.2.0) to events of our log.

One stream of events is made of all that the original keeps under one id: a session, its conversation, its task
context, the agents' conversation and the workflow's thread of that id. What is read where:

| original key | is | becomes |
|---|---|---|
| ``sessions`` | hash of session id to JSON | `SessionStarted`, `SessionUpdated` with the counters, `SessionEnded` |
| ``conversation_sessions`` | hash of session key to JSON | metadata of `SessionStarted`, as our agents make it |
| ``task_contexts`` | hash of session id to JSON | the task context; its ``metadata`` is that of `SessionStarted`, too |
| ``checkpoints:<thread>`` | hash of checkpoint id to JSON | `CheckpointStored`, by time |
| ``checkpoint_writes:<thread>`` | hash of ``<checkpoint>:<task>`` to JSON | `CheckpointWritesStored`, by time |
| ``conversation:<session id>`` | list of JSON, see `importing.ordering` | `MessageAdded`, oldest first |

Every event bears its original time as ``occurred_at`` and the meta `MARK`. A stream is imported wholly or refused by
name, and the next one is taken up. Nothing is kept of the progress but the target's log itself: what it holds already
is compared with what the source says, and what is missing is appended, at the version at which it must stand. So an
import that was killed is simply run again.
"""

from __future__ import annotations

import msgspec

from eventstore import Event

MARK = {"imported_from": "aiecs"}
"""The meta of every imported event."""


class Refused(Exception):
    """Something of the source cannot be imported.

    Attributes:
        key: Where it stands: a Redis key, with a field or an index where that helps.
        reason: What is wrong with it, in a sentence.
    """

    def __init__(self, key: str, reason: str) -> None:
        """Say where and why."""
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


class Planned(msgspec.Struct, frozen=True):
    """An event that is to stand in the target, and where in the source it comes from."""

    event: Event
    key: str


class Counts(msgspec.Struct):
    """How much of each kind."""

    sessions: int = 0
    messages: int = 0
    checkpoints: int = 0
    writes: int = 0
    contexts: int = 0

    def add(self, other: Counts) -> None:
        """Count these as well."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
