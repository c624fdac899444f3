"""The workers: processes that follow the feeds. Run them with ``python -m workers``."""

from workers.compaction import CompactionWorker, Compactor, CompressionConfig, register_strategy
from workers.projection import ProjectionWorker

__all__ = ["CompactionWorker", "Compactor", "CompressionConfig", "ProjectionWorker", "register_strategy"]
