"""An append on its way: what its caller is told in the end, and what a later try has to know of the earlier ones."""

from __future__ import annotations

from typing import Any

from eventstore.appending import EncodedAppend
from eventstore.errors import (
    AppendOutcomeUnknown,
    ContextEngineError,
    DurabilityNotReached,
    SessionForgotten,
    StoreUnavailable,
    WrongExpectedVersion,
)
from eventstore.redis.commands import Unserved, refusal
from eventstore.redis.confirming import Confirmed
from eventstore.redis.entries import readable
from eventstore.redis.link import LinkLost
from eventstore.redis.promise import Promise
from eventstore.redis.room import Room
from eventstore.store import Appended, Expected


class PerhapsArchived(AppendOutcomeUnknown):
    """The events of an append whose reply was lost are not in what Redis has of the log; they may be in the archive."""


class Pending(Promise[Appended], eq=False, kw_only=True):
    """An append on its way, which its caller awaits.

    Attributes:
        append: What is to be appended.
        room: The room on the way ...
        taken: ... and how much of it this takes; 0 once it has given it back.
        at_least: A version that the session had before the first try, as was known in this ``epoch``.
        resend_after: From where on the next try has to look for the events; None if it need not.
        sent: Whether a try may have reached a server.
        confirmed: How durable it is; None where nothing was to be confirmed.
    """

    append: EncodedAppend
    room: Room
    taken: int
    at_least: int = 0
    epoch: int = 0
    resend_after: int | None = None
    sent: bool = False
    confirmed: Confirmed | None = None

    def missed(self, unserved: Unserved | None) -> None:
        """Note that a try failed, and from where on the next one has to look for the events."""
        if not isinstance(unserved, LinkLost) or not unserved.sent:
            self.at_least = 0  # the next try may be another node's
            return
        # What was known serves for a try on a connection of that epoch alone: a server may come back with a shorter
        # log, and a replica may stand in with one.
        known = self.at_least if not self.sent and unserved.epoch <= self.epoch else 0
        expected = self.append.expected
        self.resend_after = max(known, expected if isinstance(expected, int) else 0)
        self.sent = True

    def awaited(self) -> bool:
        """Return whether anybody still waits for it; if not, it is over."""
        if self.done:
            self.over()
            return False
        return True

    def over(self) -> None:
        """Give back the room: it is not on its way any more."""
        if self.taken:
            self.room.give_back(self.taken)
            self.taken = 0

    def fail(self, error: BaseException) -> None:
        """Tell the caller that the last try failed, and whether an earlier one may have succeeded."""
        self.over()
        if self.sent:
            error = AppendOutcomeUnknown(self.append.session_id, self.append.event_ids, str(error))
        elif isinstance(error, Unserved):
            error = StoreUnavailable(f"{error} Nothing was written.")
        self.set_exception(error)

    def settle(self, result: Any, known: dict[bytes, int]) -> None:
        """Give the caller the script's result, after noting which version the session has, 0 if that does not tell.

        A result with which nothing can be done is this caller's alone: it keeps nobody else of the group from theirs.
        """
        self.over()
        try:
            if type(result) is not int and result[0] == b"already":
                result = result[1]
            if type(result) is int:
                known[self.append.session_key] = result
                self._succeed(result)
            else:
                known[self.append.session_key] = 0
                self.set_exception(self._failure(result))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told of it
            unknown = AppendOutcomeUnknown(self.append.session_id, self.append.event_ids, f"an odd reply ({error!r})")
            unknown.__cause__ = error
            self.set_exception(unknown)

    def _succeed(self, version: int) -> None:
        append, confirmed = self.append, self.confirmed
        if confirmed is None:
            self.set_result(Appended(append.session_id, version, append.event_ids))
        elif confirmed.reached == confirmed.wanted:
            self.set_result(Appended(append.session_id, version, append.event_ids, confirmed.reached))
        else:
            self.set_exception(DurabilityNotReached(append.session_id, version, append.event_ids, *confirmed))

    def _failure(self, result: list[Any]) -> ContextEngineError:
        append = self.append
        if result[0] == b"conflict":
            events, _ = readable(append.session_id, result[2])
            expected = append.expected.value if isinstance(append.expected, Expected) else append.expected
            return WrongExpectedVersion(append.session_id, expected, result[1], events)
        if result[0] == b"forgotten":
            return SessionForgotten(append.session_id)
        if result[0] == b"unknown":
            return PerhapsArchived(append.session_id, append.event_ids, "a reply was lost, and the log is archived")
        return refusal(RuntimeError(result[1].decode(errors="replace")))
