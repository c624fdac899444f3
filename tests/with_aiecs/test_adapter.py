"""The real package's ContextEngineAdapter: states of agents as checkpoints, sessions, conversations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from contextengine import ContextEngine
from with_aiecs.agents import ContextEngineAdapter, Model, hybrid


@pytest.fixture
def adapter(context_engine: ContextEngine) -> Any:
    """An adapter on each kind of store in turn."""
    return ContextEngineAdapter(context_engine, user_id="ann")


async def test_states(adapter: Any) -> None:
    """A state is loaded by its version; versions are listed, newest first."""
    versions = [await adapter.save_agent_state("agent-1", {"step": number}) for number in range(3)]
    named = await adapter.save_agent_state("agent-1", {"step": "named"}, version="v1.0")
    assert named == "v1.0"
    assert [await adapter.load_agent_state("agent-1", version) for version in (*versions, "v1.0", "v2.0")] == [
        {"step": 0},
        {"step": 1},
        {"step": 2},
        {"step": "named"},
        None,
    ]
    listed = await adapter.list_agent_versions("agent-1")
    assert [item["version"] for item in listed] == ["v1.0", *reversed(versions)]
    assert listed[0]["metadata"] == {"type": "agent_state", "agent_id": "agent-1"}
    await adapter.delete_agent_state("agent-1", "v1.0")
    assert len(await adapter.list_agent_versions("agent-1")) == 4


async def test_the_state_of_a_real_agent(adapter: Any, context_engine: ContextEngine) -> None:
    """What a real agent gives of itself, dates and all, is stored and comes back as real dicts."""
    agent = await hybrid(context_engine, Model())
    await adapter.save(agent)
    (item,) = await context_engine.list_checkpoints(thread_id=agent.agent_id)
    assert type(item) is type(item["data"]) is dict
    assert item["data"]["state"]["agent_id"] == "agent-1"
    assert datetime.fromisoformat(item["data"]["timestamp"]).tzinfo is None


async def test_checkpoints(adapter: Any) -> None:
    """Checkpoints by the adapter's own methods."""
    data = {"state": {"at": datetime.now(UTC)}}
    assert await adapter.store_checkpoint("thread", "c1", data, {"m": 1}) is True
    found = await adapter.get_checkpoint("thread", "c1")
    assert (type(found), found["data"], found["metadata"]) == (
        dict,
        {"state": {"at": data["state"]["at"].isoformat().replace("+00:00", "Z")}},
        {"m": 1},
    )
    assert await adapter.get_checkpoint("thread", "c2") is None


async def test_sessions_and_conversations(adapter: Any) -> None:
    """A conversation is saved with its session, and what is loaded is dicts with dates in ISO 8601."""
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi", "metadata": {"a": 1}}]
    await adapter.save_conversation_history("s", said)
    await adapter.save_conversation_history("s", [{"role": "user", "content": "Bye"}])
    loaded = await adapter.load_conversation_history("s")
    assert [item["content"] for item in loaded] == ["Hello", "Hi", "Bye"]
    assert all(datetime.fromisoformat(item["timestamp"]).tzinfo is None for item in loaded)
    assert await adapter.aadd_conversation_message("s", "user", "Once more") is True
    assert [item["content"] for item in await adapter.aget_conversation_history("s", limit=1)] == ["Once more"]
    session = await adapter.aget_session("s")
    assert (session["user_id"], session["metadata"]) == ("ann", {"type": "agent_conversation"})
    created = await adapter.acreate_session(user_id="bob", metadata={"x": 1})
    assert (await adapter.aget_session(created))["user_id"] == "bob"
    assert await adapter.end_session("s", status="failed") is True
    assert (await adapter.aget_session("s"))["status"] == "failed"
    assert await adapter.aget_session("nobody") is None


async def test_an_agent_and_its_session_of_one_name(adapter: Any, context_engine: ContextEngine) -> None:
    """States under an agent's id make no session, and none that is created under it loses them."""
    await adapter.save_agent_state("agent-1", {"step": 1}, version="v1")
    assert await adapter.aget_session("agent-1") is None
    assert await adapter.end_session("agent-1") is False
    await adapter.save_conversation_history("agent-1", [{"role": "user", "content": "Hello"}])
    assert (await adapter.aget_session("agent-1"))["user_id"] == "ann"
    assert await adapter.load_agent_state("agent-1", "v1") == {"step": 1}
    assert len(await context_engine.list_sessions()) == 1


@pytest.mark.parametrize("workers", [True, False])
async def test_workers_elsewhere(workers: bool, empty_redis: str) -> None:
    """The adapter finds the same with workers in the process and without."""
    async with ContextEngine(empty_redis, workers=workers) as context_engine:
        adapter = ContextEngineAdapter(context_engine)
        await adapter.save_agent_state("agent-1", {"step": 1}, version="v1")
        assert await adapter.load_agent_state("agent-1", "v1") == {"step": 1}
