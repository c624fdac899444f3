"""Forking: a new session that shares another one's past.

The new session's log begins with copies of the other's events. A copy has the same version, so whatever speaks of
versions (a compaction, a checkpoint) speaks of the same things; it says when the original happened, and its meta where
it comes from. There is no reference to the other log: each stands by itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import msgspec

from eventstore.appending import MAX_EVENTS_PER_APPEND
from eventstore.errors import InvalidInput, SessionForgotten, UnknownSession, WrongExpectedVersion
from eventstore.events import Event, RecordedEvent, UnknownEvent
from eventstore.ids import check_session_id
from eventstore.store import Appended, EventStore, check_number

ORIGIN = "forked_from"
"""The key of a copy's meta under which its origin stands: the session, and up to which version it was copied."""
BATCH_BYTES = 8 * 1024 * 1024


async def fork(
    store: EventStore, session_id: str, at_version: int, new_session_id: str
) -> AsyncGenerator[tuple[Appended, list[Event]], None]:
    """Copy a session's events up to a version to a session that is new.

    A fork that was interrupted is simply made again: it goes on where it was. One that is complete stays as it is,
    whatever was appended to it since.

    Yields:
        Each append to the new session, and the events that were appended.

    Raises:
        InvalidInput: The session has not come to that version, or holds an event of a type that this version does not
            know; or an argument cannot be accepted.
        UnknownSession: The session has no events.
        SessionForgotten: The session was forgotten; what had been copied before is in the new session.
        WrongExpectedVersion: The new session exists, and is not this fork.
        EventTooLarge: A copy says a little more than its original, and is over the store's limit.
    """
    _check(session_id, at_version, new_session_id)
    head = await store.version(session_id)
    if head == 0:
        raise SessionForgotten(session_id) if await store.forgotten(session_id) else UnknownSession(session_id)
    if at_version > head:
        raise InvalidInput(f"Session {session_id!r} is at version {head}: it has not come to {at_version} yet.")
    origin = {"session_id": session_id, "version": at_version}
    there = await _copied(store, new_session_id, origin)
    async for page in store.read(session_id, after=there, until=at_version).pages():
        for meta, events in _batches(page, origin):
            appended = await store.append(new_session_id, events, expected_version=there, meta=meta)
            there = appended.version
            yield appended, events
    if await store.forgotten(session_id):
        raise SessionForgotten(session_id)


def _check(session_id: str, at_version: int, new_session_id: str) -> None:
    check_session_id(session_id)
    check_session_id(new_session_id)
    if check_number("at_version", at_version) == 0:
        raise InvalidInput("A fork shares at least the first event: at_version must be 1 or more.")
    if session_id == new_session_id:
        raise InvalidInput(f"A fork needs a session id of its own, and {session_id!r} is that of its origin.")


async def _copied(store: EventStore, new_session_id: str, origin: dict[str, Any]) -> int:
    """Return how many events of a fork are there already.

    Raises:
        WrongExpectedVersion: The session holds something else.
    """
    there = 0
    async for event in store.read(new_session_id, until=origin["version"]):
        if event.meta.get(ORIGIN) != origin:
            head = await store.version(new_session_id)
            raise WrongExpectedVersion(new_session_id, "no stream yet, or this fork", head, [event])
        there = event.version
    return there


def _batches(page: Sequence[RecordedEvent], origin: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[Event]]]:
    """Give the copies of events that leave together: those whose originals have the same meta."""
    batch: list[Event] = []
    meta: dict[str, Any] = {}
    size = 0
    for event in page:
        own = {key: value for key, value in event.meta.items() if key != "schema"} | {ORIGIN: origin}
        full = size + len(event.entry) > BATCH_BYTES or len(batch) == MAX_EVENTS_PER_APPEND
        if batch and (own != meta or full):
            yield meta, batch
            batch, size = [], 0
        meta, size = own, size + len(event.entry)
        batch.append(_copy(event))
    if batch:
        yield meta, batch


def _copy(event: RecordedEvent) -> Event:
    """Return an event that says when it happened.

    Raises:
        InvalidInput: It is of a type that this version does not know, so a copy might say something else.
    """
    if isinstance(event.data, UnknownEvent):
        raise InvalidInput(
            f"Session {event.session_id!r} holds a {event.type} at version {event.version}, a type that this version "
            "does not know. Fork it with the version that wrote it."
        )
    if event.data.occurred_at is not None:
        return event.data
    return msgspec.structs.replace(event.data, occurred_at=event.recorded_at)
