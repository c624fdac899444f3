"""The real package's CommunityManager, which keeps its models as global context values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from contextengine import ContextEngine
from with_aiecs.agents import CommunityManager, Model, ResourceType, ask, hybrid


async def manager(context_engine: ContextEngine) -> Any:
    """Return a manager that has loaded what the engine holds."""
    found = CommunityManager(context_engine)
    await found.initialize()
    return found


async def test_communities_come_back(context_engine: ContextEngine, caplog: pytest.LogCaptureFixture) -> None:
    """Communities, members, resources and decisions with their dates and enums are there for the next manager."""
    first = await manager(context_engine)
    community_id = await first.create_community("Writers", "They write", creator_agent_id="agent-1")
    member_id = await first.add_member_to_community(community_id, "agent-2", specializations=["verse"])
    resource_id = await first.create_community_resource(
        community_id, member_id, "Notes", ResourceType.KNOWLEDGE, {"deep": [{"at": datetime(2026, 1, 31, tzinfo=UTC)}]}
    )
    decision_id = await first.propose_decision(community_id, member_id, "Go", "Shall we?", "general")
    assert await first.vote_on_decision(decision_id, member_id, "for") is True
    second = await manager(context_engine)
    assert second.communities[community_id] == first.communities[community_id]
    assert second.members == first.members
    assert second.decisions == first.decisions
    assert second.member_communities["agent-2"] == {community_id}
    assert second.resources[resource_id].content == {"deep": [{"at": "2026-01-31T00:00:00Z"}]}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_values_of_python(context_engine: ContextEngine) -> None:
    """Two positional arguments are a global key and its value: dates, enums, sets and models become JSON."""
    at = datetime(2026, 1, 31, 12)  # noqa: DTZ001 - naive, as the package makes them
    assert (
        await context_engine.set_context("k", {"at": at, "kind": ResourceType.TOOL, "ids": {"a"}, "n": (1, 2)}) is True
    )
    value = await context_engine.get_context("k")
    assert value == {"at": "2026-01-31T12:00:00", "kind": ResourceType.TOOL.value, "ids": ["a"], "n": [1, 2]}
    assert await context_engine.get_context("nothing") is None


async def test_communities_and_sessions_stay_apart(context_engine: ContextEngine) -> None:
    """What a manager keeps makes no session, and stands in no session's list of keys."""
    await (await manager(context_engine)).create_community("Writers")
    await ask(await hybrid(context_engine, Model()), "Hello")
    assert [session.session_id for session in await context_engine.list_sessions()] == ["user-123"]
    assert await context_engine.list_contexts("user-123") == []
    assert "communities" in await context_engine.list_contexts()
