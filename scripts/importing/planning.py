"""What the events of a stream are to be, given what the original holds under its id.

Their order: the start, the task context, the checkpoints and writes, the messages, and at last what the session has
come to. So the last event bears the session's last activity, which is what our session view shows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

from contextengine.contexts import TASK
from eventstore import ContextSet, Event, InvalidInput, SessionEnded, SessionStarted, SessionUpdated
from eventstore.ids import check_name
from importing import Planned, Refused
from importing.conversations import Conversation
from importing.parsing import AgentsConversation, Session, counters, parse, require_same, utc
from importing.source import Held, Source
from importing.threads import thread_events
from projections.session import ACTIVE

ENDS = frozenset({"completed", "failed", "expired", "cleared"})
"""The statuses with which sessions end. The original lets a status be any word: another one is kept, and its session
is not taken for ended. A session that was ``cleared`` keeps its messages, as it does in the original."""


async def events_of(source: Source, session_id: str, held: Held) -> AsyncIterator[Planned]:
    """Give the events of a stream in the order of their versions, reading the source meanwhile.

    Args:
        source: The original's Redis.
        session_id: The stream.
        held: What the source holds under its id.

    Raises:
        Refused: Something of it cannot be imported.
    """
    records = _Records(session_id, held)
    conversation = await Conversation.look(source, session_id, held.messages)
    began = records.began or conversation.began
    if records.exist:
        started = SessionStarted(records.user_id, records.metadata, occurred_at=began)
        yield Planned(started, records.key)
    if records.task is not None:
        yield Planned(ContextSet(TASK, records.task, occurred_at=began), records.task_key)
    if held.checkpoints or held.writes:
        async for planned in thread_events(source, session_id):
            yield planned
    async for planned in conversation.events():
        yield planned
    for event in records.outcome():
        yield Planned(event, records.key)


class _Records:
    """The three records of a session: its own, that of the agents' conversation of its id, and the task context."""

    def __init__(self, session_id: str, held: Held) -> None:
        own_key, agents_key = f"sessions[{session_id}]", f"conversation_sessions[{session_id}]"
        self.task_key = f"task_contexts[{session_id}]"
        self.key = agents_key if held.session is None else own_key
        self._own = None if held.session is None else parse(Session, held.session, own_key)
        self._agents = None if held.agents is None else parse(AgentsConversation, held.agents, agents_key)
        self.task = None if held.task_context is None else parse(dict[str, Any], held.task_context, self.task_key)
        if self._own is not None:
            require_same(self._own.session_id, session_id, own_key)
            for name in (self._own.user_id or ACTIVE, self._own.status):
                _check_name(name, own_key)

    @property
    def exist(self) -> bool:
        """Whether somebody created the session, or the agents' conversation."""
        return bool(self._own or self._agents)

    @property
    def user_id(self) -> str | None:
        """Whose session it is; the original has empty names, too, and means nobody."""
        return (self._own and self._own.user_id) or None

    @property
    def metadata(self) -> dict[str, Any]:
        """What `create_session` was given, which the original keeps in the task context; and who talks to whom."""
        given = self.task.get("metadata") if self.task else None
        metadata: dict[str, Any] = given if isinstance(given, dict) else {}
        return metadata | (_about(self._agents) if self._agents else {})

    @property
    def began(self) -> datetime | None:
        """When the session was created, as far as the records know."""
        created = self._own or self._agents
        return utc(created.created_at, self.key) if created else None

    def outcome(self) -> Iterator[Event]:
        """Give what the session has come to, as its own record has it; if it has none, when the agents last spoke."""
        if self._own is not None:
            status, active = self._own.status, utc(self._own.last_activity, self.key)
            changes = {} if status in {ACTIVE, *ENDS} else {"status": status}
            yield SessionUpdated(*counters(self._own, self.key), changes, occurred_at=active)
            if status in ENDS:
                yield SessionEnded(status, occurred_at=active)
        elif self._agents is not None:
            yield SessionUpdated(occurred_at=utc(self._agents.last_activity, self.key))


def _about(agents: AgentsConversation) -> dict[str, Any]:
    """Return an agents' conversation as the metadata that `contextengine.agents` gives its session."""
    participants = [
        {"id": each.participant_id, "type": each.participant_type, "role": each.participant_role}
        | {"metadata": each.metadata or {}}
        for each in agents.participants
    ]
    about = {"session_type": agents.session_type, "parent_session": agents.session_id, "participants": participants}
    return (agents.metadata or {}) | about


def _check_name(name: str, key: str) -> None:
    try:
        check_name(name, "user id or status")
    except InvalidInput as error:
        raise Refused(key, str(error)) from None
