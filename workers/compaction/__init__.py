"""Compaction: what becomes of the older part of a history that has grown long.

`config` says when and how; `transcript` divides a history into units that stay or go whole; `strategies` choose;
`planning` puts choice and history together into an event; `summarizer`, `extractive` and `embeddings` ask models, or do
without; `compactor` does it all for one session; `worker` finds the sessions.
"""

from workers.compaction.compactor import Compacted, CompactionBusy, CompactionDefaults, Compactor
from workers.compaction.config import CompressionConfig
from workers.compaction.strategies import Plan, Strategy, Task, register_strategy
from workers.compaction.tokens import TokenCounter, estimate_tokens
from workers.compaction.transcript import Unit
from workers.compaction.worker import CompactionWorker

__all__ = [
    "Compacted",
    "CompactionBusy",
    "CompactionDefaults",
    "CompactionWorker",
    "Compactor",
    "CompressionConfig",
    "Plan",
    "Strategy",
    "Task",
    "TokenCounter",
    "Unit",
    "estimate_tokens",
    "register_strategy",
]
