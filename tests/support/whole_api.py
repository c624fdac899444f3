"""Every public method of the engine, called once: what writes, in an order that makes sense, and what reads."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from contextengine import CompressionConfig, ContextEngine

Call: TypeAlias = Callable[[ContextEngine], Awaitable[Any]]

PEOPLE = [{"id": "u", "type": "user"}, {"id": "a", "type": "agent", "role": "coder"}]
TALK = "s_user_to_coder"
FEW = CompressionConfig(strategy="summarize", keep_recent=2, auto_compress_enabled=True, auto_compress_threshold=8)
LONG = 130
"""Messages, more than a reader gets along with a view."""


def many(count: int) -> list[dict[str, Any]]:
    """Return messages."""
    return [{"role": "user", "content": f"locker {n}", "shelf": n} for n in range(count)]


WRITES: dict[str, Call] = {
    "create_session": lambda e: e.create_session("s", "ann", {"source": "web"}),
    "add_conversation_message": lambda e: e.add_conversation_message("s", "user", "hi"),
    "add_conversation_messages": lambda e: e.add_conversation_messages("long", many(LONG)),
    "update_session": lambda e: e.update_session("s", {"plan": "pro"}, increment_requests=True),
    "set_context": lambda e: e.set_context("s", "key", {"a": [1]}),
    "update_context": lambda e: e.update_context("s", "key", lambda value: [value]),
    "delete_context": lambda e: e.delete_context("s", "key"),
    "store_task_context": lambda e: e.store_task_context("s", {"task": 1}),
    "store_checkpoint": lambda e: e.store_checkpoint("thread", "c1", {"step": 1}),
    "put_checkpoint": lambda e: e.put_checkpoint("thread", "c2", {"step": 2}),
    "put_writes": lambda e: e.put_writes("thread", "c1", "task", [("channel", 1)]),
    "create_conversation_session": lambda e: e.create_conversation_session("s", PEOPLE, "user_to_agent"),
    "add_agent_communication_message": lambda e: e.add_agent_communication_message(
        TALK, "u", "user", None, "a", "agent", "coder", "do it"
    ),
    "fork_session": lambda e: e.fork_session("long", 3, "forked"),
    "undo_messages": lambda e: e.undo_messages("forked", 2),
    "configure_compression": lambda e: e.configure_compression("compacted", keep_recent=3),
    "compress_conversation": lambda e: e.compress_conversation("long", config_override=FEW),
    "auto_compress_on_limit": lambda e: e.auto_compress_on_limit("long"),
    "compress_on_append_if_needed": lambda e: e.compress_on_append_if_needed("long"),
    "cleanup_inactive_sessions": lambda e: e.cleanup_inactive_sessions(),
    "cleanup_expired_sessions": lambda e: e.cleanup_expired_sessions(),
    "end_session": lambda e: e.end_session("s"),
}
READS: dict[str, Call] = {
    "get_session": lambda e: e.get_session("s"),
    "get_conversation_history": lambda e: e.get_conversation_history("long", 0),
    "format_conversation_history": lambda e: e.format_conversation_history("long", "string"),
    "get_compressed_context": lambda e: e.get_compressed_context("long"),
    "get_agent_conversation_history": lambda e: e.get_agent_conversation_history(TALK),
    "expand_summary": lambda e: e.expand_summary("long", LONG + 1),
    "get_context": lambda e: e.get_context("s", "key"),
    "list_contexts": lambda e: e.list_contexts("s"),
    "get_task_context": lambda e: e.get_task_context("s"),
    "get_checkpoint": lambda e: e.get_checkpoint("thread"),
    "list_checkpoints": lambda e: e.list_checkpoints("thread"),
    "get_writes": lambda e: e.get_writes("thread", "c1"),
    "list_sessions": lambda e: e.list_sessions(),
    "outcome": lambda e: e.outcome("s", ["nobody's"]),
    "get_global_metrics": lambda e: e.get_global_metrics(),
}
TELLS: dict[str, Call] = {
    "get_metrics": lambda e: e.get_metrics(),
    "health_check": lambda e: e.health_check(),
}
"""What reads, and tells something else each time."""
OPENS = {"initialize", "close"}
ERASES: dict[str, Call] = {"forget_session": lambda e: e.forget_session("s", unsigned=True, relatives=True)}
"""What takes a role of its own."""


def public_methods() -> set[str]:
    """Return the names of the engine's public methods."""
    return {name for name, _ in inspect.getmembers(ContextEngine, inspect.isfunction) if not name.startswith("_")}


async def answers(engine: ContextEngine) -> dict[str, Any]:
    """Return what all reads answer."""
    return {name: await read(engine) for name, read in READS.items()}


async def works(engine: ContextEngine) -> None:
    """Check that an engine takes sessions of all partitions, gives them back, and feels healthy."""
    async with engine:
        for number in range(20):
            await engine.add_conversation_message(f"s{number}", "user", "x")
        assert len(await engine.list_sessions()) == 20
        for number in range(20):
            assert [m.content for m in await engine.get_conversation_history(f"s{number}")] == ["x"]
        health = await engine.health_check()
        assert (health["status"], health["storage_backend"], health["redis_connected"]) == ("healthy", "redis", True)
