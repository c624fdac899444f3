"""The checkpoints of a workflow's thread and the writes beside them, as events in the order of their times."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime

from eventstore import CheckpointStored, CheckpointWritesStored, Event, InvalidInput
from eventstore.ids import check_name
from importing import Planned, Refused
from importing.parsing import Checkpoint, Writes, parse, require_same, utc
from importing.source import PAGE, Source, shown


async def thread_events(source: Source, thread_id: str) -> AsyncIterator[Planned]:
    """Give the checkpoints and writes, oldest first; of the same time, checkpoints before writes.

    Raises:
        Refused: One of them cannot be imported.
    """
    for page in _pages(sorted(await _times(source, thread_id))):
        wanted = [(kind, field) for _, kind, field in page]
        for (kind, field), raw in zip(wanted, await source.values(thread_id, wanted), strict=True):
            yield _planned(thread_id, kind, field, raw)[1]


async def _times(source: Source, thread_id: str) -> set[tuple[datetime, int, bytes]]:
    """Return when each checkpoint (0) and each of the writes (1) was stored."""
    times = set()
    for kind, fields in enumerate((source.checkpoints(thread_id), source.writes(thread_id))):
        async for field, raw in fields:
            stored_at, _ = _planned(thread_id, kind, field, raw)
            times.add((stored_at, kind, field))
    return times


def _planned(thread_id: str, kind: int, field: bytes, raw: bytes) -> tuple[datetime, Planned]:
    """Return when something was stored, and its event."""
    name = shown(field)
    key = f"{('checkpoints', 'checkpoint_writes')[kind]}:{thread_id}[{name}]"
    stored = parse(Writes, raw, key) if kind else parse(Checkpoint, raw, key)
    stored_at = utc(stored.created_at, key)
    require_same(stored.thread_id, thread_id, key)
    _check_name(stored.checkpoint_id, "checkpoint id", key)
    event: Event
    if isinstance(stored, Checkpoint):
        require_same(stored.checkpoint_id, name, key)
        event = CheckpointStored(stored.checkpoint_id, stored.data, stored.metadata or {}, occurred_at=stored_at)
    else:
        require_same(f"{stored.checkpoint_id}:{stored.task_id}", name, key)
        _check_name(stored.task_id, "task id", key)
        event = CheckpointWritesStored(stored.checkpoint_id, stored.task_id, stored.writes, occurred_at=stored_at)
    return stored_at, Planned(event, key)


def _check_name(name: str, what: str, key: str) -> None:
    try:
        check_name(name, what)
    except InvalidInput as error:
        raise Refused(key, str(error)) from None


def _pages(times: Iterable[tuple[datetime, int, bytes]]) -> Iterator[list[tuple[datetime, int, bytes]]]:
    rest = iter(times)
    while page := list(itertools.islice(rest, PAGE)):
        yield page
