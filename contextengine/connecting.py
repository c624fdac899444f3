"""Where an engine runs, given what it was told."""

from __future__ import annotations

import os
from typing import Any

from eventstore import EventStore, StoreUnavailable, open_store
from eventstore.durability import ACCEPTED
from eventstore.errors import InvalidInput, shown
from eventstore.logs import get_logger

log = get_logger("engine")

DEFAULT_URL = "redis://localhost:6379"
FALLBACKS = ("memory", "error")


async def connect(target: Any, *, fallback: str | None, **options: Any) -> EventStore:
    """Open the store that an engine runs on.

    Args:
        target: A URL or a redis client; None for ``CONTEXTENGINE_URL``, else ``REDIS_URL``, else localhost.
        fallback: What to do if the server does not answer: ``memory``, with one warning, or ``error``. None for
            ``CONTEXTENGINE_FALLBACK``, else ``error`` where the caller named a target and ``memory`` where not.
        options: For `open_store`.

    Raises:
        InvalidInput: The fallback is unknown.
        StoreUnavailable: The server does not answer, and the fallback is ``error``.
        ContextEngineError: What else `open_store` raises.
    """
    url = target or os.environ.get("CONTEXTENGINE_URL") or os.environ.get("REDIS_URL") or DEFAULT_URL
    chosen = fallback or os.environ.get("CONTEXTENGINE_FALLBACK") or ("memory" if target is None else "error")
    if not isinstance(chosen, str) or chosen not in FALLBACKS:
        raise InvalidInput(f"fallback must be one of {', '.join(FALLBACKS)}, not {shown(chosen)}.")
    try:
        return await open_store(url, **options)
    except StoreUnavailable as error:
        if chosen == "error" or options.get("durability", ACCEPTED) != ACCEPTED:  # memory has no more than that
            raise
        log.warning(
            "No Redis answers, so NOTHING WILL BE KEPT: this engine holds its conversations in memory, and they end "
            "with this process. Give ContextEngine a URL such as embedded:///a/directory, or set CONTEXTENGINE_URL; "
            "with fallback='error' this is an error.",
            action="engine_in_memory",
            reason=str(error),
        )
        options.pop("timeout", None)
        return await open_store("memory://", **options)
