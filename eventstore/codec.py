"""Between events and the entries of the log.

An entry is one JSON array: ``[event_id, {"type": ..., ...}, meta]``. ``meta`` is the caller's object
(``correlation_id``, ``causation_id``, ``actor`` by convention), plus ``schema`` where the event's schema is not 1.

What is accepted is what will be read back: an event is encoded, decoded again and compared. So wrong types, NaN,
tuples, dates, keys that are not strings, and cycles are all refused by one rule, before anything is sent. Only a
message of nothing but text, with plain values for metadata, needs no such proof; most are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, get_args

import msgspec

from eventstore.errors import CorruptLog, EventTooLarge, InvalidEvent, shown
from eventstore.events import Event, KnownEvent, MessageAdded, RecordedEvent, UnknownEvent

DEFAULT_MAX_EVENT_BYTES = 1024 * 1024
MAX_DEPTH = 100
"""How deep lists and dicts may be nested in an event: far below where a reader deep in its own stack would fail."""
MOST_BITS = 64
"""Of a whole number that is taken without proof: what writes longer ones may not read them."""


class _Tagged(msgspec.Struct):
    """What every event has, of whatever type."""

    type: str


Payload = dict[str, Any]
Upcaster = Callable[[Payload], Payload]

_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(tuple[str, KnownEvent, dict[str, Any]]).decode
_loose_decoder = msgspec.json.Decoder(tuple[str, dict[str, Any], dict[str, Any]])
_type_decoder = msgspec.json.Decoder(tuple[Any, _Tagged, Any])
_types: dict[str, type[Event]] = {cls.__name__: cls for cls in get_args(KnownEvent)}
_known = frozenset(_types.values())
_TEXT_OR_NONE = frozenset({str, type(None)})
_PLAIN = _TEXT_OR_NONE | {bool}
_upcasters: dict[tuple[str, int], Upcaster] = {}


def upcaster(type_name: str, schema: int) -> Callable[[Upcaster], Upcaster]:
    """Register a function that turns a payload of ``schema`` into one of ``schema + 1``.

    Old events are read for ever: each payload passes through the chain up to its type's present ``SCHEMA``.
    """

    def register(function: Upcaster) -> Upcaster:
        _upcasters[type_name, schema] = function
        return function

    return register


def encode(
    event_id: str, event: Event, meta: Mapping[str, Any] | None, max_bytes: int = DEFAULT_MAX_EVENT_BYTES
) -> bytes:
    """Return the entry for an event.

    Raises:
        InvalidEvent: It would not be read back equal: a wrong type, or a value that JSON cannot hold.
        EventTooLarge: The entry is larger than ``max_bytes``.
    """
    if type(event) not in _known:
        raise InvalidEvent(f"{shown(event)} is not an event of eventstore.events.")
    if meta is not None and "schema" in meta:
        raise InvalidEvent("meta may not have the key 'schema': it is the codec's own.")
    stored_meta = dict(meta) if meta else {}
    if event.SCHEMA != 1:
        stored_meta["schema"] = event.SCHEMA
    flat = not stored_meta and _is_flat(event)
    try:
        entry = _encoder.encode((event_id, event, stored_meta))
        back = None if flat else _decode(entry)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise _invalid(event, str(exc)) from None
    if len(entry) > max_bytes:
        raise EventTooLarge(
            f"A {type(event).__name__} of {len(entry):,} bytes is over the limit of {max_bytes:,}. "
            "Store large contents elsewhere and record where, or raise max_event_bytes."
        )
    if back is None:
        return entry
    if is_deep(entry, back):
        raise _invalid(event, f"it is nested more than {MAX_DEPTH} levels deep")
    if not (is_same(event, back[1]) and is_same(stored_meta, back[2])):
        raise _invalid(event, _first_difference(event, back[1]) or _difference(stored_meta, back[2], "meta"))
    return entry


def decode(session_id: str, version: int, recorded_ms: int, entry: bytes) -> RecordedEvent:
    """Return what an entry of the log holds, in the present shape of its type.

    Raises:
        CorruptLog: The entry is not what `encode` makes, or was written by a newer schema than this version knows.
    """
    try:
        event_id, event, meta = _decode(entry)
    except (ValueError, RecursionError):  # the second, where it is nested without end
        return _decode_slowly(session_id, version, recorded_ms, entry)
    if meta.get("schema", 1) != event.SCHEMA:
        return _decode_slowly(session_id, version, recorded_ms, entry)
    return RecordedEvent(session_id, version, recorded_ms, event_id, event, meta, entry)


def decode_all(session_id: str, places: Sequence[int], entries: Sequence[bytes]) -> list[RecordedEvent]:
    """Return what many entries hold, as `decode` does for each, in less time. Raises as it does.

    Args:
        session_id: The session.
        places: The version of each entry, and when it was recorded, in turn.
        entries: The entries.
    """
    numbers = iter(places)
    try:
        events = [
            RecordedEvent(session_id, version, recorded_ms, event_id, event, meta, entry)
            for entry, version, recorded_ms in zip(entries, numbers, numbers, strict=True)
            for event_id, event, meta in [_decode(entry)]
            if meta.get("schema", 1) == event.SCHEMA
        ]
    except (ValueError, RecursionError):
        events = []
    if len(events) == len(entries):
        return events
    return list(map(decode, repeat(session_id), places[::2], places[1::2], entries))


def _decode_slowly(session_id: str, version: int, recorded_ms: int, entry: bytes) -> RecordedEvent:
    """Decode an entry of an unknown type or an old schema."""
    try:
        name = _type_decoder.decode(entry)[1].type
        event_id, payload, meta = _loose_decoder.decode(entry)
        del payload["type"]
        known = _types.get(name)
        event = UnknownEvent(name, payload) if known is None else _upcast(known, payload, meta.get("schema", 1))
    except (ValueError, RecursionError, LookupError, TypeError) as exc:
        raise CorruptLog(session_id, version, f"its entry is not an event ({exc})") from exc
    return RecordedEvent(session_id, version, recorded_ms, event_id, event, meta, entry)


def _upcast(known: type[Event], payload: Payload, schema: int) -> Event:
    if schema > known.SCHEMA:
        raise LookupError(f"{known.__name__} has schema {schema}, this version knows {known.SCHEMA}: upgrade")
    for step in range(schema, known.SCHEMA):
        payload = _upcasters[known.__name__, step](payload)
    return msgspec.convert({**payload, "type": known.__name__}, known)


def _invalid(event: Event, reason: str) -> InvalidEvent:
    return InvalidEvent(f"A {type(event).__name__} cannot be stored: {reason}.")


def _is_flat(event: Event) -> bool:
    """Whether an event is a message of text, with plain values for metadata: what JSON gives back as it is."""
    if type(event) is not MessageAdded:
        return False
    metadata = event.metadata
    return (
        type(event.content) is type(event.role) is str
        and event.tool_calls is None
        and event.occurred_at is None
        and type(event.name) in _TEXT_OR_NONE
        and type(event.tool_call_id) in _TEXT_OR_NONE
        and type(metadata) is dict
        and (not metadata or _are_plain(metadata))
    )


def _are_plain(values: dict[Any, Any]) -> bool:
    """Whether a dict has texts, whole numbers of 64 bits, bools and None for values, under keys that are texts."""
    for key, value in values.items():
        kind = type(value)
        if type(key) is not str or (kind not in _PLAIN and (kind is not int or value.bit_length() > MOST_BITS)):
            return False
    return True


def is_same(given: Any, back: Any) -> bool:
    """Whether a value equals another, or what was read back for it.

    Raises:
        InvalidEvent: It cannot be compared.
    """
    try:
        return bool(given == back)
    except Exception as error:  # a value's own comparison may raise anything
        raise InvalidEvent(f"{shown(given)} cannot be compared: {type(error).__name__}: {error}.") from error


def is_deep(entry: bytes, value: Any) -> bool:
    """Whether what an entry holds is nested deeper than an event may be."""
    return entry.count(b"[") + entry.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH


def _depth(value: Any) -> int:
    """Return how many lists, dicts and structs stand inside each other, level by level, without recursion."""
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _members(outer)]:
        depth += 1
    return depth


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, Event):
        return (getattr(value, field) for field in value.__struct_fields__)
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _first_difference(given: Event, back: Event) -> str:
    for field in given.__struct_fields__:
        difference = _difference(getattr(given, field), getattr(back, field), field)
        if difference:
            return difference
    return ""


def _difference(given: Any, back: Any, path: str) -> str:
    """Say at which path a value would come back changed; empty if it would not."""
    if is_same(given, back):
        return ""
    if isinstance(given, dict) and isinstance(back, dict):
        for key, value in given.items():
            if key not in back:
                return f"the key {shown(key)} in {path} is a {type(key).__name__}, and JSON has only str keys"
            difference = _difference(value, back[key], f"{path}[{shown(key)}]")
            if difference:
                return difference
    if isinstance(given, list) and isinstance(back, list):
        pairs = enumerate(zip(given, back, strict=True))
        return next((found for i, (a, b) in pairs if (found := _difference(a, b, f"{path}[{i}]"))), "")
    return f"{path} is {shown(given)} ({type(given).__name__}), which JSON would give back as {shown(back)}"
