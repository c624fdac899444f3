"""Logging: structlog's keys and values, handed to the standard library, so that an application's own set-up rules."""

from __future__ import annotations

import logging
from typing import Any

import structlog


def get_logger(name: str) -> Any:
    """Return a logger below ``contextengine``. Every record bears an ``action`` that can be searched for."""
    return structlog.wrap_logger(
        logging.getLogger(f"contextengine.{name}"),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
