"""Odd arguments, en masse: every public method does what it says with them, or refuses them and writes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import decimal
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from strategies import any_json
from support.model import same
from support.whole_api import FEW, OPENS, PEOPLE, public_methods

from contextengine import ContextEngine, ContextEngineError, InvalidInput
from contextengine.plain import plain
from eventstore import open_store
from projections import Projector
from projections.changes import SHORT_EVENTS

MIB = 2**20


def nested(depth: int) -> Any:
    """Return so many lists inside each other, made without recursion."""
    value: Any = None
    for _ in range(depth):
        value = [value]
    return value


class Text(str):
    """A text, and not quite."""

    __slots__ = ()


class Named(str):
    """The name of an odd value."""

    __slots__ = ()


class Incomparable:
    """What cannot be compared with anything, as an array cannot."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Refuse."""
        raise RuntimeError("it is not to be compared")

    def __hash__(self) -> int:
        """Be one of many."""
        return 1


class IncomparableFields(dict[str, Any]):
    """A dict of that kind."""

    __slots__ = ()
    __hash__ = None

    def __eq__(self, other: object) -> bool:
        """Refuse."""
        raise RuntimeError("it is not to be compared")


CYCLE: dict[str, Any] = {}
CYCLE["again"] = [CYCLE]
PLANES = "".join(chr(plane << 16 | at) for plane in range(17) for at in (0, 0x41, 0xFFF0, 0xFFFE, 0xFFFF))
ODD: dict[str, Any] = {
    "none": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "2**53": 2**53,
    "2**63": 2**63,
    "2**64": 2**64,
    "huge int": 10**5000,
    "huge negative": -(10**5000),
    "longest negative": -(10**4299),
    "dict of the longest negative": {"n": -(10**4299)},
    "float": 1.5,
    "negative zero": -0.0,
    "1e400": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
    "tiny": 5e-324,
    "decimal": decimal.Decimal("NaN"),
    "date": dt.datetime(1, 1, 1, tzinfo=dt.UTC),
    "empty": "",
    "space": " ",
    "nul": "a\0b",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
    "planes": PLANES,
    "high surrogate": "\ud800",
    "low surrogate": "a\udfff",
    "surrogate pair": "\ud83d\ude00",
    "combining": "e\u0301\u200d\u202e\ufeff\u2028",
    "json": '{"a": [1]}',
    "braces": "{a}:{b}",
    "line": "a\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "lua": "']] redis.call('FLUSHALL') --[['",
    "glob": "*?[a-z]\\*",
    "format": "%s %d {0} {x!r}",
    "global": "$global",
    "512 bytes": "x" * 512,
    "513 bytes": "x" * 513,
    "513 bytes of few characters": "é" * 257,
    "1 MiB": "x" * MIB,
    "1 MiB and what JSON makes of it": "\x01" * MIB,
    "bytes": b"bytes",
    "subclass": Text("text"),
    "list": [],
    "list of odd": [float("nan"), b"", {1: 2}],
    "tuple": (1, "a"),
    "set": {1},
    "dict": {},
    "odd dict": {"a": {"b": float("inf")}},
    "other keys": {1: 2, None: 3, (1, 2): 3},
    "surrogate key": {"\udc80": 1},
    "empty key": {"": {"": ""}},
    "own names": {"version": 1, "session_id": "x", "created_at": 0, "status": "active", "type": "x", "schema": 9},
    "cycle": CYCLE,
    "cyclic list": [CYCLE],
    "99 deep": nested(90),
    "101 deep": {"a": nested(120)},
    "100,000 deep": nested(100_000),
    "wide": list(range(10_000)),
    "object": object(),
    "incomparable": Incomparable(),
    "incomparable dict": IncomparableFields(a=1),
    "class": dict,
    "function": len,
    "generator": (n for n in range(3)),
    "exception": ValueError("x"),
    "list of roles": [{"role": "user"}],
    "list of bad roles": [{"role": 5}, {"content": "x"}, "role"],
}
"""What nobody sane passes, and somebody does."""

SANE: dict[str, Any] = {
    "session_id": "s",
    "session_key": "s",
    "thread_id": "s",
    "user_id": "ann",
    "metadata": {"a": 1},
    "role": "user",
    "content": "hi",
    "name": "tool",
    "tool_calls": [{"id": "1"}],
    "tool_call_id": "1",
    "messages": [{"role": "user", "content": "hi"}],
    "limit": 2,
    "include_compacted": False,
    "format": "string",
    "updates": {"a": 1},
    "increment_requests": True,
    "add_processing_time": 0.5,
    "mark_error": False,
    "status": "completed",
    "cursor": "5:s",
    "max_idle_seconds": 1e6,
    "max_idle_hours": 1e6,
    "key": "key",
    "value": {"a": [1]},
    "change": lambda value: value,
    "context": {"a": 1},
    "checkpoint_id": "c1",
    "checkpoint_data": {"a": 1},
    "task_id": "t1",
    "writes_data": [("channel", 1)],
    "participants": PEOPLE,
    "session_type": "user_to_agent",
    "sender_id": "u",
    "sender_type": "user",
    "sender_role": None,
    "recipient_id": "a",
    "recipient_type": "agent",
    "recipient_role": "coder",
    "message_type": "feedback",
    "message_types": ["feedback"],
    "strategy": "truncate",
    "config_override": FEW,
    "compress_first": False,
    "settings": {"keep_recent": 3},
    "version": 1,
    "event_ids": ["nobody's"],
    "at_version": 1,
    "at": None,
    "new_session_id": "forked",
    "to_version": 1,
    "durability": "accepted",
    "by": "desk",
    "reason": "asked",
    "relatives": False,
    "signing_key": "no key",  # a session that was forgotten would have nothing more to say
    "unsigned": False,
    "without_archive": False,
}
"""What a sane caller passes for a parameter of this name, whatever the method."""

METHODS = sorted(name for name in public_methods() - OPENS if inspect.iscoroutinefunction(getattr(ContextEngine, name)))


def parameters(name: str) -> list[str]:
    """Return the parameters of a method."""
    return [
        parameter for parameter in inspect.signature(getattr(ContextEngine, name)).parameters if parameter != "self"
    ]


def test_every_parameter_is_known() -> None:
    """Each parameter of each public method has a sane value here, so that no new method is forgotten."""
    assert {parameter for name in METHODS for parameter in parameters(name)} == set(SANE)


class Rig:
    """An engine without workers, on one loop, and calls whose effects are looked at."""

    def __init__(self, url: str, namespace: str) -> None:
        self.runner = asyncio.Runner()
        self.engine = ContextEngine(url, namespace=namespace, workers=False, partitions=1, max_event_bytes=MIB)
        self.runner.run(self.engine.initialize())

    def close(self) -> None:
        """Close the engine."""
        self.runner.run(self.engine.close())
        self.runner.close()

    async def call(self, name: str, given: dict[str, Any]) -> None:
        """Call a method: it works and reads back equal, or it refuses and has written nothing."""
        store, words = self.engine._here().store, {**given, **given.get("settings", {})}
        words.pop("settings", None)
        before = await store.position()
        try:
            await getattr(self.engine, name)(**words)
        except ContextEngineError:
            assert await store.position() == before, "it was refused, and something was written"
        else:
            await self._reads_back(name, given)

    async def _reads_back(self, name: str, given: dict[str, Any]) -> None:
        """See that what a method took is there, as it was."""
        engine = self.engine
        if name == "add_conversation_message":
            message = (await engine.get_conversation_history(given["session_id"], 1))[-1]
            assert same(message.content, given["content"])
            assert same(message.metadata, given["metadata"] or {})
        elif name == "set_context":
            assert same(await engine.get_context(given["session_id"], given["key"]), plain(given["value"], ""))
        elif name == "store_checkpoint":
            found = await engine.get_checkpoint(given["thread_id"], given["checkpoint_id"])
            assert found is not None
            assert same(found["data"], plain(given["checkpoint_data"] or {}, ""))
        elif name == "store_task_context":
            assert same(await engine.get_task_context(given["session_id"]), plain(given["context"], ""))

    async def is_sound(self) -> None:
        """See that all that was taken can be folded, listed and told."""
        runtime = self.engine._here()
        sessions = {event.session_id async for event in runtime.store.read_all()}
        assert await Projector(runtime.store, runtime.views).project(sessions) == []
        assert {s.session_id for s in await self.engine.list_sessions()} <= sessions
        assert (await self.engine.health_check())["parked_sessions"] == []


@pytest.fixture(params=["memory", "redis"])
def rig(request: pytest.FixtureRequest, namespace: str) -> Iterator[Rig]:
    """An engine in memory, and one on Redis."""
    rig = Rig("memory://" if request.param == "memory" else request.getfixturevalue("redis_url"), namespace)
    yield rig
    rig.close()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.guarantee("L8", "S9")
def test_each_argument_may_be_odd(rig: Rig, name: str) -> None:
    """Each parameter of each method gets each odd value, beside sane ones: taken and read back, or refused."""

    async def check() -> None:
        await rig.engine.create_session("s", "ann")
        usual = {parameter: SANE[parameter] for parameter in parameters(name)}
        for parameter in usual:
            for odd in ODD.values():
                if parameter == "change" and callable(odd):
                    continue  # what it raises is its own
                if parameter != "settings":
                    await rig.call(name, {**usual, parameter: odd})
                    continue
                for setting in ("keep_recent", "strategy", "summary_role", "auto_compress_threshold", "no such"):
                    await rig.call(name, {**usual, "settings": {setting: odd}})
        await rig.is_sound()

    rig.runner.run(check())


names = st.sampled_from(sorted(ODD)).map(Named)
anything = st.none() | names | names | st.text() | any_json
"""None is for what a sane caller passes. An odd value is drawn by its name, for not all of them can be printed."""


def value_of(drawn: Any, parameter: str) -> Any:
    """Return the value that was drawn for a parameter."""
    if drawn is None or (isinstance(drawn, Named) and parameter == "change" and callable(ODD[drawn])):
        return SANE[parameter]
    return ODD[drawn] if isinstance(drawn, Named) else drawn


@pytest.mark.guarantee("L8", "S9")
def test_all_arguments_may_be_odd(rig: Rig) -> None:
    """Any method takes any mixture of sane and odd arguments, and the session is sound afterwards."""

    @settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
    @given(name=st.sampled_from(METHODS), data=st.data())
    def check(name: str, data: st.DataObject) -> None:
        given = {
            parameter: value_of(data.draw(anything, label=parameter), parameter)
            for parameter in parameters(name)
            if parameter != "settings"
        }
        rig.runner.run(rig.call(name, given))

    check()
    rig.runner.run(rig.is_sound())


@pytest.mark.parametrize("name", sorted(set(inspect.signature(ContextEngine).parameters) - {"url"}))
async def test_odd_settings_of_an_engine(name: str) -> None:
    """An engine that is made with an odd setting works, or says so before it is open."""
    for odd in ODD.values():
        try:
            async with ContextEngine("memory://", **{name: odd}) as engine:
                await engine.add_conversation_message("s", "user", "hi")
        except ContextEngineError:
            pass


def injections(namespace: str) -> list[str]:
    """Return ids that try to be more than a name."""
    return [
        "victim ",
        " victim",
        "victim\n",
        "victim\r\n",
        "victim:victim",
        ":victim",
        "log:victim",
        "0}:log:victim",
        "}:log:victim",
        "{victim}",
        f"{{{namespace}:0}}:log:victim",
        f"{{{namespace}.b:0}}:log:victim",
        f"x}}{{{namespace}.b:0}}:log:victim",
        "victim}:session@1:victim",
        "status:active",
        "user:ann",
        "@1:victim",
        "heads",
        "feed",
        "parked",
        "victim\u0000",
        "victim\u0000c1",
        f"victim\r\nDEL {{{namespace}:0}}:log:victim",
        "*",
        "?ictim",
        "[v]ictim",
        "\\victim",
        "VICTIM",
        "v\u0131ctim",
        "v\u200bictim",
        "victim' 'x",
        '"victim"',
        "$-1",
        "*3\r\n$3\r\nDEL\r\n",
        "$global",
        "victim\u0301",
    ]


@pytest.mark.guarantee("S9")
async def test_no_id_reaches_what_belongs_to_another(redis_url: str, namespace: str) -> None:
    """Ids of all kinds full of braces, colons, NULs and line ends leave other sessions and namespaces as they are."""
    async with (
        Redis.from_url(redis_url) as raw,
        ContextEngine(redis_url, namespace=namespace, workers=False, partitions=1) as engine,
        ContextEngine(redis_url, namespace=f"{namespace}.b", workers=False, partitions=1) as neighbour,
    ):

        async def keys_of_others() -> dict[bytes, bytes | None]:
            """Return the keys of the neighbour, and of the victim among its own."""
            theirs = {key async for key in raw.scan_iter(match=f"{{{namespace}.b*")}
            prefix = f"{{{namespace}:0}}:".encode()
            kinds = {b"log", b"session@1", b"history@1", b"context@1", b"checkpoints@1", b"checkpoint-order@1"}
            victims = {prefix + kind + b":victim" for kind in kinds} | {prefix + b"writes@1:victim\0c1"}
            return {key: await raw.dump(key) for key in sorted(theirs | victims)}

        for each in (engine, neighbour):
            await each.create_session("victim", "ann", {"a": 1})
            await each.add_conversation_messages("victim", [{"role": "user", "content": "hi"}] * SHORT_EVENTS)
            await each.set_context("victim", "key", 1)
            await each.store_checkpoint("victim", "c1", {"a": 1})
            await each.put_writes("victim", "c1", "t1", [("channel", 1)])
            await each.list_sessions()
        before = await keys_of_others()
        assert all(before.values())
        told = [await each.get_session("victim") for each in (engine, neighbour)]
        for name in injections(namespace):
            for write in (
                lambda name: engine.create_session(name, name, {name: name}),
                lambda name: engine.add_conversation_message(name, "user", name),
                lambda name: engine.set_context(name, name, name),
                lambda name: engine.delete_context(name, name),
                lambda name: engine.set_context("other", name, name),
                lambda name: engine.set_context(name, 1),
                lambda name: engine.store_checkpoint(name, name, {name: name}),
                lambda name: engine.store_checkpoint("other", name, {}),
                lambda name: engine.put_writes(name, name, name, [(name, name)]),
                lambda name: engine.put_writes("other", name, name, [(name, name)]),
                lambda name: engine.update_session(name, {"status": name, "user_id": name}),
                lambda name: engine.compress_conversation(name, strategy="truncate"),
                lambda name: engine.end_session(name, "cleared"),
                lambda name: engine.list_sessions(user_id=name),
                lambda name: engine.list_sessions(status=name),
                lambda name: engine.list_sessions(cursor=f"1:{name}"),
            ):
                with contextlib.suppress(ContextEngineError):
                    await write(name)
        await engine.list_sessions()
        assert await keys_of_others() == before
        assert [await each.get_session("victim") for each in (engine, neighbour)] == told
        assert [s.session_id for s in await neighbour.list_sessions()] == ["victim"]
        assert {s.session_id for s in await engine.list_sessions(user_id="ann")} == {"victim"}
        expected = [name for name in injections(namespace) if "\0" not in name and name != "$global"]
        assert {s.session_id for s in await engine.list_sessions()} == {"victim", "other", *expected}


@pytest.mark.parametrize(
    "odd", ["", "{x}", "a:b", "a b", "a\n", "a\0", "a}:log:x", "é", "x" * 65, "*", "?", "[a]", "\\"]
)
@pytest.mark.guarantee("S9")
async def test_no_namespace_reaches_another(redis_url: str, odd: str) -> None:
    """A namespace that could be read as part of a key, or as a pattern of keys, is refused."""
    with pytest.raises(InvalidInput):
        await open_store(redis_url, namespace=odd)
    with pytest.raises(InvalidInput):
        await ContextEngine(redis_url, namespace=odd).initialize()
