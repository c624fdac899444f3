"""The names of one generation of views, and where is kept which generation is live.

A generation is one complete set of views, with a consumer group of its own that keeps it up to date. So what a group
has acknowledged is in its generation, whatever others do. A generation is told by the version of the folds that made
it and by how often these folds have built the views: ``session@1`` the first time, then ``session@1.2``, ``@1.3`` ...

The hash of the namespace says for each version of the folds which build is live (``views@1``, 1 if it says nothing),
which is being built (``building@1``), and which was the last that was begun (``begun@1``). A process follows what is
said of its own folds: so old code and new code serve side by side, each its own generation.
"""

from __future__ import annotations

from projections.views import GROUP


class Names:
    """The keys of a generation, as far as they do not depend on the session, and its consumer group.

    Of a session: ``session`` a string of version, place, what it lacks, and state (``view.lua``); ``history`` a list of
    messages, ``compaction`` what stands for those that went, ``context`` a hash of values; ``checkpoints`` a hash,
    ``order`` a sorted set by version, ``writes`` a set of the checkpoints that have some, and for each of these a hash
    by task. Of a partition: ``sessions``, and the same by status and by user, sorted sets by last activity; ``totals``,
    a hash; ``parked`` and ``attempts``, hashes by session.
    """

    def __init__(self, folds: int, build: int) -> None:
        """Name them."""
        self.build = build
        self.mark = f"{folds}" if build == 1 else f"{folds}.{build}"
        self.group = GROUP if self.mark == "1" else f"{GROUP}@{self.mark}"
        self.session, self.history, self.compaction, self.context = map(
            self._key, ("session", "history", "compaction", "context")
        )
        self.checkpoints, self.order, self.writes = map(self._key, ("checkpoints", "checkpoint-order", "writes"))
        self.sessions, self.totals, self.parked, self.attempts = map(
            self._key, ("sessions", "totals", "parked", "attempts")
        )

    def _key(self, what: str) -> bytes:
        return f"{what}@{self.mark}".encode()


def live_field(folds: int) -> bytes:
    """Return the field that says which build of these folds is live; 0 says that none is any more."""
    return b"views@%d" % folds


def building_field(folds: int) -> bytes:
    """Return the field that says which build of these folds is being made."""
    return b"building@%d" % folds


def begun_field(folds: int) -> bytes:
    """Return the field that says which build of these folds was the last that was begun. No number comes twice."""
    return b"begun@%d" % folds
