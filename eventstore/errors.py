"""Everything that can go wrong, as one tree.

ContextEngineError
├── InvalidInput                 the caller's argument; nothing was written
│   ├── InvalidSessionId
│   ├── InvalidEvent             wrong types, or a value that JSON cannot give back unchanged
│   ├── EventTooLarge
│   └── UnknownStoreUrl
├── UnknownSession               there is no such session; nothing was written
│   └── SessionForgotten         it was forgotten for good
├── SessionShared                other sessions hold what was to be forgotten; nothing was done
├── FilesOutOfReach              the named archive lacks files of what was to be forgotten; nothing was done
├── WrongExpectedVersion         somebody else appended first; nothing was written
├── StoreUnavailable             the server does not answer; nothing was written
├── AppendOutcomeUnknown         the server went away while it was appending
├── DurabilityNotReached         the events are in the log, and perhaps not as safe as was asked for
├── StoreRefused                 the server answered with an error; nothing was written
│   ├── NotPermitted             its user may not do that
│   └── OutOfMemory              it has no memory left; reads go on
├── ServerUnfit                  the server's version or settings would lose events
├── UnknownNamespace             there is no such namespace, and it was not to be made
├── PartitionCountMismatch       the namespace was made with another partition count
├── CorruptLog                   an entry of the log cannot be read, or a version is missing
├── SessionArchived              what is needed of the log lies in an archive, and none was named
├── LogForked                    what was read of a log is not in it any more: a server took over that lacks it
├── FoldFailed                   a projection cannot digest an event
├── SealsDoubtful                the seals beside the log cannot be believed; nothing was sealed
├── ViewsNotBuilt                no views have been made by this version's folds
├── CompactionFailed             a history could not be compacted; it is as it was
└── NotInitialized               the engine or store is not open
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventstore.events import RecordedEvent


def shown(value: object, most: int = 80) -> str:
    """Return how a refused value looks in a message: shortened, and whatever it is."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - numbers too long to print, lists too deep, and whatever a class makes of it
        return f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= most else text[:most] + "..."


class ContextEngineError(Exception):
    """The root of every error that this project raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by message and attributes, whatever the constructor takes."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[ContextEngineError], message: tuple[Any, ...], attributes: dict[str, Any]
) -> ContextEngineError:
    error = kind.__new__(kind, *message)
    error.args = message
    error.__dict__.update(attributes)
    return error


class InvalidInput(ContextEngineError, ValueError):
    """An argument cannot be accepted. Nothing was written."""


class InvalidSessionId(InvalidInput):
    """A session id is not a string of 1 to 512 UTF-8 bytes without NUL."""


class InvalidEvent(InvalidInput):
    """An event has a field of a wrong type, or holds a value that JSON cannot give back unchanged."""


class EventTooLarge(InvalidInput):
    """An event is larger, once encoded, than the store's limit."""


class UnknownStoreUrl(InvalidInput):
    """A store URL has a scheme that no store serves, or lacks a needed part."""


class UnknownSession(ContextEngineError, LookupError):
    """There is no such session, and the operation needs one. Nothing was written."""

    def __init__(self, session_id: str) -> None:
        """Name the session."""
        super().__init__(
            f"There is no session {session_id!r}. Create it with create_session(), or check the id and the namespace."
        )
        self.session_id = session_id


class SessionForgotten(UnknownSession):
    """The session was forgotten with `forget_session`: nothing of it is left, and nothing is written to it again."""

    def __init__(self, session_id: str) -> None:
        """Name the session."""
        super().__init__(session_id)
        text = f"Session {session_id!r} was forgotten: nothing of it is left, and nothing was written."
        self.args = (f"{text} Its id is not used again: choose another one.",)


class SessionShared(ContextEngineError):
    """A session was not forgotten, because others hold the same content, or belong to it. Nothing was done.

    Attributes:
        session_id: The session.
        others: Its forks, and the conversations that agents have about it.
    """

    def __init__(self, session_id: str, others: Sequence[str]) -> None:
        """Name the sessions."""
        named = ", ".join(map(repr, others[:5])) + (" ..." if len(others) > 5 else "")  # noqa: PLR2004 - enough to see
        super().__init__(
            f"{len(others)} other session(s) hold the same content as {session_id!r}, or belong to it: {named}. "
            "Nothing was done: have them forgotten along with it (relatives=True), or forget them first."
        )
        self.session_id = session_id
        self.others = list(others)


class FilesOutOfReach(ContextEngineError):
    """A session was not forgotten, because files hold content of it that the named archive lacks. Nothing was done.

    Attributes:
        session: Its id; the SHA-256 of it where nothing else is known any more.
        files: The files, as far as their names are known.
    """

    def __init__(self, session: str, files: Sequence[str], archive: object, variable: str) -> None:
        """Name the files, and the archive that was named, if one was."""
        named = ", ".join(repr(file) if file else "one whose name cannot be read" for file in files)
        where = "no archive was named" if archive is None else f"the archive {archive} lacks them"
        super().__init__(
            f"Session {session!r}, which is to be forgotten or may be a fork of one that is, has files in an archive, "
            f"and {where}: {named}. Nothing was done. Name the archive that has them (archive='file:///directory', "
            f"--archive, or {variable} in the environment). If they are lost for good, say so (without_archive=True, "
            "--without-archive): the tombstone will name them."
        )
        self.session = session
        self.files = list(files)


class WrongExpectedVersion(ContextEngineError):
    """The session is not at the version that the append expected. Nothing was written.

    Attributes:
        session_id: The session.
        expected: What the append asked for.
        version: The version at which the session is.
        events: What got there first, oldest first: the events after the expected version, 100 at most, and up to one
            that cannot be read, if there is one.
    """

    def __init__(self, session_id: str, expected: object, version: int, events: Sequence[RecordedEvent]) -> None:
        """Keep what a caller needs in order to decide again without another read."""
        super().__init__(
            f"Session {session_id!r} is at version {version}, but the append expected {expected}. Nothing was written: "
            "look at .events, decide again, and append with expected_version={version}.".replace(
                "{version}", str(version)
            )
        )
        self.session_id = session_id
        self.expected = expected
        self.version = version
        self.events = list(events)


class StoreUnavailable(ContextEngineError, ConnectionError):
    """The server cannot be reached, or stopped answering. Nothing was written by this call."""


class AppendOutcomeUnknown(ContextEngineError, ConnectionError):
    """The server went away after it was sent an append and did not come back in time.

    The events are stored either wholly or not at all. Their ids tell which, once the server is back.

    Attributes:
        session_id: The session.
        event_ids: The ids that the events bear, if they were stored.
    """

    def __init__(self, session_id: str, event_ids: Sequence[str], reason: str) -> None:
        """Keep the ids, so that the caller can look for them later."""
        super().__init__(
            f"It is not known whether {len(event_ids)} event(s) of session {session_id!r} were stored: {reason}. "
            "Do not append them anew blindly: ask outcome(error.session_id, error.event_ids) first."
        )
        self.session_id = session_id
        self.event_ids = list(event_ids)


class DurabilityNotReached(ContextEngineError):
    """The events are in the log, and it is not known that they have reached the durability level in time.

    They may reach it yet. Appending them anew would store them twice.

    Attributes:
        session_id: The session.
        version: The session's version after the append.
        event_ids: The ids of the events.
        wanted: The level that was asked for.
        reached: The highest level that they are known to have reached.
    """

    def __init__(
        self, session_id: str, version: int, event_ids: Sequence[str], wanted: str, reached: str, why: str
    ) -> None:
        """Keep what an append returns, and the levels."""
        super().__init__(
            f"{len(event_ids)} event(s) of session {session_id!r} are in the log, up to version {version}, and are "
            f"{reached}, not {wanted}: {why}. Do not append them anew: they exist. Should a server take over that "
            "lacks them, outcome(error.session_id, error.event_ids) says so."
        )
        self.session_id = session_id
        self.version = version
        self.event_ids = list(event_ids)
        self.wanted = wanted
        self.reached = reached


class StoreRefused(ContextEngineError):
    """The server answered with an error (out of memory, no permission, read-only ...). Nothing was written."""


class NotPermitted(StoreRefused):
    """The server's access rules do not allow this to the user as whom the store connects. Nothing was written."""


class OutOfMemory(StoreRefused):
    """The server has no memory left for what it was to write. Nothing was written; what is there can be read."""


class ServerUnfit(ContextEngineError):
    """The server's version or settings would lose or damage the log. The message says what to set."""


class UnknownNamespace(ContextEngineError, LookupError):
    """There is no such namespace, and it was not to be made."""


class PartitionCountMismatch(ContextEngineError):
    """A namespace was opened with another partition count than it was made with."""


class CorruptLog(ContextEngineError):
    """An entry of a log cannot be read, or a version is missing.

    Attributes:
        session_id: The session.
        version: The version that is damaged or missing.
    """

    def __init__(self, session_id: str, version: int, reason: str) -> None:
        """Name the place of the damage."""
        super().__init__(f"The log of session {session_id!r} is damaged at version {version}: {reason}.")
        self.session_id = session_id
        self.version = version


class SessionArchived(ContextEngineError):
    """What is needed of a log lies in an archive, and the store was opened without one.

    Attributes:
        session_id: The session.
        version: Up to which version its log lies there.
        file: In which file.
    """

    def __init__(self, session_id: str, version: int, file: str, variable: str) -> None:
        """Say where the log lies, and what to name."""
        super().__init__(
            f"The log of session {session_id!r} is archived up to version {version}, in the file {file!r}. Name the "
            f"archive to read it: archive='file:///directory', --archive, or {variable} in the environment."
        )
        self.session_id = session_id
        self.version = version
        self.file = file


class LogForked(ContextEngineError):
    """What somebody has read of a log is not in it any more, so what comes next does not follow on it.

    A server took over that lacked events which had been acknowledged, or came back without them; or another log was put
    in this one's place. Whoever has built something upon what was read makes it anew from the log's beginning.

    Attributes:
        session_id: The session; None for the feeds of all of them.
        version: The version that was read, and is gone or another event now; None for the feeds.
    """

    def __init__(self, session_id: str | None, version: int | None) -> None:
        """Name what was read."""
        where = f"session {session_id!r} up to version {version}" if session_id is not None else "the feeds"
        super().__init__(
            f"What was read of {where} is not in the log any more: its server lost events in a failover or a restart, "
            "or another log was put in its place. Make anew what was built upon it, from the log's beginning."
        )
        self.session_id = session_id
        self.version = version


class FoldFailed(ContextEngineError):
    """A projection raised on an event, so the session's views stay at the version before it.

    Attributes:
        session_id: The session.
        version: The version of the event that could not be folded.
    """

    def __init__(self, session_id: str, version: int, reason: str) -> None:
        """Name the event that could not be folded."""
        super().__init__(f"The views of session {session_id!r} cannot take the event at version {version}: {reason}.")
        self.session_id = session_id
        self.version = version


class SealsDoubtful(ContextEngineError):
    """The seals beside the log cannot be believed, or there are none, so nothing was built upon them."""


class ViewsNotBuilt(ContextEngineError):
    """The views of the namespace were made by other folds than this version's. The message says how to build them."""


class CompactionFailed(ContextEngineError):
    """A history could not be compacted. It is as it was."""


class NotInitialized(ContextEngineError, RuntimeError):
    """The engine or store was used before it was opened, or after it was closed."""
