"""The codec: what an entry looks like, and how old ones are read."""

from __future__ import annotations

import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventstore import CorruptLog, InvalidEvent, MessageAdded, UnknownEvent, codec, ids
from eventstore.ids import new_event_id


class Text(str):
    """A text, and not quite."""

    __slots__ = ()


class Fields(dict[Any, Any]):
    """A dict, and not quite."""


texts = st.text(max_size=5) | st.sampled_from(["\ud800", "a\0", Text("x")])
plain = st.none() | st.booleans() | st.integers() | st.sampled_from([2**64, 10**400]) | texts
odd = plain | st.sampled_from([1.5, math.nan]) | st.binary(max_size=2) | st.lists(plain, max_size=2) | st.tuples(plain)
metadata = st.dictionaries(texts, odd, max_size=2) | st.dictionaries(plain, plain, max_size=2)
changes: dict[str, st.SearchStrategy[Any]] = {
    "role": odd,
    "content": odd | metadata,
    "metadata": metadata | metadata.map(Fields) | odd,
    "name": odd,
    "tool_calls": odd,
    "tool_call_id": odd,
    "occurred_at": st.datetimes() | st.datetimes(timezones=st.just(UTC)) | odd,
}
change = st.one_of([st.tuples(st.just(field), value) for field, value in changes.items()])
messages = st.lists(change, max_size=2).map(lambda made: MessageAdded(**{"role": "user", "content": "x"} | dict(made)))


def decode(entry: bytes) -> object:
    """Decode an entry and return its event."""
    return codec.decode("s", 1, 1000, entry).data


def test_an_entry_is_readable_json() -> None:
    """An entry is an array of id, tagged event and meta, with defaults left out."""
    entry = codec.encode("an-id", MessageAdded("user", "hé"), {"actor": "ann"})
    assert entry.decode() == '["an-id",{"type":"MessageAdded","role":"user","content":"hé"},{"actor":"ann"}]'


def test_an_event_may_bring_its_own_time() -> None:
    """The time at which an imported event happened stands readable in its entry, and comes back as the same moment."""
    event = MessageAdded("user", "x", occurred_at=datetime(2024, 5, 1, 10, 0, 0, 1, tzinfo=UTC))
    entry = codec.encode("an-id", event, None)
    assert b'"content":"x","occurred_at":"2024-05-01T10:00:00.000001Z"}' in entry
    assert decode(entry) == event
    there = MessageAdded(
        "user", "x", occurred_at=datetime(2024, 5, 1, 19, 0, 0, 1, tzinfo=timezone(timedelta(hours=9)))
    )
    assert decode(codec.encode("an-id", there, None)) == event
    with pytest.raises(InvalidEvent, match="timezone"):
        codec.encode("an-id", MessageAdded("user", "x", occurred_at=datetime(2024, 5, 1)), None)  # noqa: DTZ001


@pytest.mark.guarantee("L10")
def test_unknown_types_are_kept() -> None:
    """An event of a type that is not known yet comes back whole."""
    assert decode(b'["i",{"type":"Later","x":[1]},{}]') == UnknownEvent("Later", {"x": [1]})


@pytest.mark.guarantee("L10")
def test_unknown_fields_are_passed_over_and_kept_in_the_entry() -> None:
    """A field that a later version added does not disturb, and stands in the entry still."""
    entry = b'["i",{"type":"MessageAdded","role":"user","content":"x","later":1},{}]'
    recorded = codec.decode("s", 1, 1000, entry)
    assert recorded.data == MessageAdded("user", "x")
    assert recorded.entry == entry


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"no json",
        b"[]",
        b'["i",{},{}]',
        b'["i",{"type":5},{}]',
        b'["i",{"type":"MessageAdded","role":5},{}]',
        b'["i",{"type":"MessageAdded","role":"user","content":"\xff"},{}]',
        b'["i",{"type":"\xff"},{}]',
        b"[" * 60_000 + b"]" * 60_000,
        b'["i",{"type":"Later","x":' + b"[" * 60_000 + b"]" * 60_000 + b"},{}]",
    ],
    ids=lambda entry: repr(entry[:40]),
)
def test_damage_is_named(entry: bytes) -> None:
    """An entry that is no event raises CorruptLog with session and version."""
    with pytest.raises(CorruptLog) as raised:
        decode(entry)
    assert (raised.value.session_id, raised.value.version) == ("s", 1)


@pytest.mark.guarantee("L10")
def test_old_shapes_pass_their_upcasters(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old payload goes through every upcaster up to the present schema; a newer one asks for an upgrade."""
    monkeypatch.setattr(codec, "_upcasters", {})
    monkeypatch.setattr(MessageAdded, "SCHEMA", 3)
    codec.upcaster("MessageAdded", 1)(lambda old: {"role": old["role"], "text": old["body"]})
    codec.upcaster("MessageAdded", 2)(lambda old: {"role": old["role"], "content": old["text"]})
    assert decode(b'["i",{"type":"MessageAdded","role":"user","body":"x"},{}]') == MessageAdded("user", "x")
    second = b'["i",{"type":"MessageAdded","role":"user","text":"x"},{"schema":2}]'
    assert decode(second) == MessageAdded("user", "x")
    entry = codec.encode("i", MessageAdded("user", "x"), None)
    assert msgspec.json.decode(entry)[2] == {"schema": 3}
    assert decode(entry) == MessageAdded("user", "x")
    with pytest.raises(CorruptLog, match="upgrade"):
        decode(b'["i",{"type":"MessageAdded","role":"user","content":"x"},{"schema":4}]')


def test_many_are_decoded_as_each_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands among the entries of a page: types that nobody knows, old shapes, callers' meta, damage."""
    monkeypatch.setattr(codec, "_upcasters", {})
    monkeypatch.setattr(MessageAdded, "SCHEMA", 2)
    codec.upcaster("MessageAdded", 1)(lambda old: {"role": old["role"], "content": old["body"]})
    present = codec.encode("a", MessageAdded("user", "x"), None)
    told = codec.encode("b", MessageAdded("user", "x"), {"actor": "ann"})
    unknown, old = b'["c",{"type":"Later","x":1},{}]', b'["d",{"type":"MessageAdded","role":"user","body":"x"},{}]'
    for entries in ([], [present], [present, told], [told, unknown, present], [present, old], [old, unknown]):
        each = [codec.decode("s", version, 1000 + version, entry) for version, entry in enumerate(entries, 1)]
        places = [number for version in range(1, len(entries) + 1) for number in (version, 1000 + version)]
        assert codec.decode_all("s", places, entries) == each
    with pytest.raises(CorruptLog) as damage:
        codec.decode_all("s", [1, 1000, 2, 1000, 3, 1000], [present, b"[", b"{"])
    assert damage.value.version == 2


@pytest.mark.guarantee("L10")
def test_an_old_shape_that_would_pass_for_the_present_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes its upcasters all the same, whatever stands in its meta: what it means has changed."""
    monkeypatch.setattr(codec, "_upcasters", {})
    monkeypatch.setattr(MessageAdded, "SCHEMA", 2)
    codec.upcaster("MessageAdded", 1)(lambda old: old | {"content": f"said: {old['content']}"})
    for meta in (b"{}", b'{"actor":"ann"}', b'{"schema":1}'):
        entry = b'["i",{"type":"MessageAdded","role":"user","content":"x"},' + meta + b"]"
        (of_a_page,) = codec.decode_all("s", [1, 1000], [entry])
        assert of_a_page.data == decode(entry) == MessageAdded("user", "said: x")


def test_only_known_events_are_stored() -> None:
    """What the codec could not read back as itself is not written."""
    with pytest.raises(InvalidEvent):
        codec.encode("i", UnknownEvent("Later", {}), None)  # type: ignore[arg-type]


def encoded(message: MessageAdded) -> bytes | None:
    """Return a message's entry; None where it is refused."""
    try:
        return codec.encode("i", message, None)
    except InvalidEvent:
        return None


@given(messages)
@example(MessageAdded("user", "x", {"score": math.nan}))
@example(MessageAdded("user", "x", {1: "x"}))  # type: ignore[dict-item]
@example(MessageAdded("user", "x", {"n": -(10**4299)}))
def test_what_is_not_read_back_would_be_read_back_equal(message: MessageAdded) -> None:
    """Messages of plain values are taken without proof: those, and no others, that would stand it."""
    with patch.object(codec, "_is_flat", return_value=False):
        proved = encoded(message)
    assert encoded(message) == proved


def test_what_cannot_be_compared_is_refused_with_the_reason() -> None:
    """A value whose own comparison fails cannot be proved to come back: what it raised is told, and kept."""

    class Spiteful(dict[str, int]):
        __hash__ = None

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("not with me")

    with pytest.raises(InvalidEvent, match=r"cannot be compared: RuntimeError: not with me") as refused:
        codec.encode("i", MessageAdded("user", Spiteful(a=1)), None)
    assert isinstance(refused.value.__cause__, RuntimeError)


def test_event_ids_are_uuid7_and_differ() -> None:
    """Ids bear version 7 and the RFC's variant, and are unique."""
    ids = {new_event_id() for _ in range(1000)}
    assert len(ids) == 1000
    pattern = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    assert all(pattern.fullmatch(event_id) for event_id in ids)


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """All ids are of the same millisecond, where they have to differ by what else they hold."""
    monkeypatch.setattr(ids, "time", SimpleNamespace(time_ns=lambda: 1_700_000_000_000_000_000))


@pytest.mark.usefixtures("stopped_clock")
def test_event_ids_of_threads_differ() -> None:
    """Threads that make ids in the same millisecond make different ones."""
    with ThreadPoolExecutor(8) as threads:
        made = [
            each for some in threads.map(lambda _: [new_event_id() for _ in range(5000)], range(8)) for each in some
        ]
    assert len(set(made)) == 40_000


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_event_ids_of_a_forked_process_differ() -> None:
    """A child does not go on where its parent was, though it begins as a copy of it."""
    new_event_id()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, new_event_id().encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as said:
        theirs, ours = said.read(), new_event_id()
    assert len(theirs) == len(ours)
    assert theirs[:13] == ours[:13]
    assert theirs[:-12] != ours[:-12]
