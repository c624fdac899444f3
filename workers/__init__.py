"""The workers: processes that follow the feeds. Run them with ``python -m workers``."""

from workers.projection import ProjectionWorker

__all__ = ["ProjectionWorker"]
