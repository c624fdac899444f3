"""Verifying: the views of many sessions held against their logs, and what is told of it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec
from printing import Show, shown, table

from eventstore import EventStore
from eventstore.feed import Pointer
from projections import ViewStore
from projections.auditing import Audited, Drift, audit, audit_lists, audit_totals
from projections.side_by_side import side_by_side
from projections.views import Parked
from replaying.choosing import Choice

AT_ONCE = 4


class Verified(msgspec.Struct):
    """What came of it.

    Attributes:
        sessions: Sessions that were looked at.
        events: Events of their logs that were folded.
        behind: Sessions whose views have not come to the end of their logs, which is no drift.
        totals: Whether the counts over all sessions were looked at: not while somebody writes, for some sessions,
            or where a log cannot be read.
        drifts: Where views and logs differ.
        parked: Sessions whose views are not kept up to date.
    """

    sessions: int = 0
    events: int = 0
    behind: int = 0
    totals: bool = False
    drifts: list[Drift] = []
    parked: list[Parked] = []

    @property
    def clean(self) -> bool:
        """Whether there is no doubt."""
        return not self.drifts and not self.parked


async def verify(
    store: EventStore,
    views: ViewStore,
    heads: Sequence[Pointer],
    choice: Choice,
    show: Show,
) -> Verified:
    """Hold the views of sessions against their logs; the lists as well, and the counts if all sessions are chosen."""
    before = await store.position()
    verified, audited = Verified(), list[Audited]()
    folded, total = 0, sum(head.version for head in heads)
    jobs = (audit(store, views, head.session_id) for head in heads)
    async with contextlib.aclosing(side_by_side(jobs, AT_ONCE)) as audits:
        async for session in audits:
            folded += session.version
            show(min(folded, total), total)
            if session.drifts or choice.fits(session.state):
                audited.append(session)
    show(total, total)
    names = {session.session_id for session in audited}
    verified.sessions = len(audited)
    verified.events = sum(session.version for session in audited)
    verified.behind = sum(session.version < session.head for session in audited)
    verified.drifts = [drift for session in audited for drift in session.drifts]
    verified.drifts += [drift async for drift in audit_lists(views, {each.session_id: each.state for each in audited})]
    verified.parked = [parked for parked in await views.parked() if parked.session_id in names]
    unread = any(drift.field == "log" for drift in verified.drifts)
    if choice.all and not unread and not verified.behind and await store.position() == before:
        counted = await audit_totals(store, views, ((each.version, each.state) for each in audited))
        if await store.position() == before:
            verified.totals, verified.drifts = True, verified.drifts + counted
    return verified


def as_dict(verified: Verified) -> dict[str, Any]:
    """Return it for machines."""
    return {"clean": verified.clean, **msgspec.to_builtins(verified)}


def print_verified(verified: Verified) -> None:
    """Print it for people."""
    if verified.drifts:
        rows = [(d.session_id or "(all)", d.version, d.field, d.stored, d.folded) for d in verified.drifts]
        table(["session", "at version", "field", "the view says", "the log says"], rows)
    if verified.parked:
        table(["parked", "at version", "reason"], [(p.session_id, p.version, p.reason) for p in verified.parked])
    looked = f"{verified.sessions:,} sessions, {verified.events:,} events"
    behind = (
        f"; {verified.behind:,} sessions have newer events, which no worker has projected yet"
        if verified.behind
        else ""
    )
    totals = "" if verified.totals else "; the counts over all sessions were not compared"
    print(shown("the views say what the logs say" if verified.clean else "DRIFT") + f": {looked}{behind}{totals}")
