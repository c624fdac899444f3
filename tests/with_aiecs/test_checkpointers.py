"""The calls of a LangGraph checkpointer, as the interface of the real package names them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from contextengine import ContextEngine
from with_aiecs.agents import storage_interface


async def test_a_thread_of_a_graph(context_engine: ContextEngine) -> None:
    """Checkpoints and the pending writes beside them, with keywords, newest first, writes as tuples."""
    backend: Any = context_engine
    for step in range(3):
        checkpoint = {"v": 1, "id": f"c{step}", "channel_values": {"messages": [step]}, "pending_sends": []}
        metadata = {"source": "loop", "step": step, "parents": {}}
        assert await backend.put_checkpoint(
            thread_id="thread-1", checkpoint_id=f"c{step}", checkpoint_data=checkpoint, metadata=metadata
        )
        assert await backend.put_writes(
            thread_id="thread-1", checkpoint_id=f"c{step}", task_id="t1", writes_data=[("messages", {"n": step})]
        )
    latest = await backend.get_checkpoint(thread_id="thread-1")
    assert (latest["checkpoint_id"], latest["data"]["channel_values"]) == ("c2", {"messages": [2]})
    assert latest["metadata"] == {"source": "loop", "step": 2, "parents": {}}
    listed = await backend.list_checkpoints(thread_id="thread-1", limit=2)
    assert [item["checkpoint_id"] for item in listed] == ["c2", "c1"]
    assert await backend.get_writes(thread_id="thread-1", checkpoint_id="c1") == [("messages", {"n": 1})]
    assert await backend.get_writes(thread_id="thread-1", checkpoint_id="none") == []


INTERFACES = [
    "ISessionStorage",
    "IConversationStorage",
    "ICheckpointStorage",
    "ICheckpointerBackend",
    "ITaskContextStorage",
    "IStorageBackend",
]


@pytest.mark.parametrize("name", INTERFACES)
def test_every_method_of_the_interfaces(name: str) -> None:
    """Each abstract method of the package's interfaces exists here, async as there, and takes the same arguments."""
    interface = getattr(storage_interface, name)
    for method in interface.__abstractmethods__:
        own = getattr(ContextEngine, method)
        assert inspect.iscoroutinefunction(own), method
        wanted = list(inspect.signature(getattr(interface, method)).parameters.items())
        given = inspect.signature(own).parameters
        for name_, parameter in wanted:
            assert name_ in given, f"{method} has no argument {name_!r}"
            if parameter.default is not inspect.Parameter.empty:
                assert given[name_].default == parameter.default, f"{method}: {name_}"
        positional = [name_ for name_, _ in wanted]
        assert list(given)[: len(positional)] == positional, method
