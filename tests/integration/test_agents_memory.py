"""What agents keep beside their conversation: contexts, checkpoints, talks among themselves, counts."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
import pytest

from contextengine import ContextEngine, InvalidInput, UnknownSession
from contextengine.tally import Tally
from eventstore import SessionUpdated


@pytest.fixture
async def engine(url: str, namespace: str) -> AsyncIterator[ContextEngine]:
    """An open engine on each kind of store in turn."""
    async with ContextEngine(url, namespace=namespace) as engine:
        yield engine


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    tags: frozenset[str]


class Reading(msgspec.Struct):
    at: dt.datetime


class Model:
    """Stands for a pydantic model: what counts is ``model_dump``."""

    def model_dump(self) -> dict[str, Any]:
        return {"colour": Colour.RED, "points": (Point(1, frozenset({"a"})),)}


NOON = dt.datetime(2026, 1, 31, 12, 0, 0, 5000)  # noqa: DTZ001 - naive, as agents use them


class TestContexts:
    async def test_the_global_form_belongs_to_no_session(self, engine: ContextEngine) -> None:
        """With two arguments a value is global: no session sees it, and it is none."""
        assert await engine.set_context("communities", {"a": 1}) is True
        await engine.set_context("s", "communities", "the session's")
        assert await engine.get_context("communities") == {"a": 1}
        assert await engine.get_context("s", "communities") == "the session's"
        assert await engine.list_contexts() == ["communities"]
        assert [session.session_id for session in await engine.list_sessions()] == ["s"]
        assert await engine.delete_context("communities") is True
        assert await engine.get_context("communities") is None

    @pytest.mark.parametrize(
        ("given", "stored"),
        [
            (NOON, "2026-01-31T12:00:00.005000"),
            (NOON.replace(tzinfo=dt.UTC), "2026-01-31T12:00:00.005000Z"),
            (dt.date(2026, 1, 31), "2026-01-31"),
            (decimal.Decimal("1.10"), "1.10"),
            (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (Colour.RED, "red"),
            ((1, [2, (3,)]), [1, [2, [3]]]),
            ({5}, [5]),
            (Point(1, frozenset({"a"})), {"x": 1, "tags": ["a"]}),
            (Reading(NOON), {"at": "2026-01-31T12:00:00.005000"}),
            ([Model()], [{"colour": "red", "points": [{"x": 1, "tags": ["a"]}]}]),
        ],
        ids=lambda value: str(value)[:30],
    )
    async def test_python_values_are_mapped_as_documented(self, engine: ContextEngine, given: Any, stored: Any) -> None:
        """What the table of `contextengine.plain` says is what comes back."""
        await engine.set_context("s", "k", {"value": given})
        assert await engine.get_context("s", "k") == {"value": stored}

    @pytest.mark.parametrize("value", [b"x", float("nan"), object(), {1: 2}, {None: 1}, [float("inf")], "\ud800"])
    async def test_other_values_are_refused(self, engine: ContextEngine, value: Any) -> None:
        """What has no place in the table is refused, and nothing is written."""
        with pytest.raises(InvalidInput):
            await engine.set_context("s", "k", {"deep": [value]})
        assert await engine.get_session("s") is None

    async def test_update_loses_nobodys_change(self, url: str, namespace: str, engine: ContextEngine) -> None:
        """The shopping cart: 40 concurrent changes, amid other events, all are in the result."""

        def add(number: int) -> Any:
            def change(cart: dict[str, Any] | None) -> dict[str, Any]:
                cart = cart or {"items": [], "total": 0}
                return {"items": [*cart["items"], number], "total": cart["total"] + 1}

            return change

        await asyncio.gather(
            *(engine.update_context("s", "cart", add(number)) for number in range(40)),
            *(engine.add_conversation_message("s", "user", str(number)) for number in range(40)),
        )
        cart = await engine.get_context("s", "cart")
        assert (cart["total"], sorted(cart["items"])) == (40, list(range(40)))

    async def test_update_takes_async_functions_and_passes_errors_on(self, engine: ContextEngine) -> None:
        """The change may await; what it raises is the caller's, and nothing is written."""

        async def double(value: int | None) -> int:
            await anyio.lowlevel.checkpoint()
            return 2 * (value or 1)

        assert await engine.update_context("s", "k", double) == 2
        assert await engine.update_context("s", "k", double) == 4
        with pytest.raises(ZeroDivisionError):
            await engine.update_context("s", "k", lambda value: value / 0)
        with pytest.raises(InvalidInput):
            await engine.update_context("s", "k", lambda _: object())
        assert await engine.get_context("s", "k") == 4

    async def test_delete(self, engine: ContextEngine) -> None:
        """Deleting says whether there was something; deleting nothing writes nothing."""
        await engine.set_context("s", "k", None)
        assert [await engine.delete_context("s", "k") for _ in range(2)] == [True, False]
        assert await engine.delete_context("nobody", "k") is False
        assert await engine.get_session("nobody") is None

    async def test_task_context(self, engine: ContextEngine) -> None:
        """A session has a task context from the start, until another is stored; it is no context key."""
        assert await engine.get_task_context("s") is None
        await engine.create_session("s", "ann", {"a": 1})
        assert await engine.get_task_context("s") == {"user_id": "ann", "chat_id": "s", "metadata": {"a": 1}}
        await engine.store_task_context("s", {"user_id": "ann", "step": NOON})
        assert await engine.get_task_context("s") == {"user_id": "ann", "step": "2026-01-31T12:00:00.005000"}
        assert await engine.list_contexts("s") == []


class TestCheckpoints:
    async def test_stored_listed_and_latest(self, engine: ContextEngine) -> None:
        """Checkpoints come back as real dicts, newest first; one stored again is the latest."""
        for number in range(12):
            data = {"state": {"n": number}, "version": number, "timestamp": NOON}
            assert await engine.store_checkpoint("t", f"c{number}", data, {"m": number}) is True
        await engine.put_checkpoint(thread_id="t", checkpoint_id="c3", checkpoint_data={"state": "again"})
        listed = await engine.list_checkpoints(thread_id="t")
        assert [item["checkpoint_id"] for item in listed] == ["c3", *(f"c{n}" for n in range(11, 3, -1)), "c2"]
        assert len(await engine.list_checkpoints("t", limit=0)) == 12
        one = await engine.get_checkpoint(thread_id="t", checkpoint_id="c5")
        assert type(one) is type(listed[0]) is dict
        assert one["data"] == {"state": {"n": 5}, "version": 5, "timestamp": "2026-01-31T12:00:00.005000"}
        assert (one["thread_id"], one["metadata"]) == ("t", {"m": 5})
        latest = await engine.get_checkpoint("t")
        assert latest is not None
        assert latest["data"] == {"state": "again"}
        assert await engine.get_checkpoint("t", "other") is None
        assert await engine.get_checkpoint("other") is None
        assert await engine.list_checkpoints("other") == []

    async def test_writes(self, engine: ContextEngine) -> None:
        """The writes of a checkpoint's tasks come in order, as tuples; a task's later ones replace its earlier ones."""
        await engine.put_writes("t", "c", "b", [("channel", {"x": 1}), ("other", None)])
        await engine.put_writes("t", "c", "a", [("late", 1)])
        await engine.put_writes("t", "c2", "a", [("elsewhere", 1)])
        assert await engine.get_writes("t", "c") == [("channel", {"x": 1}), ("other", None), ("late", 1)]
        await engine.put_writes("t", "c", "b", [("channel", 2)])
        assert await engine.get_writes("t", "c") == [("late", 1), ("channel", 2)]
        assert await engine.get_writes("t", "none") == []

    async def test_a_thread_of_checkpoints_is_no_session(self, engine: ContextEngine) -> None:
        """Checkpoints alone make no session; with one of the same id they live side by side."""
        await engine.store_checkpoint("t", "c", {"state": 1})
        assert await engine.get_session("t") is None
        assert await engine.list_sessions() == []
        created = await engine.create_session("t", "ann")
        await engine.store_checkpoint("t", "d", {"state": 2})
        assert created.user_id == "ann"
        assert [session.session_id for session in await engine.list_sessions()] == ["t"]
        assert len(await engine.list_checkpoints("t")) == 2

    @pytest.mark.guarantee("L8")
    async def test_a_thread_of_checkpoints_cannot_be_updated_or_ended(
        self, url: str, namespace: str, engine: ContextEngine
    ) -> None:
        """What needs a session says that a thread is none, writes nothing, and works as soon as there is a session."""
        await engine.store_checkpoint("t", "c", {"state": 1})
        await engine.put_writes("t", "c", "task", [("channel", 1)])
        store = engine._here().store
        for _ in range(2):
            with pytest.raises(UnknownSession):
                await engine.update_session("t", increment_requests=True)
            with pytest.raises(UnknownSession):
                await engine.end_session("t", status="cleared")
        assert await store.version("t") == 2
        await engine.create_session("t")
        await asyncio.gather(*(engine.update_session("t", increment_requests=True) for _ in range(20)))
        assert await engine.end_session("t") is True
        session = await engine.get_session("t")
        assert session is not None
        assert (session.request_count, session.status, session.version) == (20, "completed", 24)

    async def test_a_session_that_another_engine_began_can_be_updated(self, redis_url: str, namespace: str) -> None:
        """An engine asks once whether a session exists that it does not know, even where it cannot be folded."""
        async with (
            ContextEngine(redis_url, namespace=namespace, workers=False) as one,
            ContextEngine(redis_url, namespace=namespace, workers=False) as other,
        ):
            await one.store_checkpoint("s", "c", {"state": 1})
            await one.add_conversation_message("s", "user", "x")
            await one._here().store.append("s", SessionUpdated(changes={"request_count": "many"}))
            assert await other.update_session("s", increment_requests=True) is True
            assert await other.end_session("s") is True
            assert await one._here().store.version("s") == 5

    async def test_large_checkpoints_are_out_of_the_way_of_the_history(self, engine: ContextEngine) -> None:
        """A reader of the session's messages meets no checkpoint in the tail."""
        await engine.add_conversation_message("s", "user", "hello")
        await engine.store_checkpoint("s", "c", {"state": "x" * 900_000})
        snapshot = await engine._here().views.read_history("s", 50)
        assert snapshot.tail == []
        assert [m.content for m in await engine.get_conversation_history("s")] == ["hello"]

    @pytest.mark.parametrize(
        ("method", "arguments"),
        [
            ("store_checkpoint", ("", "c", {})),
            ("store_checkpoint", ("t", "", {})),
            ("store_checkpoint", ("t", "c", [])),
            ("store_checkpoint", ("t", "c", {"x": object()})),
            ("store_checkpoint", ("t", "c", {}, "text")),
            ("get_checkpoint", ("t", 5)),
            ("list_checkpoints", ("t", -1)),
            ("put_writes", ("t", "c", "", [])),
            ("put_writes", ("t", "c", "a", "text")),
            ("get_writes", ("t", "")),
        ],
    )
    async def test_bad_input(self, engine: ContextEngine, method: str, arguments: tuple[Any, ...]) -> None:
        """Bad arguments are refused, and nothing is written."""
        with pytest.raises(InvalidInput):
            await getattr(engine, method)(*arguments)
        assert await engine._here().store.version("t") == 0


PEOPLE: list[dict[str, Any]] = [
    {"id": "u", "type": "user"},
    {"id": "m", "type": "master_controller"},
    {"id": "a", "type": "agent", "role": "writer"},
    {"id": "b", "type": "agent", "role": "editor", "metadata": {"x": 1}},
]


class TestAgents:
    @pytest.mark.parametrize(
        ("kind", "key"),
        [
            ("user_to_mc", "s"),
            ("mc_to_agent", "s_mc_to_writer"),
            ("agent_to_agent", "s_writer_to_editor"),
            ("user_to_agent", "s_user_to_writer"),
        ],
    )
    async def test_each_conversation_is_a_session_of_its_own(self, engine: ContextEngine, kind: str, key: str) -> None:
        """Who talks with whom decides the session; its messages say from whom, to whom, and of what kind they are."""
        assert await engine.create_conversation_session("s", PEOPLE, kind, {"topic": "x"}) == key
        ends = ("a", "agent", "writer", "b", "agent", "editor")
        assert await engine.add_agent_communication_message(key, *ends, "first", "task_assignment") is True
        await engine.add_agent_communication_message(key, *ends, "second", metadata={"x": 1})
        history = await engine.get_agent_conversation_history(key)
        assert [(m["role"], m["content"]) for m in history] == [("agent_writer", "first"), ("agent_writer", "second")]
        assert history[1]["metadata"]["recipient_id"] == "b"
        assert history[1]["metadata"]["x"] == 1
        chosen = await engine.get_agent_conversation_history(key, message_types=["task_assignment"])
        assert [m["content"] for m in chosen] == ["first"]
        session = await engine.get_session(key)
        assert session is not None
        assert session.metadata["topic"] == "x"
        assert session.metadata["participants"] == PEOPLE

    async def test_a_limit_counts_messages_of_the_wanted_types(self, engine: ContextEngine) -> None:
        """The newest N of a type are found behind any number of others."""
        ends = ("a", "agent", "writer", "b", "agent", "editor")
        for number in range(5):
            await engine.add_agent_communication_message("k", *ends, str(number), "feedback")
        for _ in range(60):
            await engine.add_agent_communication_message("k", *ends, "noise")
        found = await engine.get_agent_conversation_history("k", limit=2, message_types=["feedback"])
        assert [m["content"] for m in found] == ["3", "4"]

    @pytest.mark.parametrize(
        ("people", "kind"),
        [(PEOPLE, "other"), (PEOPLE[:1], "user_to_mc"), ([{"id": "", "type": "user"}], "user_to_mc")],
    )
    async def test_bad_conversations(self, engine: ContextEngine, people: list[dict[str, Any]], kind: str) -> None:
        """A conversation of an unknown kind, or without those whom it needs, is refused."""
        with pytest.raises(InvalidInput):
            await engine.create_conversation_session("s", people, kind)
        assert await engine.list_sessions() == []

    async def test_unknown_message_types(self, engine: ContextEngine) -> None:
        """A message is of a known type."""
        with pytest.raises(InvalidInput, match="task_assignment"):
            await engine.add_agent_communication_message("k", "a", "agent", None, "b", "agent", None, "x", "gossip")


class TestCleanup:
    async def test_idle_sessions_end_and_nothing_is_deleted(self, engine: ContextEngine) -> None:
        """Active sessions that were idle for long enough end as expired; the others, and all messages, stay."""
        await engine.add_conversation_message("a", "user", "x")
        await engine.add_conversation_message("b", "user", "x")
        await engine.end_session("b")
        assert await engine.cleanup_inactive_sessions(max_idle_seconds=1800) == 0
        assert await engine.cleanup_expired_sessions(max_idle_hours=24) == 0
        assert await engine.cleanup_inactive_sessions(max_idle_seconds=0) == 1
        assert [s.session_id for s in await engine.list_sessions(status="expired")] == ["a"]
        assert [s.session_id for s in await engine.list_sessions(status="completed")] == ["b"]
        assert len(await engine.get_conversation_history("a")) == 1
        assert await engine.cleanup_inactive_sessions(max_idle_seconds=0) == 0

    @pytest.mark.parametrize("seconds", [-1, "60", None, float("nan"), True])
    async def test_bad_times(self, engine: ContextEngine, seconds: float) -> None:
        """An idle time is a number from 0."""
        with pytest.raises(InvalidInput):
            await engine.cleanup_inactive_sessions(max_idle_seconds=seconds)


class TestFormats:
    async def test_each_format(self, engine: ContextEngine) -> None:
        """Messages, one text, plain dicts."""
        await engine.add_conversation_message("s", "user", "hi", {"a": 1})
        await engine.add_conversation_message("s", "assistant", "hello")
        messages = await engine.format_conversation_history(session_id="s", format="messages")
        assert [m.content for m in messages] == ["hi", "hello"]
        dicts = await engine.format_conversation_history("s", format="dict")
        assert [type(m) for m in dicts] == [dict, dict]
        assert dicts == messages
        text = await engine.format_conversation_history("s", format="string")
        stamps = [f"[{m.timestamp:%Y-%m-%d %H:%M:%S}]" for m in messages]
        assert text == f"{stamps[0]} user: hi\n\n{stamps[1]} assistant: hello"
        with pytest.raises(ValueError, match="messages, string, dict"):
            await engine.format_conversation_history("s", format="xml")


@pytest.fixture
def never_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let figures be known by counting alone."""

    async def refresh(_tally: Tally) -> None:
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(Tally, "refresh", refresh)


class TestMetrics:
    async def test_own_deeds_are_counted_at_once(self, engine: ContextEngine) -> None:
        """Without awaiting, the figures hold what this engine did; awaited, they are exact."""
        await engine.create_session("s", "ann")
        await engine.add_conversation_message("s", "user", "x")
        await engine.add_conversation_message("t", "user", "x")
        await engine.set_context("s", "k", 1)
        await engine.end_session("t")
        expected = {
            "total_sessions": 2,
            "active_sessions": 1,
            "total_messages": 2,
            "total_context_operations": 1,
            "total_checkpoints": 0,
        }
        assert engine.get_global_metrics() == expected
        assert await engine.get_global_metrics() == expected
        metrics = await engine.get_metrics()
        assert expected.items() <= metrics.items()
        assert dt.datetime.fromisoformat(metrics["timestamp"]).tzinfo is None

    async def test_sessions_that_were_cleaned_up_are_counted_at_once(
        self, engine: ContextEngine, never_refreshed: None
    ) -> None:
        """The sessions that a cleanup ended are active no more in the figures that follow it."""
        for number in range(3):
            await engine.add_conversation_message(f"s{number}", "user", "x")
        assert await engine.cleanup_inactive_sessions(max_idle_seconds=0) == 3
        metrics = engine.get_global_metrics()
        assert (metrics["total_sessions"], metrics["active_sessions"]) == (3, 0)
        assert await metrics == metrics

    async def test_a_session_on_a_thread_of_checkpoints_is_counted_at_once(
        self, engine: ContextEngine, never_refreshed: None
    ) -> None:
        """Checkpoints and writes count no session; creating one on their thread does."""
        await engine.put_writes("t", "c", "task", [("channel", 1)])
        await engine.store_checkpoint("t", "c", {"state": 1})
        assert engine.get_global_metrics()["total_sessions"] == 0
        await asyncio.gather(*(engine.create_session("t") for _ in range(5)))
        metrics = engine.get_global_metrics()
        assert (metrics["total_sessions"], metrics["active_sessions"], metrics["total_checkpoints"]) == (1, 1, 1)
        assert await metrics == metrics

    async def test_what_others_did_comes_within_a_second(self, redis_url: str, namespace: str) -> None:
        """Another engine's messages show without being asked for."""
        async with (
            ContextEngine(redis_url, namespace=namespace) as one,
            ContextEngine(redis_url, namespace=namespace) as other,
        ):
            for number in range(10):
                await one.add_conversation_message(f"s{number}", "user", "x")
            with anyio.fail_after(2):
                while other.get_global_metrics()["total_messages"] != 10:
                    await anyio.sleep(0.01)  # no-sleep-ok: waits for the state
            assert other.get_global_metrics()["total_sessions"] == 10
            assert one.get_global_metrics()["total_messages"] == 10

    async def test_what_was_there_before_is_known_from_the_start(self, redis_url: str, namespace: str) -> None:
        """An engine that opens on existing sessions counts them."""
        async with ContextEngine(redis_url, namespace=namespace) as engine:
            await engine.add_conversation_message("s", "user", "x")
            await engine.get_metrics()
        async with ContextEngine(redis_url, namespace=namespace) as engine:
            assert engine.get_global_metrics()["total_messages"] == 1
