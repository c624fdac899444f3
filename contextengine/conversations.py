"""The engine's conversations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from contextengine.arguments import dict_of, joined, limit_of, text_of
from contextengine.formatting import check_format, formatted
from contextengine.runtime import Open
from contextengine.values import Message
from eventstore import HistoryCleared, HistoryRewound, InvalidInput, MessageAdded
from eventstore.errors import shown
from projections.history import History, message_of

FIELDS = frozenset({"role", "content", "metadata", "name", "tool_calls", "tool_call_id"})


class _Usual(int):
    """A number that nobody has passed, but that stands where nobody has passed one."""


NEWEST = _Usual(50)
"""So many messages a reader gets who does not say how many it wants."""


class Conversations(Open):
    """Conversations: messages in, the newest of them out."""

    async def add_conversation_message(
        self,
        session_id: str,
        role: str,
        content: Any,
        metadata: dict[str, Any] | None = None,
        *,
        name: str | None = None,
        tool_calls: list[Any] | None = None,
        tool_call_id: str | None = None,
        durability: str | None = None,
    ) -> bool:
        """Add a message to a session's conversation. A session that does not exist begins with it.

        Args:
            session_id: The session.
            role: ``user``, ``assistant``, ``system``, ``tool`` ...
            content: Any JSON value: a text, a list of parts, None beside tool calls.
            metadata: A dict of JSON values.
            name: As in an OpenAI message.
            tool_calls: As in an OpenAI message.
            tool_call_id: As in an OpenAI message.
            durability: The level to wait for, if not the engine's; see `Durability`.

        Returns:
            True: the message is in the log.

        Raises:
            InvalidInput: An argument cannot be accepted.
            DurabilityNotReached: The message is in the log, and perhaps not as safe as was asked for.
            ContextEngineError: The message was not stored; the subclass says why.
        """
        message = MessageAdded(
            text_of(role, "role"), content, dict_of(metadata, "metadata"), name, tool_calls, tool_call_id
        )
        await self._here().append(session_id, message, durability=durability)
        return True

    async def add_conversation_messages(
        self, session_id: str, messages: Iterable[Mapping[str, Any]], *, durability: str | None = None
    ) -> bool:
        """Add several messages at once, all or none, 1,000 at most.

        Args:
            session_id: The session.
            messages: Dicts in the form of OpenAI messages, with ``metadata`` if you like. Keys that are none of a
                message's fields are kept in its metadata, where they must not mean something else.
            durability: The level to wait for, if not the engine's; see `Durability`.

        Returns:
            True: the messages are in the log.

        Raises:
            InvalidInput: A message cannot be accepted. None was added.
            DurabilityNotReached: The messages are in the log, and perhaps not as safe as was asked for.
        """
        if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable):
            raise InvalidInput(f"messages must be a list of dicts, not {type(messages).__name__}.")
        await self._here().append(session_id, *[_message(message) for message in messages], durability=durability)
        return True

    async def get_conversation_history(
        self,
        session_id: str,
        limit: int | None = NEWEST,
        *,
        include_compacted: bool = False,
        at_version: int | None = None,
        at: datetime | None = None,
    ) -> list[Message]:
        """Return the newest messages of the current history, oldest first. An unknown session has none.

        Where a compaction has put a summary in the place of older messages, it is the first, whatever the limit.

        Args:
            session_id: The session.
            limit: At most so many, a summary included; 0 or None for all. By default 50, or all originals.
            include_compacted: Return the originals instead, as if nothing had ever been compacted.
            at_version: The history as it was at this version of the session's log (0: before its first event) ...
            at: ... or at this time, by the server's clock; naive means UTC, a time to come means now.

        Raises:
            InvalidInput: An argument cannot be accepted, or the session has not come to that version yet.
            StoreUnavailable: The server does not answer. (An empty list always means an empty history.)
        """
        last = limit_of(None if limit is NEWEST and include_compacted else limit)
        if at_version is not None or at is not None:
            then = await self._past(session_id, at_version, at, originals=include_compacted)
            history = then.history if then.originals is None else History(then.originals)
            messages = history.newest(last)
        elif include_compacted:
            return await self._originals(session_id, last)
        else:
            messages = await self._here().queries.history(session_id, last)
        return [Message(message) for message in messages]

    async def format_conversation_history(
        self,
        session_id: str,
        format: str = "messages",  # noqa: A002 - the name that users know
        limit: int | None = NEWEST,
    ) -> Any:
        """Return the newest messages in a shape that prompts take.

        Args:
            session_id: The session.
            format: ``messages``, ``string`` (one text) or ``dict`` (plain dicts); see `contextengine.formatting`.
            limit: At most so many; 0 or None for all.

        Raises:
            InvalidInput: An argument cannot be accepted.
        """
        check_format(format)
        return formatted(await self.get_conversation_history(session_id, limit), format)

    async def _originals(self, session_id: str, newest: int | None) -> list[Message]:
        """Return the messages since the history was last cleared, but for those that were undone, from the log."""
        found: list[Message] = []
        undone = 0
        async for event in self._here().store.read(session_id, backwards=True):
            if isinstance(event.data, HistoryCleared) or len(found) == newest:
                break
            if isinstance(event.data, HistoryRewound):
                undone += event.data.removed
            elif isinstance(event.data, MessageAdded) and undone:
                undone -= 1
            elif isinstance(event.data, MessageAdded):
                found.append(Message(message_of(event)))
        return found[::-1]


def _message(given: Mapping[str, Any]) -> MessageAdded:
    if (type(given) is not dict and not isinstance(given, Mapping)) or "role" not in given:
        raise InvalidInput(f"A message must be a dict with a 'role', not {shown(given)}.")
    metadata = dict_of(given.get("metadata"), "metadata")
    if not FIELDS.issuperset(given):
        metadata = joined({key: value for key, value in given.items() if key not in FIELDS}, metadata)
    return MessageAdded(
        role=text_of(given["role"], "role"),
        content=given.get("content"),
        metadata=metadata,
        name=given.get("name"),
        tool_calls=given.get("tool_calls"),
        tool_call_id=given.get("tool_call_id"),
    )
