"""Any JSON value comes back as it was given; contexts take what has a JSON form; all else is refused, unwritten."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import itertools
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from strategies import any_json, texts
from support.model import same

from contextengine import ContextEngine, InvalidInput
from eventstore import EventStore
from projections import Projector
from projections.session import GLOBAL

SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int = 0


class Place(msgspec.Struct):
    x: int = 0


class Pair(NamedTuple):
    one: int = 1
    two: int = 2


def boxed(times: int) -> Any:
    """Return a value inside so many lists."""
    return [boxed(times - 1)] if times else None


NOT_JSON: dict[str, Any] = {
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "bytes": b"text",
    "no bytes": b"",
    "bytearray": bytearray(b"text"),
    "memoryview": memoryview(b"text"),
    "tuple": (1, 2),
    "empty tuple": (),
    "named tuple": Pair(),
    "set": {1},
    "empty set": set(),
    "frozenset": frozenset({1}),
    "complex": 1j,
    "object": object(),
    "type": int,
    "function": len,
    "ellipsis": ...,
    "not implemented": NotImplemented,
    "range": range(3),
    "dict view": {"a": 1}.keys(),
    "datetime": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    "date": dt.date(2024, 1, 1),
    "time": dt.time(1, 2),
    "timedelta": dt.timedelta(seconds=1),
    "uuid": uuid.UUID(int=1),
    "decimal": decimal.Decimal("1.5"),
    "whole decimal": decimal.Decimal(1),
    "fraction": fractions.Fraction(1, 2),
    "enum": Colour.RED,
    "dataclass": Point(),
    "struct": Place(),
    "raw": msgspec.Raw(b"1"),
    "unset": msgspec.UNSET,
    "exception": ValueError("text"),
    "high surrogate": "a\ud800b",
    "low surrogate": "\udfff",
    "surrogate pair": "\ud83d\ude00",
    "surrogate key": {"\udc80": 1},
    "int key": {1: 2},
    "bool key": {True: 1},
    "none key": {None: 1},
    "float key": {1.5: 1},
    "bytes key": {b"a": 1},
    "tuple key": {(1,): 1},
    "enum key": {Colour.RED: 1},
    "two keys that look alike": {1: "a", "1": "b"},
    "too many digits": 10**5000,
    "too deep": boxed(200),
    "cycle": {},
}
NOT_JSON["cycle"]["again"] = [NOT_JSON["cycle"]]

MAPPED: dict[str, Any] = {
    "tuple": [1, 2],
    "empty tuple": [],
    "named tuple": [1, 2],
    "set": [1],
    "empty set": [],
    "frozenset": [1],
    "datetime": "2024-01-01T00:00:00Z",
    "date": "2024-01-01",
    "time": "01:02:00",
    "timedelta": "PT1S",
    "uuid": "00000000-0000-0000-0000-000000000001",
    "decimal": "1.5",
    "whole decimal": "1",
    "enum": "red",
    "dataclass": {"x": 0},
    "struct": {"x": 0},
}
"""As what the kinds come back that a context and a checkpoint take; messages and metadata take none of them."""
assert set(MAPPED) <= set(NOT_JSON)

kinds = st.sampled_from(sorted(NOT_JSON))
inside: st.SearchStrategy[Callable[[Any], Any]] = st.sampled_from(
    [
        lambda bad: bad,
        lambda bad: [bad],
        lambda bad: {"key": bad},
        lambda bad: [None, {"a": [1, bad]}, 2],
        lambda bad: {"": {"": {"x": 1, "": [[[bad]]]}}},
    ]
)
"""Where in a value the bad one stands."""


class Rig:
    """An engine without workers of its own, whose views a test brings up to date when it likes."""

    def __init__(self, url: str, namespace: str) -> None:
        self.runner = asyncio.Runner()
        self.engine = ContextEngine(url, namespace=namespace, workers=False)
        self.runner.run(self.engine.initialize())
        self.numbers = itertools.count()

    @property
    def store(self) -> EventStore:
        """The log below the engine."""
        return self.engine._here().store

    def new_session(self) -> str:
        """Return the id of a session that does not exist."""
        return f"s{next(self.numbers)}"

    async def project(self, session_id: str) -> None:
        """Bring a session's views to the end of its log, and see that nothing stood in the way."""
        assert await Projector(self.store, self.engine._here().views).project([session_id]) == []

    def close(self) -> None:
        """Close the engine."""
        self.runner.run(self.engine.close())
        self.runner.close()


@pytest.fixture
def rig(url: str, namespace: str) -> Iterator[Rig]:
    """An engine on each kind of store in turn."""
    rig = Rig(url, namespace)
    yield rig
    rig.close()


async def answers(engine: ContextEngine, session_id: str) -> list[Any]:
    """Return what came of a value in each place that takes one."""
    (message,) = await engine.get_conversation_history(session_id)
    session = await engine.get_session(session_id)
    assert session is not None
    return [
        message["content"],
        message["metadata"],
        message["tool_calls"],
        session["metadata"],
        await engine.get_context(session_id, "key"),
    ]


@pytest.mark.guarantee("L7")
def test_json_comes_back_as_it_was(rig: Rig) -> None:
    """A value comes back equal and of the same type from every place, read from the log and read from the views."""

    @settings(SETTINGS, max_examples=150)
    @given(value=any_json, name=texts)
    @example(value=-0.0, name="\0")
    @example(value=[1, 1.0, True, 0, 0.0, False, None, ""], name="")
    @example(value=2**53 + 1, name="🜁")
    @example(value=10**4000 + 1, name="\uffff")
    @example(value="".join(map(chr, range(0x250))), name="\x7f\x80")
    @example(value=["\ufeff", "\U0010ffff", "a\u0301", "á", "\r\n", "\u2028\u2029"], name="\\u0000")
    def check(value: Any, name: str) -> None:
        rig.runner.run(comes_back(value, name))

    async def comes_back(value: Any, name: str) -> None:
        session_id, engine = rig.new_session(), rig.engine
        named = {name: value, "other": [value]}
        await engine.create_session(session_id, metadata={name: value})
        await engine.update_session(session_id, {"metadata": {"other": [value]}})
        await engine.add_conversation_message(session_id, "tool", value, named, tool_calls=[value])
        await engine.set_context(session_id, "key", value)
        expected = [value, named, [value], named, value]
        assert same(await answers(engine, session_id), expected)
        await rig.project(session_id)
        assert same(await answers(engine, session_id), expected)

    check()


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@pytest.mark.guarantee("V4")
def test_any_text_is_a_name(rig: Rig) -> None:
    """Sessions, users and context keys may bear any name, and are found by it and by no other."""

    @settings(SETTINGS, max_examples=60)
    @given(session_id=names, user_id=names, key=names, other=names)
    @example(session_id="1:2", user_id=":", key="{}", other="*")
    @example(session_id="\ufeff\r\n", user_id="\U0010ffff", key="'", other='"')
    def check(session_id: str, user_id: str, key: str, other: str) -> None:
        unique = f"{next(rig.numbers)}:"
        rig.runner.run(is_found(unique + session_id, unique + user_id, key, other))

    async def is_found(session_id: str, user_id: str, key: str, other: str) -> None:
        engine = rig.engine
        sessions = [session_id, session_id + other, session_id + 2 * other]
        for number, name in enumerate(sessions):
            await engine.create_session(name, user_id)
            await engine.set_context(name, key, number)
        await engine.create_session(session_id + 3 * other, user_id + other)
        for number, name in enumerate(sessions):
            assert await engine.list_contexts(name) == [key]
            assert await engine.get_context(name, key) == number
        found, cursor = [], None
        while (page := await engine.list_sessions(user_id=user_id, limit=1, cursor=cursor)).cursor:
            found += [session["session_id"] for session in page]
            cursor = page.cursor
        found += [session["session_id"] for session in page]
        assert sorted(found) == sorted(sessions)

    check()


async def refused(writes: Callable[[], Awaitable[Any]]) -> None:
    """See that a call is refused as bad input."""
    with pytest.raises(InvalidInput):
        await writes()


@pytest.mark.guarantee("L7", "L8")
def test_what_json_cannot_hold_is_refused(rig: Rig) -> None:
    """A value that would not come back, wherever it stands, is refused, and nothing is written.

    A context takes those that have a JSON form, and gives back that.
    """

    @settings(SETTINGS, max_examples=150)
    @given(kind=kinds, put=inside)
    def check(kind: str, put: Callable[[Any], Any]) -> None:
        rig.runner.run(is_refused(kind, put))

    async def is_refused(kind: str, put: Callable[[Any], Any]) -> None:
        engine, bad = rig.engine, put(NOT_JSON[kind])
        session_id, unknown = rig.new_session(), rig.new_session()
        await engine.create_session(session_id)
        await refused(lambda: engine.add_conversation_message(session_id, "user", bad))
        await refused(lambda: engine.add_conversation_message(session_id, "user", "", {"x": bad}))
        await refused(lambda: engine.add_conversation_message(session_id, "user", "", tool_calls=[bad]))
        await refused(
            lambda: engine.add_conversation_messages(
                session_id, [{"role": "user", "content": "good"}, {"role": "user", "content": bad}]
            )
        )
        await refused(lambda: engine.add_conversation_messages(session_id, [{"role": "user", "other": bad}]))
        if kind not in MAPPED:
            await refused(lambda: engine.set_context(session_id, "key", bad))
            await refused(lambda: engine.update_context(session_id, "key", lambda _: bad))
            await refused(lambda: engine.store_checkpoint(session_id, "id", {"x": bad}))
            await refused(lambda: engine.put_writes(session_id, "id", "task", [("channel", bad)]))
            assert await engine.list_contexts(session_id) == []
        await refused(lambda: engine.update_session(session_id, {"plan": bad}))
        await refused(lambda: engine.update_session(session_id, {"metadata": {"x": bad}}))
        await refused(lambda: engine.create_session(unknown, metadata={"x": bad}))
        assert await rig.store.version(session_id) == 1
        assert await rig.store.version(unknown) == 0
        assert await rig.store.version(GLOBAL) == 0
        if kind in MAPPED:
            await engine.set_context(session_id, "key", bad)
            assert same(await engine.get_context(session_id, "key"), put(MAPPED[kind]))
            assert await rig.store.version(session_id) == 2

    check()


@pytest.mark.parametrize("kind", MAPPED)
def test_each_kind_with_a_json_form_is_mapped(rig: Rig, kind: str) -> None:
    """Contexts and checkpoints take what has a JSON form, and give it back, from the log and from the views alike."""

    async def is_mapped() -> None:
        engine, given, expected = rig.engine, NOT_JSON[kind], MAPPED[kind]
        await engine.set_context("s", "key", given)
        await engine.set_context("key", [given])
        assert same(await engine.update_context("s", "other", lambda _: {"x": given}), {"x": expected})
        await engine.store_checkpoint("s", "id", {"x": given}, {"y": [given]})
        await engine.put_writes("s", "id", "task", [("channel", given)])
        for stream in ("s", GLOBAL):
            for _ in ("the log", "the views"):
                if stream == "s":
                    assert same(await engine.get_context("s", "key"), expected)
                    assert same(await engine.get_context("s", "other"), {"x": expected})
                    checkpoint = await engine.get_checkpoint("s", "id")
                    assert checkpoint is not None
                    assert same([checkpoint["data"], checkpoint["metadata"]], [{"x": expected}, {"y": [expected]}])
                    assert same([*map(list, await engine.get_writes("s", "id"))], [["channel", expected]])
                else:
                    assert same(await engine.get_context("key"), [expected])
                await rig.project(stream)

    rig.runner.run(is_mapped())


@pytest.mark.parametrize("kind", NOT_JSON)
def test_each_kind_is_refused(rig: Rig, kind: str) -> None:
    """Each kind of value that JSON cannot hold is refused as content and metadata; without a JSON form, as context."""

    async def is_refused() -> None:
        engine, bad = rig.engine, NOT_JSON[kind]
        if kind not in MAPPED:
            await refused(lambda: engine.set_context("s", "key", bad))
            await refused(lambda: engine.update_context("s", "key", lambda _: bad))
            await refused(lambda: engine.store_checkpoint("s", "id", {"x": bad}))
        await refused(lambda: engine.add_conversation_message("s", "user", [bad]))
        await refused(lambda: engine.add_conversation_message("s", "user", "", {"x": bad}))
        await refused(lambda: engine.create_session("s", metadata={"x": bad}))
        assert await rig.store.version("s") == 0
        assert await rig.store.version(GLOBAL) == 0

    rig.runner.run(is_refused())


@pytest.mark.parametrize(
    "bad", [None, 5, b"role", ["role"], "", "\ud800"], ids=["none", "int", "bytes", "list", "empty", "surrogate"]
)
def test_names_are_texts(rig: Rig, bad: Any) -> None:
    """A role, a context key and a status are texts; anything else is refused, and nothing is written."""

    async def is_refused() -> None:
        engine = rig.engine
        await engine.create_session("s")
        await refused(lambda: engine.add_conversation_message("s", bad, ""))
        await refused(lambda: engine.add_conversation_messages("s", [{"role": bad}]))
        await refused(lambda: engine.set_context("s", bad, 1))
        await refused(lambda: engine.end_session("s", bad))
        await refused(lambda: engine.update_session("s", {"status": bad}))
        await refused(lambda: engine.update_session("s", {"user_id": bad}))
        assert await rig.store.version("s") == 1

    rig.runner.run(is_refused())
