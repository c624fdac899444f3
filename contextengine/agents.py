"""Agents among themselves: conversations of their own, with sender, recipient and kind of message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from contextengine.arguments import dict_of, limit_of, text_of
from contextengine.conversations import Conversations
from contextengine.sessions import Sessions
from eventstore import InvalidInput
from eventstore.errors import shown
from eventstore.ids import check_session_id

MESSAGE_TYPES = frozenset(
    {
        "task_assignment",
        "result_report",
        "collaboration_request",
        "feedback",
        "communication",
        "status_update",
        "error_report",
        "task_completion",
        "progress_update",
        "clarification_request",
    }
)
NEEDED = {
    "user_to_mc": ("user", "master_controller"),
    "mc_to_agent": ("master_controller", "agent"),
    "user_to_agent": ("user", "agent"),
    "agent_to_agent": ("agent", "agent"),
}
"""The types of participants that each type of conversation needs."""


class Agents(Sessions, Conversations):
    """Conversations between agents, each under a session id made from who takes part."""

    async def create_conversation_session(
        self,
        session_id: str,
        participants: Sequence[dict[str, Any]],
        session_type: str,
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Create the session of a conversation between participants, and return its id.

        Args:
            session_id: The session to which the conversation belongs.
            participants: Dicts with ``id``, ``type`` (``user``, ``agent`` or ``master_controller``), ``role`` and
                ``metadata``.
            session_type: ``user_to_mc``, ``mc_to_agent``, ``agent_to_agent`` or ``user_to_agent``.
            metadata: A dict of JSON values.

        Returns:
            The session key: the same participants in the same kind of conversation always have the same one.

        Raises:
            InvalidInput: An argument cannot be accepted.
        """
        check_session_id(session_id)
        if not isinstance(participants, Sequence):
            raise InvalidInput(f"participants must be a list of dicts, not {type(participants).__name__}.")
        people = [dict_of(participant, "a participant") for participant in participants]
        for person in people:
            text_of(person.get("id"), "a participant's id")
            text_of(person.get("type"), "a participant's type")
        session_key = _session_key(session_id, people, text_of(session_type, "session_type"))
        own = {"session_type": session_type, "parent_session": session_id, "participants": people}
        await self.create_session(session_key, metadata={**dict_of(metadata, "metadata"), **own})
        return session_key

    async def add_agent_communication_message(
        self,
        session_key: str,
        sender_id: str,
        sender_type: str,
        sender_role: str | None,
        recipient_id: str,
        recipient_type: str,
        recipient_role: str | None,
        content: Any,
        message_type: str = "communication",
        metadata: dict[str, Any] | None = None,
    ) -> bool:
        """Add a message from one participant to another.

        Returns:
            True: the message is in the log.

        Raises:
            InvalidInput: An argument cannot be accepted.
        """
        if not isinstance(message_type, str) or message_type not in MESSAGE_TYPES:
            known = ", ".join(sorted(MESSAGE_TYPES))
            raise InvalidInput(f"message_type must be one of {known}, not {shown(message_type)}.")
        for name, given in (("sender_role", sender_role), ("recipient_role", recipient_role)):
            if given is not None and not isinstance(given, str):
                raise InvalidInput(f"{name} must be a str or None, not {shown(given)}.")
        own = {
            "sender_id": text_of(sender_id, "sender_id"),
            "sender_type": text_of(sender_type, "sender_type"),
            "sender_role": sender_role,
            "recipient_id": text_of(recipient_id, "recipient_id"),
            "recipient_type": text_of(recipient_type, "recipient_type"),
            "recipient_role": recipient_role,
            "message_type": message_type,
        }
        role = f"{sender_type}_{sender_role}" if sender_role else sender_type
        return await self.add_conversation_message(
            session_key, role, content, metadata={**dict_of(metadata, "metadata"), **own}
        )

    async def get_agent_conversation_history(
        self, session_key: str, limit: int | None = 50, message_types: Collection[str] | None = None
    ) -> list[dict[str, Any]]:
        """Return the newest messages, oldest first, as plain dicts.

        Args:
            session_key: What `create_conversation_session` returned.
            limit: At most so many; 0 or None for all.
            message_types: Only messages of these types; a message without a type counts as ``communication``.
        """
        wanted = limit_of(limit)
        if message_types is not None and (isinstance(message_types, str) or not isinstance(message_types, Collection)):
            raise InvalidInput(f"message_types must be a list of str, not {shown(message_types)}.")
        messages = await self.get_conversation_history(session_key, wanted if message_types is None else None)
        found = [
            message.to_dict()
            for message in messages
            if message_types is None or message.metadata.get("message_type", "communication") in message_types
        ]
        return found if wanted is None else found[-wanted:]


def _session_key(session_id: str, people: Sequence[dict[str, Any]], session_type: str) -> str:
    """Return the session id of a conversation, as the original engine makes it."""
    if session_type not in NEEDED:
        raise InvalidInput(f"session_type must be one of {', '.join(NEEDED)}, not {shown(session_type)}.")
    missing = Counter(NEEDED[session_type]) - Counter(person["type"] for person in people)
    if missing:
        raise InvalidInput(f"A {session_type} conversation lacks participants: {', '.join(missing.elements())}.")
    roles = [str(person.get("role")) for person in people if person["type"] == "agent"]
    between = {
        "user_to_mc": [],
        "mc_to_agent": ["mc_to", *roles[:1]],
        "user_to_agent": ["user_to", *roles[:1]],
        "agent_to_agent": ["_to_".join(roles[:2])],
    }
    return "_".join([session_id, *between[session_type]])
