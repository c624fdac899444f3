"""The engine's contexts: values that a session keeps under keys."""

from __future__ import annotations

from typing import Any

from contextengine.arguments import limit_of
from contextengine.runtime import Open
from eventstore import ContextSet
from eventstore.ids import check_name
from projections import MISSING


class Contexts(Open):
    """Context: values under keys, one set per session."""

    async def set_context(self, session_id: str, key: str, value: Any) -> bool:
        """Set a context key of a session. A session that does not exist begins with it.

        Args:
            session_id: The session.
            key: 1 to 512 bytes in UTF-8.
            value: Any JSON value.

        Returns:
            True: the value is in the log.

        Raises:
            InvalidInput: An argument cannot be accepted.
        """
        check_name(key, "context key")
        await self._here().store.append(session_id, ContextSet(key, value))
        return True

    async def get_context(self, session_id: str, key: str) -> Any:
        """Return the value of a context key, None if it has none."""
        check_name(key, "context key")
        value = await self._here().queries.context(session_id, key)
        return None if value is MISSING else value

    async def list_contexts(self, session_id: str, limit: int | None = None) -> list[str]:
        """Return a session's context keys in alphabetical order, at most ``limit`` of them (0 or None for all)."""
        keys = await self._here().queries.context_keys(session_id)
        return keys[: limit_of(limit)]
