"""Conversation memory for LLM agents that never forgets."""

from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path

for _name in ("workers", "projections", "eventstore"):
    _spec = _find_spec(_name)
    _own = _Path(__file__).parent.parent / _name / "__init__.py"
    if _spec is None or _spec.origin is None or _Path(_spec.origin).resolve() != _own.resolve():
        _where = "is missing" if _spec is None else f"is shadowed by {_spec.origin or _spec.submodule_search_locations}"
        raise ImportError(
            f"contextengine's own package {_name!r} {_where}: rename what shadows it or move it off the path."
        )

from contextengine.clients import get_redis_client  # noqa: E402 - after the check
from contextengine.engine import ContextEngine  # noqa: E402
from contextengine.values import Message, Session, SessionPage  # noqa: E402
from eventstore.durability import Durability  # noqa: E402
from eventstore.errors import (  # noqa: E402
    AppendOutcomeUnknown,
    CompactionFailed,
    ContextEngineError,
    CorruptLog,
    DurabilityNotReached,
    EventTooLarge,
    FilesOutOfReach,
    FoldFailed,
    InvalidEvent,
    InvalidInput,
    InvalidSessionId,
    LogForked,
    NotInitialized,
    NotPermitted,
    OutOfMemory,
    PartitionCountMismatch,
    SealsDoubtful,
    ServerUnfit,
    SessionArchived,
    SessionForgotten,
    SessionShared,
    StoreRefused,
    StoreUnavailable,
    UnknownNamespace,
    UnknownSession,
    UnknownStoreUrl,
    ViewsNotBuilt,
    WrongExpectedVersion,
)
from workers.compaction import CompressionConfig, register_strategy  # noqa: E402

__all__ = [
    "AppendOutcomeUnknown",
    "CompactionFailed",
    "CompressionConfig",
    "ContextEngine",
    "ContextEngineError",
    "CorruptLog",
    "Durability",
    "DurabilityNotReached",
    "EventTooLarge",
    "FilesOutOfReach",
    "FoldFailed",
    "InvalidEvent",
    "InvalidInput",
    "InvalidSessionId",
    "LogForked",
    "Message",
    "NotInitialized",
    "NotPermitted",
    "OutOfMemory",
    "PartitionCountMismatch",
    "SealsDoubtful",
    "ServerUnfit",
    "Session",
    "SessionArchived",
    "SessionForgotten",
    "SessionPage",
    "SessionShared",
    "StoreRefused",
    "StoreUnavailable",
    "UnknownNamespace",
    "UnknownSession",
    "UnknownStoreUrl",
    "ViewsNotBuilt",
    "WrongExpectedVersion",
    "get_redis_client",
    "register_strategy",
]
