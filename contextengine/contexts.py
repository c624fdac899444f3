"""The engine's contexts: values under keys, of a session or of none."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from contextengine.arguments import limit_of
from contextengine.plain import plain
from contextengine.runtime import Open
from eventstore import ContextDeleted, ContextSet, InvalidInput, WrongExpectedVersion
from eventstore.errors import shown
from eventstore.ids import check_name
from projections import MISSING
from projections.session import GLOBAL

LEFT_OUT: Any = object()
"""What no caller can pass."""


class Contexts(Open):
    """Context: values under keys.

    Each method also has a global form, for values that belong to no session: leave the session id out.
    """

    async def set_context(self, session_id: str, key: Any = LEFT_OUT, value: Any = LEFT_OUT) -> bool:
        """Set a context key: ``set_context(session_id, key, value)``, or ``set_context(key, value)`` globally.

        A session that does not exist begins with it.

        Args:
            session_id: The session.
            key: 1 to 512 bytes in UTF-8.
            value: Any JSON value, or what `contextengine.plain` makes one of.

        Returns:
            True: the value is in the log.

        Raises:
            InvalidInput: An argument cannot be accepted.
        """
        if value is LEFT_OUT:
            session_id, key, value = GLOBAL, session_id, key
        check_name(key, "context key")
        await self._here().append(session_id, ContextSet(key, plain(value, "The value")))
        return True

    async def get_context(
        self, session_id: str, key: str = LEFT_OUT, *, at_version: int | None = None, at: datetime | None = None
    ) -> Any:
        """Return a context value, None if there is none: ``get_context(session_id, key)``, or ``get_context(key)``.

        Args:
            session_id: The session.
            key: The key.
            at_version: The value that it had at this version of the log (0: before its first event) ...
            at: ... or at this time, by the server's clock; naive means UTC, a time to come means now.

        Raises:
            InvalidInput: An argument cannot be accepted, or the log has not come to that version yet.
        """
        if at_version is not None or at is not None:
            session_id, key = _scoped(session_id, key)
            check_name(key, "context key")
            return (await self._past(session_id, at_version, at)).context.get(key)
        value, _ = await self._context(session_id, key)
        return None if value is MISSING else value

    async def delete_context(self, session_id: str, key: str = LEFT_OUT) -> bool:
        """Delete a context key: ``delete_context(session_id, key)``, or ``delete_context(key)`` globally.

        Returns:
            Whether there was a value. If not, nothing is written.
        """
        if (await self._context(session_id, key))[0] is MISSING:
            return False
        session_id, key = _scoped(session_id, key)
        await self._here().append(session_id, ContextDeleted(key))
        return True

    async def update_context(self, session_id: str, key: str, change: Callable[[Any], Any | Awaitable[Any]]) -> Any:
        """Change a context value by a function of the old one, losing nobody else's change.

        Args:
            session_id: The session.
            key: The key.
            change: Gets the present value, None if there is none, and returns the new one; may be async. It is called
                again when somebody else set or deleted the key meanwhile.

        Returns:
            The new value, as it is stored.

        Raises:
            InvalidInput: An argument, or the new value, cannot be accepted. Nothing was written.
        """
        if not callable(change):
            raise InvalidInput(f"change must be a function of the old value, not {shown(change)}.")
        while True:
            value, version = await self._context(session_id, key)
            changed = change(None if value is MISSING else value)
            stored = plain(await changed if inspect.isawaitable(changed) else changed, "The new value")
            if await self._set_unless_touched(session_id, ContextSet(key, stored), version):
                return stored

    async def list_contexts(self, session_id: str = GLOBAL, limit: int | None = None) -> list[str]:
        """Return the context keys in alphabetical order, at most ``limit`` of them (0 or None for all)."""
        keys = await self._here().queries.context_keys(session_id)
        return [key for key in keys if not key.startswith(HIDDEN)][: limit_of(limit)]

    async def get_task_context(self, session_id: str) -> Any:
        """Return a session's task context: what was stored, else its user, chat and metadata; None if there is none."""
        stored, _ = await self._here().queries.context(session_id, TASK)
        if stored is not MISSING:
            return stored
        session = await self._here().queries.session(session_id)
        if session is None or not session.state.created_ms:
            return None
        return {"user_id": session.state.user_id, "chat_id": session_id, "metadata": session.state.metadata}

    async def store_task_context(self, session_id: str, context: Any) -> bool:
        """Store a session's task context: a dict, or an object with ``to_dict``.

        Returns:
            True: the task context is in the log.
        """
        to_dict = getattr(context, "to_dict", None)
        value = plain(to_dict() if callable(to_dict) else context, "The task context")
        await self._here().append(session_id, ContextSet(TASK, value))
        return True

    async def _set_unless_touched(self, session_id: str, wanted: ContextSet, version: int) -> bool:
        """Append, whatever else happens in the session meanwhile; return False if somebody touched the same key."""
        while True:
            try:
                await self._here().append(session_id, wanted, expected_version=version)
            except WrongExpectedVersion as conflict:
                if _concerns(conflict, wanted.key, version):
                    return False
                version = conflict.version
            else:
                return True

    def _context(self, session_id: str, key: str) -> Awaitable[tuple[Any, int]]:
        session_id, key = _scoped(session_id, key)
        check_name(key, "context key")
        return self._here().queries.context(session_id, key)


HIDDEN = "\0"
"""How the keys begin that are the engine's own. No caller's key holds NUL."""
TASK = HIDDEN + "task"


def _scoped(session_id: str, key: str) -> tuple[str, str]:
    """Return session and key; of one argument alone, the global stream and that key."""
    return (GLOBAL, session_id) if key is LEFT_OUT else (session_id, key)


def _concerns(conflict: WrongExpectedVersion, key: str, version: int) -> bool:
    """Whether an append after a version touched the key, or may have: of many, not all are told."""
    if len(conflict.events) < conflict.version - version:
        return True
    changes = [event.data for event in conflict.events if isinstance(event.data, ContextSet | ContextDeleted)]
    return any(change.key == key for change in changes)
