"""What the demo compares: all that the engine gives back, with the file, and with what it gave before the kill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import anyio
import msgspec

from contextengine import ContextEngine, Session
from demonstration import DemoFailed, counted
from demonstration.input import Conversation
from demonstration.recording import AT_ONCE, ends, events, requests

SHOWN = 10
"""Sessions at most of which a failure says how they differ."""


class Kept(msgspec.Struct, frozen=True):
    """All that the engine gives back of one session."""

    session: Session
    history: Sequence[Mapping[str, Any]]
    context: dict[str, Any]


async def read_all(engine: ContextEngine, session_ids: Sequence[str]) -> dict[str, Kept]:
    """Read everything of all sessions.

    Raises:
        DemoFailed: There is no such session.
    """
    kept: dict[str, Kept] = {}
    at_once = anyio.CapacityLimiter(AT_ONCE)

    async def read(session_id: str) -> None:
        async with at_once:
            session = await engine.get_session(session_id)
            if session is None:
                raise DemoFailed(f"There is no session {session_id!r}.")
            history = await engine.get_conversation_history(session_id, limit=None)
            keys = await engine.list_contexts(session_id)
            context = {key: await engine.get_context(session_id, key) for key in keys}
            kept[session_id] = Kept(session, history, context)

    async with anyio.create_task_group() as tasks:
        for session_id in session_ids:
            tasks.start_soon(read, session_id)
    return {session_id: kept[session_id] for session_id in session_ids}


def require_recorded(conversations: Iterable[Conversation], kept: dict[str, Kept]) -> None:
    """Compare what the engine gives back with the file.

    Raises:
        DemoFailed: Something differs.
    """
    given = {each.session_id: _expected(each, number) for number, each in enumerate(conversations)}
    got = {session_id: _foretold(each) for session_id, each in kept.items()}
    _require_same(given, got, "What was recorded is not what the file holds.")


def require_unchanged(before: dict[str, Kept], after: dict[str, Kept]) -> None:
    """Compare what the engine gives back with what it gave before the kill.

    Raises:
        DemoFailed: Something differs.
    """
    _require_same(before, after, "What is there now is not what was there before the kill.")


def require_originals(kept: Kept, originals: Sequence[Mapping[str, Any]]) -> None:
    """Compare the originals behind a compacted history with the history that was.

    Raises:
        DemoFailed: Something differs.
    """
    session_id = kept.session.session_id
    before, after = {session_id: kept}, {session_id: Kept(kept.session, originals, kept.context)}
    _require_same(before, after, "What stands behind the summary is not what was there before.")


def _require_same(before: dict[str, Kept], after: dict[str, Kept], complaint: str) -> None:
    found = [f"Session {session_id!r} is missing." for session_id in before.keys() - after.keys()]
    found += [f"Session {session_id!r} came from nowhere." for session_id in after.keys() - before.keys()]
    for session_id in before.keys() & after.keys():
        if what := _difference(before[session_id], after[session_id]):
            found.append(f"Session {session_id!r}: {what}.")
    if found:
        raise DemoFailed("\n".join([complaint, *sorted(found)[:SHOWN]]))


def _difference(before: Kept, after: Kept) -> str:
    """Say how a session differs; empty if it does not."""
    if len(before.history) != len(after.history):
        return f"its history had {counted(len(before.history), 'message')} and has {len(after.history)}"
    for place, (old, new) in enumerate(zip(before.history, after.history, strict=True), 1):
        if old != new:
            return f"message {place} was {old!r:.200} and is {new!r:.200}"
    for what, was, now in (("", before.session, after.session), ("context value ", before.context, after.context)):
        for key in [*was, *(now.keys() - was.keys())]:
            if key not in now or key not in was:
                return f"{what}{key!r} is {'missing' if key in was else 'new'}"
            if was[key] != now[key]:
                return f"{what}{key!r} was {was[key]!r:.200} and is {now[key]!r:.200}"
    return ""


def _expected(conversation: Conversation, number: int) -> Kept:
    session = Session(
        user_id=conversation.user_id,
        status="completed" if ends(number) else "active",
        request_count=requests(conversation.messages),
        error_count=0,
        metadata=conversation.metadata,
        message_count=len(conversation.messages),
        version=events(conversation, number),
    )
    return Kept(session, conversation.messages, conversation.context)


def _foretold(kept: Kept) -> Kept:
    """Leave out what a file cannot foretell: the times, and the places in the log."""
    session = _without(kept.session, {"session_id", "created_at", "last_activity", "total_processing_time"})
    history = [_without(message, {"timestamp", "version"}) for message in kept.history]
    return Kept(Session(session), history, kept.context)


def _without(record: Mapping[str, Any], measured: set[str]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in measured}
