"""A session's log as what the report shows. Pure, but for reading the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from eventstore.codec import decode
from eventstore.errors import CorruptLog
from eventstore.events import (
    CheckpointStored,
    CheckpointWritesStored,
    ContextDeleted,
    ContextSet,
    HistoryCleared,
    HistoryCompacted,
    HistoryRewound,
    MessageAdded,
    RecordedEvent,
    SessionEnded,
    SessionStarted,
    SessionUpdated,
    UnknownEvent,
)
from eventstore.ids import check_session_id
from eventstore.raw import open_raw
from eventstore.rawlog import RawEntry
from eventstore.store import EventStore
from projections import session
from projections.history import takes_effect
from projections.session import SessionState

Story: TypeAlias = dict[str, Any]
Block: TypeAlias = dict[str, Any]

UNREADABLE = "Unreadable"
"""The type under which an entry is shown that is not an event."""
POINTS = 1200
"""About how many points of a long session's metrics are drawn."""
SHORT = 160
"""Characters of an event's summary."""


async def read(store: EventStore, session_id: str) -> list[RecordedEvent]:
    """Return a session's events, those that cannot be read included, for a report must show them."""
    check_session_id(session_id)
    events: list[RecordedEvent] = []
    async for page in open_raw(store).entries(session_id):
        events += [_event(session_id, entry) for entry in page]
    return events


def tell(events: Sequence[RecordedEvent]) -> Story:
    """Return what a log tells: its events, the conversation, the metrics over time, and the context values."""
    points, state, remark = _metrics(events)
    return {
        "events": [_told(event) for event in events],
        "conversation": conversation(events),
        "metrics": _thinned(points),
        "state": msgspec.to_builtins(state),
        "remark": remark,
        "contexts": _contexts(events),
    }


def conversation(events: Sequence[RecordedEvent]) -> list[Block]:
    """Return the current history as blocks: messages, and spans that were compacted or cleared with what is in them.

    A span that was compacted again stands inside the later one, as the summary of it did.
    """
    blocks: list[Block] = []
    rewritten = 0
    for event in events:
        match event.data:
            case MessageAdded():
                blocks.append({"kind": "message", "v": event.version})
            case HistoryCleared():
                blocks, rewritten = [{"kind": "cleared", "v": event.version, "blocks": blocks}], event.version
            case HistoryCompacted() as compacted:
                messages = sum(block["kind"] == "message" for block in blocks)
                if takes_effect(compacted, rewritten, messages):
                    blocks, rewritten = _compacted(blocks, compacted, event.version), event.version
            case HistoryRewound(removed=removed):
                places = [place for place, block in enumerate(blocks) if block["kind"] == "message"]
                if 0 < removed <= len(places):
                    gone = set(places[-removed:])
                    blocks, rewritten = [b for place, b in enumerate(blocks) if place not in gone], event.version
    return blocks


def _compacted(blocks: list[Block], compacted: HistoryCompacted, version: int) -> list[Block]:
    """Put the oldest messages, and spans before them, into a span; those that were kept stay behind it."""
    reach = compacted.replaced + len(compacted.kept)
    gone: list[Block] = []
    kept: list[Block] = []
    rest: list[Block] = []
    for block in blocks:
        if block["kind"] == "message":
            reach -= 1
            (rest if reach < 0 else kept if block["v"] in compacted.kept else gone).append(block)
        else:
            (rest if reach <= 0 else gone).append(block)
    span = {
        "kind": "compaction",
        "v": version,
        "summary": compacted.summary,
        "strategy": compacted.strategy,
        "summarizer": compacted.summarizer,
        "remark": compacted.remark,
        "stands_for": compacted.stands_for,
        "blocks": gone,
    }
    return [span, *kept, *rest]


def _metrics(events: Sequence[RecordedEvent]) -> tuple[list[list[float]], SessionState, str | None]:
    """Fold event by event, and note what the metrics were after each."""
    state = SessionState()
    points: list[list[float]] = []
    for event in events:
        try:
            state = session.fold(state, [event])
        except Exception as error:  # noqa: BLE001 - what a fold cannot take is shown, not raised
            return points, state, f"The metrics end before version {event.version}: {error}"
        points.append(
            [
                event.version,
                event.recorded_ms,
                state.history_messages + (state.summary_bytes > 0),
                state.message_count,
                state.request_count,
                state.error_count,
                round(state.total_processing_time, 6),
                state.history_bytes + state.summary_bytes,
            ]
        )
    return points, state, None


def _thinned(points: list[list[float]]) -> list[list[float]]:
    """Leave points out where there are too many to be seen, but none before or after a fall."""
    if len(points) <= POINTS:
        return points
    every, last = -(-len(points) // POINTS), len(points) - 1
    return [
        point
        for at, point in enumerate(points)
        if at % every == 0 or at == last or point[2] < points[at - 1][2] or points[at + 1][2] < point[2]
    ]


def _contexts(events: Sequence[RecordedEvent]) -> list[dict[str, Any]]:
    """Return each context key with its values, oldest first; a deletion is one without a value."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        match event.data:
            case ContextSet(key=key, value=value):
                change = {"v": event.version, "ms": event.recorded_ms, "value": _pretty(value)}
                found.setdefault(key, []).append(change)
            case ContextDeleted(key=key):
                found.setdefault(key, []).append({"v": event.version, "ms": event.recorded_ms})
    return [{"key": key, "changes": found[key]} for key in sorted(found)]


def _told(event: RecordedEvent) -> dict[str, Any]:
    told: dict[str, Any] = {
        "v": event.version,
        "ms": event.recorded_ms,
        "type": event.type,
        "id": event.event_id,
        "summary": _short(summary(event)),
        "raw": _raw(event.entry),
    }
    if event.occurred_at is not None:
        told["occurred"] = event.occurred_at.isoformat()
    if actor := event.meta.get("actor"):
        told["actor"] = _short(actor if isinstance(actor, str) else _pretty(actor))
    if isinstance(event.data, MessageAdded):
        told["message"] = _message(event.data)
    return told


def _message(data: MessageAdded) -> dict[str, Any]:
    text = data.content if isinstance(data.content, str) else None
    message: dict[str, Any] = {"role": data.role, "text": text if text is not None else _pretty(data.content)}
    message["plain"] = text is not None or data.content is None
    if data.content is None:
        message["text"] = ""
    if data.name:
        message["name"] = data.name
    if data.tool_calls:
        message["calls"] = [_call(call) for call in data.tool_calls]
    if data.tool_call_id:
        message["answers"] = data.tool_call_id
    return message


def _call(call: Any) -> dict[str, str]:
    """Return a tool call in the shape that OpenAI gives it, or whatever else it is."""
    function = call.get("function") if isinstance(call, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        arguments = function.get("arguments", "")
        return {
            "name": function["name"],
            "id": str(call.get("id", "")),
            "arguments": arguments if isinstance(arguments, str) else _pretty(arguments),
        }
    return {"name": "", "id": "", "arguments": _pretty(call)}


def summary(event: RecordedEvent) -> str:
    """Say in a line what an event did."""
    text = ""
    match event.data:
        case MessageAdded(role=role) as message:
            told = _message(message)
            calls = ", ".join(call["name"] or "a tool" for call in told.get("calls", ()))
            text = f"{role}: {told['text']}" + (f" calls {calls}" if calls else "")
        case SessionStarted() | SessionUpdated() | SessionEnded() as change:
            text = _of_session(change)
        case ContextSet(key=key, value=value):
            text = f"{key} = {_line(value)}"
        case HistoryCompacted() as compacted:
            text = f"{compacted.strategy}, {compacted.messages_before} messages to {compacted.messages_after}"
            text += f": {compacted.summary}" if compacted.summary else ""
        case CheckpointStored() | CheckpointWritesStored() as stored:
            text = stored.checkpoint_id
        case UnknownEvent(fields=fields):
            text = _line(dict(fields))
        case other:
            rest = msgspec.to_builtins(other)
            text = ", ".join(f"{name} = {_line(value)}" for name, value in rest.items() if name != "type")
    return text


def _of_session(change: SessionStarted | SessionUpdated | SessionEnded) -> str:
    match change:
        case SessionStarted(user_id=user_id):
            return f"by {user_id}" if user_id else ""
        case SessionEnded(status=status):
            return status
        case SessionUpdated() as update:
            counters = {"requests": update.requests, "errors": update.errors, "s": update.processing_time}
            counted = [f"+{amount:g} {name}" for name, amount in counters.items() if amount]
            return ", ".join([*counted, *(f"{key} = {_line(value)}" for key, value in update.changes.items())])


def _event(session_id: str, found: RawEntry) -> RecordedEvent:
    entry = found.entry or b""
    try:
        return decode(session_id, found.version, found.recorded_ms, entry)
    except CorruptLog as corrupt:
        shown = UnknownEvent(UNREADABLE, {"reason": str(corrupt)})
        return RecordedEvent(session_id, found.version, found.recorded_ms, "", shown, {}, entry)


def _raw(entry: bytes) -> str:
    """Return an entry for people, every number as it was written."""
    text = entry.decode(errors="backslashreplace")
    try:
        return msgspec.json.format(text, indent=2)
    except (ValueError, RecursionError):
        return text


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _line(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _short(text: str) -> str:
    line = " ".join(text[: 4 * SHORT].split())
    return line if len(line) <= SHORT and len(text) <= 4 * SHORT else line[: SHORT - 1] + "…"
