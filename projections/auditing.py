"""Auditing: do the views say what the log says? Each part of a view is held against the fold at that part's version.

So it works while everybody writes: what is compared is what a view claims to be, not what it may be a moment later.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from eventstore.errors import CorruptLog, FoldFailed, SessionArchived, SessionForgotten
from eventstore.store import EventStore
from projections.checkpoints import Writes
from projections.following import Following
from projections.past import Past
from projections.session import ACTIVE, SessionState
from projections.views import Listed, Snapshot, Totals, ViewStore

MISSING = "nothing"
"""What is told where there is nothing to tell."""
TRIES = 5
"""How often a list is looked at again, because a session may have moved in it meanwhile."""


class Drift(msgspec.Struct, frozen=True):
    """A part of a view that does not say what the log says.

    Attributes:
        session_id: The session; None for counts over all sessions.
        version: The version that the view claims to stand at.
        field: Which part: ``history[3].content``, ``context['plan']``, ``state.request_count`` ...
        stored: What the view says.
        folded: What the log comes to.
    """

    session_id: str | None
    version: int
    field: str
    stored: Any
    folded: Any


class Audited(msgspec.Struct, frozen=True):
    """A session whose views have been held against its log.

    Attributes:
        session_id: The session.
        version: The version of its views.
        head: The version of its log.
        state: The session view.
        drifts: Where they differ.
    """

    session_id: str
    version: int
    head: int
    state: SessionState
    drifts: list[Drift]


class Claim(msgspec.Struct, frozen=True):
    """What a part of a view says, and at which version."""

    version: int
    part: str
    key: str
    stored: Any


async def audit(store: EventStore, views: ViewStore, session_id: str) -> Audited:
    """Hold all views of a session against the fold of its log.

    Raises:
        StoreUnavailable: The server does not answer.
    """
    views = await views.pinned()
    try:
        claims, newest = await _claims(views, session_id)
        folded, told = Past(session_id), {claim.key for claim in claims if claim.part == "writes"}
        drifts = await _compared(store, folded, claims)
        unsaid = {owner for owner, _ in folded.writes} - told
        drifts += await _compared(store, folded, await _writes(views, session_id, sorted(unsaid)))
        head = await store.version(session_id)
        if drifts and await store.forgotten(session_id):
            return Audited(session_id, 0, 0, SessionState(), [])
    except SessionForgotten:
        return Audited(session_id, 0, 0, SessionState(), [])
    except (CorruptLog, FoldFailed, SessionArchived) as error:
        return Audited(session_id, 0, 0, SessionState(), [Drift(session_id, error.version, "log", MISSING, str(error))])
    return Audited(session_id, newest.version, head, newest.state, _once(drifts))


async def audit_lists(views: ViewStore, audited: Mapping[str, SessionState]) -> AsyncIterator[Drift]:
    """Hold the lists against the session views: who stands in which, and where.

    Args:
        views: The views.
        audited: The sessions to look at, and what they were when they were audited.
    """
    doubted = dict(audited)
    for tries in reversed(range(TRIES)):
        found = [drift async for drift in _listing(views, doubted)]
        if not found or not tries:
            break
        names = sorted({drift.session_id for drift in found if drift.session_id is not None})
        doubted = {snapshot.session_id: snapshot.state for snapshot in await views.read_sessions(names)}
    for drift in found:
        yield drift


async def audit_totals(store: EventStore, views: ViewStore, states: Iterable[tuple[int, SessionState]]) -> list[Drift]:
    """Hold the counts over all sessions against versions and states of all of them. Nobody may write meanwhile."""
    views = await views.pinned()
    await Following(store, views).catch_up()
    every = list(states)
    sessions = [state for _, state in every if state.created_ms]
    folded = Totals(
        sessions=len(sessions),
        active_sessions=sum(state.status == ACTIVE for state in sessions),
        messages=sum(state.message_count for _, state in every),
        context_operations=sum(state.context_operations for _, state in every),
        checkpoints=sum(state.checkpoint_count for _, state in every),
        events=sum(version for version, _ in every),
        configured=sum(state.configured for _, state in every),
    )
    stored = await views.totals()
    return list(_differences(None, 0, "totals", msgspec.to_builtins(stored), msgspec.to_builtins(folded)))


async def _claims(views: ViewStore, session_id: str) -> tuple[list[Claim], Snapshot[Any]]:
    """Read everything that the views of a session say, part by part, each with its version."""
    history, keys, checkpoints = await asyncio.gather(
        views.read_history(session_id, None),
        views.read_context_keys(session_id),
        views.read_checkpoints(session_id, None),
    )
    (newest,) = await views.read_sessions([session_id])
    values = await asyncio.gather(*(views.read_context(session_id, key) for key in keys.value))
    writes = await _writes(views, session_id, [checkpoint["checkpoint_id"] for checkpoint in checkpoints.value])
    for snapshot in (history, newest):
        if isinstance(snapshot.damage, CorruptLog) and snapshot.damage.version <= snapshot.version:
            raise snapshot.damage
    return [
        Claim(newest.version, "state", "", newest.state),
        Claim(history.version, "state", "", history.state),
        *_said(history, "history", "", history.value.messages),
        *_said(history, "compaction", "", history.value.compaction),
        *_said(keys, "context keys", "", sorted(keys.value)),
        *(claim for key, each in zip(keys.value, values, strict=True) for claim in _said(each, "context", key)),
        *_said(checkpoints, "checkpoints", ""),
        *writes,
    ], newest


def _said(snapshot: Snapshot[Any], part: str, key: str, stored: Any = MISSING) -> list[Claim]:
    """Return what a snapshot claims of a part, nothing if that is not stored. By default it is all of the value."""
    stored = snapshot.value if stored is MISSING else stored
    return [] if snapshot.let_go or snapshot.short else [Claim(snapshot.version, part, key, stored)]


async def _writes(views: ViewStore, session_id: str, owners: Sequence[str]) -> list[Claim]:
    found = await asyncio.gather(*(views.read_writes(session_id, owner) for owner in owners))
    return [claim for owner, each in zip(owners, found, strict=True) for claim in _said(each, "writes", owner)]


async def _compared(store: EventStore, folded: Past, claims: list[Claim]) -> list[Drift]:
    """Fold a log on through the versions of the claims, and compare each claim on the way."""
    session_id = folded.session_id
    by_version: dict[int, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_version[claim.version].append(claim)
    drifts: list[Drift] = []
    for version in sorted(by_version):
        if version > folded.version:
            async for page in store.read(session_id, after=folded.version, until=version).pages():
                folded.take(page)
        if version > folded.version:
            drifts.append(Drift(session_id, version, "version", version, folded.version))
            break
        for claim in by_version[version]:
            drifts += _differences(session_id, version, *_sides(claim, folded))
    return drifts


def _once(drifts: Iterable[Drift]) -> list[Drift]:
    """Leave out what was told already: the session view is read more than once."""
    return list({(drift.version, drift.field): drift for drift in drifts}.values())


def _sides(claim: Claim, folded: Past) -> tuple[str, Any, Any]:
    """Return a claim's name, what the view says, and what the log comes to, as plain values."""
    part, key, stored = claim.part, claim.key, claim.stored
    match part:
        case "state":
            return part, msgspec.structs.asdict(stored), msgspec.structs.asdict(folded.state)
        case "history":
            return part, stored, folded.history.messages
        case "compaction":
            return part, msgspec.to_builtins(stored), msgspec.to_builtins(folded.compaction)
        case "context keys":
            return part, stored, sorted(folded.context)
        case "context":
            return f"context[{key!r}]", stored, [folded.context[key]] if key in folded.context else []
        case _:
            return _sides_of_checkpoints(claim, folded)


def _sides_of_checkpoints(claim: Claim, folded: Past) -> tuple[str, Any, Any]:
    if claim.part == "checkpoints":
        return "checkpoints", claim.stored, list(reversed(folded.checkpoints.values()))
    written = [writes for (owner, _), writes in folded.writes.items() if owner == claim.key]
    return f"writes[{claim.key!r}]", _by_version(claim.stored), _by_version(written)


def _by_version(writes: Sequence[Writes]) -> list[Writes]:
    return sorted(writes, key=lambda each: each["version"])


def _differences(session_id: str | None, version: int, path: str, stored: Any, folded: Any) -> Iterable[Drift]:
    """Give the innermost places where two values differ: of dicts by key, of lists of equal length by index."""
    if isinstance(stored, dict) and isinstance(folded, dict):
        for key in sorted({*stored, *folded}):
            both = stored.get(key, MISSING), folded.get(key, MISSING)
            yield from _differences(session_id, version, f"{path}.{key}", *both)
    elif isinstance(stored, list) and isinstance(folded, list) and len(stored) == len(folded):
        for place, both in enumerate(zip(stored, folded, strict=True)):
            yield from _differences(session_id, version, f"{path}[{place}]", *both)
    elif type(stored) is not type(folded) or stored != folded:
        counted = isinstance(stored, list) and isinstance(folded, list)
        both = (f"{len(stored)} of them", f"{len(folded)} of them") if counted else (stored, folded)
        yield Drift(session_id, version, path, *both)


async def _listing(views: ViewStore, states: Mapping[str, SessionState]) -> AsyncIterator[Drift]:
    """Give the sessions that do not stand in the lists as their views say."""
    found: dict[tuple[str | None, str | None], dict[str, int]] = {}
    for session_id, state in states.items():
        wanted = [(None, None), (state.status, None), *([(None, state.user_id)] if state.user_id is not None else [])]
        for which in wanted:
            if which not in found:
                found[which] = await _list(views, *which)
            folded = state.active_ms if state.created_ms else None
            if found[which].get(session_id) != folded:
                name = "sessions" if which == (None, None) else f"sessions of {which[0] or which[1]!r}"
                yield Drift(session_id, 0, f"list: {name}", found[which].get(session_id, MISSING), folded or MISSING)


async def _list(views: ViewStore, status: str | None, user_id: str | None) -> dict[str, int]:
    places: dict[str, int] = {}
    after: Listed | None = None
    while page := await views.listed(status=status, user_id=user_id, after=after, limit=1000):
        after = page[-1]
        places |= {place.session_id.decode(): place.active_ms for place in page}
    return places
