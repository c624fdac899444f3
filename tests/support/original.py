"""Writes what the original ContextEngine (aiecs 2.2.0) writes to Redis: key by key and byte by byte.

Checked by hand against the real package: `tour`, played by this writer and by the real engine with the clock of this
one, left the same keys with the same bytes on a real server.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis


class Original:
    """The original's writing side.

    Args:
        client: Where to.
    """

    def __init__(self, client: Redis) -> None:
        self.client: Any = client
        self.now = datetime(2024, 5, 1, 10, 0, 0, 123_456)  # noqa: DTZ001 - the original's times are naive

    def tick(self, seconds: float = 1.000_001) -> str:
        """Let time pass, and return the new time."""
        self.now += timedelta(seconds=seconds)
        return self.now.isoformat()

    async def create_session(self, session_id: str, user_id: Any, metadata: dict[str, Any] | None = None) -> None:
        now = self.tick()
        session = {
            "session_id": session_id,
            "user_id": user_id,
            "created_at": now,
            "last_activity": now,
            "request_count": 0,
            "error_count": 0,
            "total_processing_time": 0.0,
            "status": "active",
        }
        await self.put("sessions", session_id, session)
        context = {"user_id": user_id, "chat_id": session_id, "metadata": metadata or {}}
        await self.store_task_context(session_id, context)

    async def store_task_context(self, session_id: str, context: dict[str, Any]) -> None:
        trackers: dict[str, Any] = {"context_history": [], "file_tracker": {}, "model_tracker": []}
        await self.put(
            "task_contexts", session_id, {**context, **{k: v for k, v in trackers.items() if k not in context}}
        )

    async def update_session(self, session_id: str, **fields: Any) -> None:
        """Replace fields of a session, if there is one, and touch it."""
        raw = await self.client.hget("sessions", session_id)
        if raw is not None:
            await self.put("sessions", session_id, {**json.loads(raw), "last_activity": self.now.isoformat(), **fields})

    async def end_session(self, session_id: str, status: str) -> None:
        self.tick()
        await self.update_session(session_id, status=status)

    async def add_message(
        self,
        session_id: str,
        role: str,
        content: Any,
        metadata: dict[str, Any] | None = None,
        *,
        tick: float = 1.000_001,
    ) -> None:
        message = {"role": role, "content": content, "timestamp": self.tick(tick), "metadata": metadata or {}}
        await self.client.lpush(f"conversation:{session_id}", json.dumps(message))
        await self.update_session(session_id)

    async def compact(self, session_id: str, keep: int) -> None:
        """Do as ``compress_conversation`` by truncation: of what it takes for the newest 50, keep the last."""
        kept = await self._read(session_id, 50)
        await self._replace(session_id, kept[-keep:])

    async def compact_on_append(self, session_id: str, keep: int) -> None:
        """Do as ``compress_on_append_if_needed``: what remains is stamped with one time, which bears an offset."""
        now = datetime.fromisoformat(self.tick()).replace(tzinfo=UTC).isoformat()
        kept = await self._read(session_id, 0)
        await self._replace(session_id, [{**message, "timestamp": now, "metadata": {}} for message in kept[-keep:]])

    async def create_conversation_session(
        self,
        session_id: str,
        key: str,
        participants: list[dict[str, Any]],
        session_type: str,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        now = self.tick()
        people: list[dict[str, Any]] = [
            {
                "participant_id": person["id"],
                "participant_type": person["type"],
                "participant_role": person.get("role"),
                "metadata": person.get("metadata", {}),
            }
            for person in participants
        ]
        conversation = {
            "session_id": session_id,
            "participants": people,
            "session_type": session_type,
            "created_at": now,
            "last_activity": now,
            "metadata": metadata or {},
        }
        await self.put("conversation_sessions", key, conversation)

    async def add_agent_message(
        self, key: str, sender: tuple[str, str, str], recipient: tuple[str, str, str], content: str, message_type: str
    ) -> None:
        metadata = {"message_id": "an-id"}
        metadata |= dict(zip(("sender_id", "sender_type", "sender_role"), sender, strict=True))
        metadata |= dict(zip(("recipient_id", "recipient_type", "recipient_role"), recipient, strict=True))
        await self.add_message(key, "_".join(sender[1:]), content, metadata | {"message_type": message_type})
        about = json.loads(await self.client.hget("conversation_sessions", key))
        await self.put("conversation_sessions", key, about | {"last_activity": self.now.isoformat()})

    async def store_checkpoint(
        self, thread_id: str, checkpoint_id: str, data: dict[str, Any], metadata: dict[str, Any] | None = None
    ) -> None:
        checkpoint = {
            "checkpoint_id": checkpoint_id,
            "thread_id": thread_id,
            "data": data,
            "metadata": metadata or {},
            "created_at": self.tick(),
        }
        await self.put(f"checkpoints:{thread_id}", checkpoint_id, checkpoint)

    async def put_writes(self, thread_id: str, checkpoint_id: str, task_id: str, writes: list[Any]) -> None:
        payload = {
            "thread_id": thread_id,
            "checkpoint_id": checkpoint_id,
            "task_id": task_id,
            "writes": writes,
            "created_at": self.tick(),
        }
        await self.put(f"checkpoint_writes:{thread_id}", f"{checkpoint_id}:{task_id}", payload)

    async def put(self, key: str, field: str, value: Any) -> None:
        """Store a field of a hash as the original does; a str as it stands."""
        await self.client.hset(key, field, value if isinstance(value, str) else json.dumps(value))

    async def _read(self, session_id: str, limit: int) -> list[dict[str, Any]]:
        found = await self.client.lrange(f"conversation:{session_id}", -limit, -1)
        return [json.loads(raw) for raw in reversed(found)]

    async def _replace(self, session_id: str, messages: list[dict[str, Any]]) -> None:
        await self.client.delete(f"conversation:{session_id}")
        for message in messages:
            await self.client.rpush(f"conversation:{session_id}", json.dumps(message))


WRITER, EDITOR = ("a1", "agent", "writer"), ("a2", "agent", "editor")
SPOKEN = {"s1": "s1_writer_to_editor"}
"""The key of the agents' conversation of the tour."""


async def tour(original: Original) -> None:
    """Write some of everything."""
    await original.create_session("s1", "ann", {"source": "web", "n": [1, None]})
    for number in range(3):
        await original.add_message("s1", "user", f"question {number} é\0", {"number": number})
        await original.add_message("s1", "assistant", f"answer {number}")
    original.tick()
    await original.update_session("s1", request_count=3, total_processing_time=1.25)
    original.tick()
    await original.update_session("s1", error_count=1)
    await original.create_session("ended", "bob")
    await original.add_message("ended", "user", "hi")
    await original.end_session("ended", "failed")
    for name in ("truncated", "stamped"):
        await original.create_session(name, "ann")
        for number in range(14):
            await original.add_message(name, "user", f"m{number}")
        await (original.compact if name == "truncated" else original.compact_on_append)(name, 10)
        for number in range(14, 17):
            await original.add_message(name, "user", f"m{number}")
    people: list[dict[str, Any]] = [
        {"id": "a1", "type": "agent", "role": "writer"},
        {"id": "a2", "type": "agent", "role": "editor", "metadata": {"x": 1}},
    ]
    await original.create_conversation_session("s1", SPOKEN["s1"], people, "agent_to_agent", {"topic": "t"})
    await original.add_agent_message(SPOKEN["s1"], WRITER, EDITOR, "do it", "task_assignment")
    await original.add_agent_message(SPOKEN["s1"], EDITOR, WRITER, "done", "communication")
    for number in range(3):
        await original.store_checkpoint("thread", f"c{number}", {"state": {"step": number}}, {"n": number})
    await original.store_checkpoint("thread", "c1", {"state": {"step": 9}})
    await original.put_writes("thread", "c1", "t2", [("ch", 1), ("ch2", {"a": [1]})])
    await original.put_writes("thread", "c1", "t1", [("ch", 3)])
    await original.store_checkpoint("s1", "c", {"x": 1})
    update = {"timestamp": 1714557600.5, "update_type": "message", "data": "d", "metadata": {"k": 1}}
    context = {"user_id": "ann", "chat_id": "s1", "metadata": {"source": "web", "n": [1, None]}}
    await original.store_task_context("s1", context | {"context_history": [update]})
