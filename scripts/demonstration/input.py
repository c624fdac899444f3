"""What the demo records: conversations from a JSONL file, in any of three forms.

A line is one JSON object: a conversation (``{"session_id": ..., "messages": [...]}``), a message
(``{"role": ..., "content": ...}``, the whole file being one session), or a chat line
(``{"author": ..., "content": ..., "channel": ...}``, every channel being one session).

What comes out has been tried against the log's own rules, so recording it will not fail.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from eventstore import ContextSet, Event, InvalidInput, MessageAdded, SessionStarted
from eventstore.codec import encode
from eventstore.ids import check_name, check_session_id

Message: TypeAlias = dict[str, Any]
"""``role``, ``content``, ``metadata``; and ``name``, ``tool_calls`` and ``tool_call_id`` where the message has them."""

EXAMPLES = Path(__file__).resolve().parents[1] / "conversations.jsonl"
SESSIONS = 48
MANY_MESSAGES = 20_000
"""Where nobody says how many sessions, a file is not repeated beyond so many messages: the demo should stay short."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CONVERSATION_FIELDS = frozenset({"session_id", "messages", "user_id", "metadata", "context"})
MESSAGE_FIELDS = ("name", "tool_calls", "tool_call_id")
SAYS_SOMETHING = frozenset({"content", "tool_calls", "function_call"})
AUTHOR = ("author", "user", "name")
TEXT = ("content", "text")
FORMS = (
    'it is neither a conversation ({"session_id": ..., "messages": [...]}), nor a message ({"role": ..., '
    '"content": ...}), nor a chat line ({"author": ..., "content": ...})'
)


class BadInput(ValueError):
    """The file is not what the demo can record; the message names the line."""


class Conversation(msgspec.Struct, frozen=True):
    """What is to be recorded as one session."""

    session_id: str
    messages: list[Message]
    user_id: str | None = None
    metadata: dict[str, Any] = {}
    context: dict[str, Any] = {}


def read(path: Path, sessions: int | None) -> list[Conversation]:
    """Return so many conversations of a file; by default all of them, and at least 48 unless they are long.

    Raises:
        BadInput: The file cannot be read, or holds something else than conversations.
    """
    try:
        conversations = parse(path.read_bytes(), path.stem)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except BadInput as error:
        raise BadInput(f"{path}, {str(error).rstrip('.')}.") from error
    if sessions is None:
        messages = sum(len(conversation.messages) for conversation in conversations)
        copies = MANY_MESSAGES // max(1, messages)
        sessions = max(len(conversations), min(SESSIONS, copies * len(conversations)))
    return repeated(conversations, sessions)


def parse(content: bytes, name: str) -> list[Conversation]:
    """Return the conversations of a file, in the order in which they begin.

    Args:
        content: JSONL in UTF-8; empty lines are passed over.
        name: The file's name without its ending: the session of lines that name none.

    Raises:
        BadInput: A line is not JSON, is in none of the three forms, or cannot be stored; or there is no line.
    """
    sessions: dict[str, Conversation] = {}
    # Not splitlines(): a JSON string may hold what that takes for the end of a line.
    for number, line in enumerate(content.removeprefix(BYTE_ORDER_MARK).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            _take(sessions, _object(line), name, number)
        except (BadInput, InvalidInput) as error:
            raise BadInput(f"line {number}: {error}") from error
    if not sessions:
        raise BadInput("there is no conversation in it")
    return list(sessions.values())


def repeated(conversations: Sequence[Conversation], count: int) -> list[Conversation]:
    """Return so many conversations: the first ones or, where there are fewer, all of them again under other ids."""
    chosen = list(conversations[:count])
    taken = {conversation.session_id for conversation in conversations}
    while len(chosen) < count:
        copies, index = divmod(len(chosen), len(conversations))
        session_id = f"{conversations[index].session_id}~{copies + 1}"
        while session_id in taken:
            session_id += "~"
        taken.add(session_id)
        chosen.append(msgspec.structs.replace(conversations[index], session_id=session_id))
    return chosen


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode())
    except json.JSONDecodeError as error:
        raise BadInput(f"it is not JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"it is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput(FORMS)
    return value


def _take(sessions: dict[str, Conversation], given: dict[str, Any], name: str, number: int) -> None:
    """Add what one line holds to the sessions."""
    if "messages" in given:
        conversation = _conversation(given, f"{name}-{number}")
        if conversation.session_id in sessions:
            raise BadInput(f"an earlier line is the session {conversation.session_id!r} already")
        sessions[conversation.session_id] = conversation
    elif "role" in given and SAYS_SOMETHING & given.keys():
        _session(sessions, name).messages.append(_message(given))
    elif (author := _first(given, AUTHOR)) and (text := _first(given, TEXT)):
        others = {key: value for key, value in given.items() if key not in {author, text, "channel", "metadata"}}
        metadata = others | _dict(given, "metadata")
        said = {"role": "user", "content": given[text], "name": _text(given[author], author), "metadata": metadata}
        channel = given.get("channel")
        session_id = name if channel is None else _text(channel, "channel")
        _session(sessions, session_id).messages.append(_message(said))
    else:
        raise BadInput(FORMS)


def _session(sessions: dict[str, Conversation], session_id: str) -> Conversation:
    check_session_id(session_id)
    return sessions.setdefault(session_id, Conversation(session_id, []))


def _conversation(given: dict[str, Any], default_id: str) -> Conversation:
    session_id = _text(given.get("session_id", default_id), "session_id")
    check_session_id(session_id)
    user_id = None if given.get("user_id") is None else _text(given["user_id"], "user_id")
    if user_id is not None:
        check_name(user_id, "user id")
    if not isinstance(given["messages"], list):
        raise BadInput('"messages" must be a list')
    messages = []
    for place, message in enumerate(given["messages"], 1):
        if not isinstance(message, dict) or "role" not in message:
            raise BadInput(f'message {place}: it must be an object with a "role"')
        try:
            messages.append(_message(message))
        except (BadInput, InvalidInput) as error:
            raise BadInput(f"message {place}: {error}") from error
    others = {key: value for key, value in given.items() if key not in CONVERSATION_FIELDS}
    metadata = others | _dict(given, "metadata")
    _check(SessionStarted(user_id, metadata))
    context = _dict(given, "context")
    for key, value in context.items():
        check_name(key, "context key")
        _check(ContextSet(key, value))
    return Conversation(session_id, messages, user_id, metadata, context)


def _message(given: Mapping[str, Any]) -> Message:
    """Return a message as the engine will give it back: keys that it does not know are in the metadata."""
    message = {"role": given["role"], "content": given.get("content")}
    if not isinstance(message["role"], str) or not message["role"]:
        raise BadInput('"role" must be a text')
    others = {key: value for key, value in given.items() if key not in {*message, "metadata", *MESSAGE_FIELDS}}
    message["metadata"] = others | _dict(given, "metadata")
    message |= {key: given[key] for key in MESSAGE_FIELDS if given.get(key) is not None}
    _check(MessageAdded(**message))
    return message


def _check(event: Event) -> None:
    """Refuse what the log would refuse."""
    encode("", event, None)


def _first(given: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return next((key for key in keys if key in given), None)


def _text(value: object, name: str) -> str:
    """Return a name: a text, or a whole number as one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise BadInput(f'"{name}" must be a text')
    return value


def _dict(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = given.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadInput(f'"{name}" must be an object')
    return value
