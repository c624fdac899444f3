"""Holding all views against all logs."""

from __future__ import annotations

from eventstore import EventStore
from projections import ViewStore
from projections.auditing import Drift, audit, audit_lists, audit_totals
from projections.following import Following


async def audited(store: EventStore, views: ViewStore) -> list[Drift]:
    """Return where views and logs differ, once everything is projected. Nobody may write meanwhile."""
    await views.refresh()
    await Following(store, await views.pinned()).catch_up()
    sessions = [await audit(store, views, head.session_id) async for head in store.heads()]
    drifts = [drift for session in sessions for drift in session.drifts]
    drifts += [drift async for drift in audit_lists(views, {each.session_id: each.state for each in sessions})]
    return drifts + await audit_totals(store, views, ((each.version, each.state) for each in sessions))
