"""The engine's ways back: a new session that shares another one's past."""

from __future__ import annotations

import contextlib

from contextengine.sessions import Sessions
from contextengine.values import Session
from eventstore import InvalidSessionId
from eventstore.forking import fork
from projections.session import GLOBAL


class Forks(Sessions):
    """Forks: the log never changes, so whoever wants another course begins one."""

    async def fork_session(self, session_id: str, at_version: int, new_session_id: str) -> Session | None:
        """Begin a new session that shares a session's past, and return it (None if it holds but checkpoints).

        Up to that version the two have the same messages, context, metrics and times; from there on each goes its own
        way. The events are copied, with the same versions, and their meta says where they come from. A fork that was
        interrupted is simply made again: it goes on where it was.

        Args:
            session_id: The session. It is only read.
            at_version: The last version that they share, 1 or more.
            new_session_id: The new session.

        Raises:
            InvalidInput: The session has not come to that version, or an argument cannot be accepted.
            UnknownSession: The session does not exist.
            WrongExpectedVersion: The new session exists, and is not this fork.
        """
        if GLOBAL in (session_id, new_session_id):
            raise InvalidSessionId(f"{GLOBAL!r} is where the global context is kept: it cannot be forked.")
        runtime = self._here()
        async with contextlib.aclosing(fork(runtime.store, session_id, at_version, new_session_id)) as copies:
            async for appended, events in copies:
                runtime.tally.count(appended, events)
        return await self.get_session(new_session_id)
