"""Which sessions are meant."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Sequence
from datetime import datetime

import msgspec

from eventstore import EventStore
from eventstore.feed import Pointer
from projections import SessionState
from projections.past import milliseconds
from projections.replaying import Failed


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A choice of sessions: by their ids or a pattern of ids, and by what they are.

    Attributes:
        names: Their ids; of any session if there are none.
        match: A pattern of ids, such as ``user-*``.
        user: Whose they are.
        since: They were active at this time or later.
        until: They had begun by this time.
    """

    names: Sequence[str] = ()
    match: str | None = None
    user: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def all(self) -> bool:
        """Whether every session is chosen."""
        return not (self.names or self.match or self.user or self.since or self.until)

    async def heads(self, store: EventStore) -> tuple[list[Pointer], list[Failed]]:
        """Return the heads of those with such ids, and which of the names no session bears."""
        if not self.names:
            pattern = self.match or "*"
            return sorted([head async for head in store.heads() if fnmatch.fnmatchcase(head.session_id, pattern)]), []
        names = list(dict.fromkeys(self.names))
        versions = dict(zip(names, await asyncio.gather(*map(store.version, names)), strict=True))
        return (
            [Pointer(name, version, version) for name, version in versions.items() if version],
            [Failed(name, "There is no such session.") for name, version in versions.items() if not version],
        )

    def fits(self, state: SessionState) -> bool:
        """Whether a session with such an id is chosen by what it is."""
        return (
            self.user in (None, state.user_id)
            and (self.since is None or state.active_ms >= milliseconds(self.since))
            and (self.until is None or 0 < state.created_ms <= milliseconds(self.until))
        )
