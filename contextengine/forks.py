"""The engine's ways back: a new session that shares another one's past, and messages that are undone."""

from __future__ import annotations

import contextlib

from contextengine.sessions import Sessions
from contextengine.values import Session
from eventstore import HistoryRewound, InvalidInput, InvalidSessionId, WrongExpectedVersion
from eventstore.forking import fork
from eventstore.ids import check_session_id
from eventstore.store import check_number
from projections.history import size_of
from projections.past import past
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
        if check_session_id(GLOBAL) in {check_session_id(session_id), check_session_id(new_session_id)}:
            raise InvalidSessionId(f"{GLOBAL!r} is where the global context is kept: it cannot be forked.")
        runtime = self._here()
        async with contextlib.aclosing(fork(runtime.store, session_id, at_version, new_session_id)) as copies:
            async for appended, events in copies:
                runtime.tally.count(appended, events)
        return await self.get_session(new_session_id)

    async def undo_messages(self, session_id: str, to_version: int) -> int:
        """Let the history be what it was at an earlier version: the messages since then leave it. The log keeps them.

        Context, metrics and counts stay as they are. What has been undone stays undone, and what was compacted or
        cleared does not come back: for any other past, fork the session.

        Args:
            session_id: The session.
            to_version: The version at which the history was as it is to be.

        Returns:
            How many messages left the history; 0 if it is so already, and then nothing is written.

        Raises:
            InvalidInput: The history of that version is not the beginning of the present one, or there is no such
                version.
        """
        runtime = self._here()
        while True:
            now = await past(runtime.store, session_id)
            if check_number("to_version", to_version) > now.version:
                raise InvalidInput(
                    f"Session {session_id!r} is at version {now.version}: it has not come to {to_version}."
                )
            then = await past(runtime.store, session_id, at_version=to_version)
            kept = len(then.history.messages)
            undone = now.history.messages[kept:]
            if (
                then.history.compaction != now.history.compaction
                or then.history.messages != now.history.messages[:kept]
            ):
                raise InvalidInput(
                    f"The history of session {session_id!r} has been compacted, cleared or rewound since version "
                    f"{to_version}. Fork it there: fork_session({session_id!r}, {to_version}, ...)."
                )
            if not undone:
                return 0
            size = sum(size_of(message["content"], message.get("tool_calls")) for message in undone)
            try:
                await runtime.append(
                    session_id, HistoryRewound(to_version, len(undone), size), expected_version=now.version
                )
            except WrongExpectedVersion:
                continue
            return len(undone)
