"""The views: pure folds of the log, what keeps them, and the queries that bring them up to date."""

from projections.changes import ViewsChange, fold
from projections.history import History, Message
from projections.opening import open_views
from projections.projector import GROUP, Projector
from projections.queries import MISSING, HistoryAt, Page, Queries, SessionAt
from projections.session import SessionState
from projections.views import Parked, Snapshot, Totals, ViewStore

__all__ = [
    "GROUP",
    "MISSING",
    "History",
    "HistoryAt",
    "Message",
    "Page",
    "Parked",
    "Projector",
    "Queries",
    "SessionAt",
    "SessionState",
    "Snapshot",
    "Totals",
    "ViewStore",
    "ViewsChange",
    "fold",
    "open_views",
]
