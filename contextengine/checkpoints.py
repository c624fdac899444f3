"""The engine's checkpoints: the states of a workflow's thread, and the writes beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contextengine.arguments import dict_of, limit_of
from contextengine.plain import plain
from contextengine.runtime import Open
from eventstore import CheckpointStored, CheckpointWritesStored, Event, InvalidInput
from eventstore.ids import check_name


class Checkpoints(Open):
    """Checkpoints: of a thread, which is a stream of its own or that of the session of the same id."""

    async def store_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> bool:
        """Store a checkpoint. One of the same id is replaced, and becomes the latest.

        Args:
            thread_id: 1 to 512 bytes in UTF-8.
            checkpoint_id: Likewise.
            checkpoint_data: A dict of JSON values, or of what `contextengine.plain` makes such.
            metadata: Likewise.

        Returns:
            True: the checkpoint is in the log.

        Raises:
            InvalidInput: An argument cannot be accepted.
        """
        check_name(checkpoint_id, "checkpoint id")
        data = plain(dict_of(checkpoint_data, "checkpoint_data"), "checkpoint_data")
        beside = plain(dict_of(metadata, "metadata"), "metadata")
        await self._store(thread_id, CheckpointStored(checkpoint_id, data, beside))
        return True

    put_checkpoint = store_checkpoint

    async def get_checkpoint(self, thread_id: str, checkpoint_id: str | None = None) -> dict[str, Any] | None:
        """Return a checkpoint, the latest if no id is given; None if there is none.

        Returns:
            A plain dict: ``checkpoint_id``, ``thread_id``, ``data``, ``metadata``, ``created_at``, ``version``.
        """
        if checkpoint_id is None:
            return next(iter(await self._here().queries.checkpoints(thread_id, 1)), None)
        check_name(checkpoint_id, "checkpoint id")
        return await self._here().queries.checkpoint(thread_id, checkpoint_id)

    async def list_checkpoints(self, thread_id: str, limit: int | None = 10) -> list[dict[str, Any]]:
        """Return a thread's checkpoints, newest first, at most ``limit`` (0 or None for all)."""
        return await self._here().queries.checkpoints(thread_id, limit_of(limit))

    async def put_writes(
        self, thread_id: str, checkpoint_id: str, task_id: str, writes_data: Sequence[Sequence[Any]]
    ) -> bool:
        """Store the intermediate writes of a task beside a checkpoint, in place of the task's earlier ones.

        Args:
            thread_id: The thread.
            checkpoint_id: The checkpoint, which need not be stored yet.
            task_id: The task.
            writes_data: Tuples of JSON values.

        Returns:
            True: the writes are in the log.

        Raises:
            InvalidInput: An argument cannot be accepted.
        """
        check_name(checkpoint_id, "checkpoint id")
        check_name(task_id, "task id")
        if isinstance(writes_data, str) or not isinstance(writes_data, Sequence):
            raise InvalidInput(f"writes_data must be a list of tuples, not {type(writes_data).__name__}.")
        writes = [plain(write, "writes_data") for write in writes_data]
        await self._store(thread_id, CheckpointWritesStored(checkpoint_id, task_id, writes))
        return True

    async def get_writes(self, thread_id: str, checkpoint_id: str) -> list[tuple[Any, ...]]:
        """Return the writes of all tasks beside a checkpoint, as tuples, in the order in which they were stored."""
        check_name(checkpoint_id, "checkpoint id")
        found = await self._here().queries.writes(thread_id, checkpoint_id)
        return [tuple(write) if isinstance(write, list) else (write,) for write in found]

    async def _store(self, thread_id: str, event: Event) -> None:
        """Append, and project at once, so that nobody who reads the thread's messages meets a large tail."""
        runtime = self._here()
        await runtime.append(thread_id, event)
        await runtime.projector.project_if_permitted([thread_id])
