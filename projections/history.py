"""The history view: the messages that are the current conversation, oldest first, and what stands for older ones."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar

import msgspec

from eventstore.events import HistoryCleared, HistoryCompacted, HistoryRewound, MessageAdded, RecordedEvent

Message: TypeAlias = dict[str, Any]
"""``role``, ``content``, ``timestamp`` (naive UTC, ISO 8601), ``metadata``, ``version``; and ``name``, ``tool_calls``
and ``tool_call_id`` where the message has them."""

LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, which is as far as dates go."""

T = TypeVar("T")

_MILLISECONDS = [f".{ms:03d}" for ms in range(1000)]
_encode = msgspec.json.Encoder().encode
_version_of: Callable[[Message], int] = itemgetter("version")


class Versioned(msgspec.Struct, frozen=True):
    """What of a stored message tells which one it is."""

    version: int


class Compaction(msgspec.Struct, frozen=True):
    """The last compaction that took effect on a history."""

    version: int
    recorded_ms: int
    event: HistoryCompacted


class History(msgspec.Struct, frozen=True):
    """A history, or the newest part of it.

    Attributes:
        messages: Messages as they were added.
        compaction: What stands for those that are not here any more; None if nothing does.
    """

    messages: list[Message] = []
    compaction: Compaction | None = None

    @property
    def summary(self) -> Message | None:
        """The message that says what went; None if no message does."""
        return summary_message(self.compaction) if self.compaction else None

    def newest(self, limit: int | None) -> list[Message]:
        """Return what a reader is shown: the summary, if there is one, then the newest messages; ``limit`` in all."""
        summary = [self.summary] if self.summary else []
        if limit is None:
            return summary + self.messages
        left = max(0, limit - len(summary))
        return summary + (self.messages[-left:] if left else [])


class HistoryChange(msgspec.Struct, frozen=True):
    """What some events do to a history, whatever it holds: so a fold never has to load it.

    Attributes:
        rewritten: The version of the last compaction, clear or rewinding of the history; 0 if it never was rewritten.
        messages: How many messages it has, a summary left aside.
        cleared: Whether what was there before goes, a summary included.
        dropped: How many of the oldest messages that were there before go.
        kept: The versions of those among them that stay nevertheless, oldest first.
        removed: How many of the newest messages that were there before go, of those that are not dropped.
        compaction: What stands for those that went; None if that has not changed.
        added: The events of the messages that come after what remains. They become messages where they are written or
            shown: a replay needs none.
    """

    rewritten: int = 0
    messages: int = 0
    cleared: bool = False
    dropped: int = 0
    kept: tuple[int, ...] = ()
    removed: int = 0
    compaction: Compaction | None = None
    added: tuple[RecordedEvent, ...] = ()

    def apply(self, before: History) -> History:
        """Return the history after the change. ``before`` must hold all messages, if some of them go."""
        unchanged = None if self.cleared else before.compaction
        stored = self.remaining(before.messages, _version_of)
        return History([*stored, *map(message_of, self.added)], self.compaction or unchanged)

    def remaining(self, stored: list[T], version_of: Callable[[T], int]) -> list[T]:
        """Return what remains of the messages that were there before, in whatever form they are."""
        if self.cleared:
            return []
        if not self.dropped and not self.removed:
            return stored
        staying = frozenset(self.kept)
        kept = [each for each in stored[: self.dropped] if version_of(each) in staying]
        return kept + stored[self.dropped : len(stored) - self.removed]


def fold(change: HistoryChange, events: Sequence[RecordedEvent]) -> HistoryChange:
    """Return the change that some more events make.

    Raises:
        ValueError: A message was recorded at a time that nobody can write.
        OverflowError: The same.
    """
    added: list[RecordedEvent] = []
    for are_messages, run in runs(events):
        if are_messages:
            _check_times(run)
            added += run
            continue
        for event in run:
            match event.data:
                case HistoryCleared():
                    change, added = HistoryChange(rewritten=event.version, cleared=True), []
                case HistoryCompacted() as compacted:
                    change, added = _with(change, added), []
                    if takes_effect(compacted, change.rewritten, change.messages):
                        change = _compacted(change, Compaction(event.version, _ms_of(event), compacted))
                case HistoryRewound(removed=removed):
                    change, added = _with(change, added), []
                    if 0 < removed <= change.messages:
                        change = _rewound(change, event.version, removed)
    return _with(change, added)


def runs(events: Sequence[RecordedEvent]) -> Iterable[tuple[bool, Sequence[RecordedEvent]]]:
    """Divide events into messages that follow each other, and others; say which. Nearly all are messages."""
    if not events:
        return []
    if {type(event.data) for event in events} == {MessageAdded}:
        return [(True, events)]
    grouped = itertools.groupby(events, lambda event: type(event.data) is MessageAdded)
    return ((are_messages, list(run)) for are_messages, run in grouped)


def takes_effect(compacted: HistoryCompacted, rewritten: int, messages: int) -> bool:
    """Whether a compaction still fits the history: nobody has rewritten it since the compaction was planned."""
    return compacted.base == rewritten and 0 < compacted.replaced <= messages - len(compacted.kept)


def summary_message(compaction: Compaction) -> Message | None:
    """Return the message that stands for what was compacted; None if none does."""
    event = compaction.event
    if event.summary is None or not event.shown:
        return None
    left_out = f", {event.left_out} of them left out" if event.left_out else ""
    return {
        "role": event.role,
        "content": f"[Summary of {event.stands_for} earlier messages{left_out}]\n\n{event.summary}",
        "timestamp": naive_iso(compaction.recorded_ms),
        "metadata": {
            "type": "summary",
            "summarized_count": event.stands_for,
            "compaction": {
                "messages": event.stands_for,
                "left_out": event.left_out,
                "first": event.first,
                "last": event.last,
                "strategy": event.strategy,
                "summarizer": event.summarizer,
                "remark": event.remark,
            },
        },
        "version": compaction.version,
    }


def size_of(content: Any, tool_calls: Any) -> int:
    """Return how many bytes of text a message gives a model to read, in UTF-8."""
    if isinstance(content, str):
        size = len(content) if content.isascii() else len(content.encode())
    else:
        size = 0 if content is None else len(_encode(content))
    return size if tool_calls is None else size + len(_encode(tool_calls))


def size_of_all(messages: Sequence[MessageAdded]) -> int:
    """Return the `size_of` of messages together: first of their texts, for most are nothing but texts."""
    contents = [message.content for message in messages]
    texts = [content for content in contents if type(content) is str]
    others = [message.tool_calls for message in messages if message.tool_calls is not None]
    if len(texts) < len(contents):
        others += [content for content in contents if type(content) is not str and content is not None]
    sizes = [len(text) if text.isascii() else len(text.encode()) for text in texts]
    return sum(sizes) + (len(_encode(others)) - len(others) - 1 if others else 0)  # a list has brackets and commas, too


def naive_iso(ms: int) -> str:
    """Write Unix milliseconds as naive UTC, because the agents that read it compare it with naive dates."""
    return _naive_second(ms // 1000) + _MILLISECONDS[ms % 1000]


@functools.lru_cache(maxsize=1024)
def _naive_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat()


def _check_times(messages: Sequence[RecordedEvent]) -> None:
    """Make sure that the events can become messages.

    Raises:
        ValueError: One was recorded at a time that nobody can write.
        OverflowError: The same.
    """
    if max([event.recorded_ms for event in messages]) > LATEST_MS:
        for event in messages:
            if event.occurred_at is None:
                naive_iso(event.recorded_ms)


def _with(change: HistoryChange, added: Sequence[RecordedEvent]) -> HistoryChange:
    if not added:
        return change
    return msgspec.structs.replace(change, messages=change.messages + len(added), added=(*change.added, *added))


def _compacted(change: HistoryChange, compaction: Compaction) -> HistoryChange:
    """Take the oldest messages away: kept ones of those stored before the change, more of those, then added ones."""
    event = compaction.event
    reach = event.replaced + len(event.kept)
    of_kept = min(reach, len(change.kept))
    of_stored = min(reach - of_kept, change.messages - len(change.kept) - len(change.added))
    of_added = reach - of_kept - of_stored
    kept = frozenset(event.kept)
    staying = [added for added in change.added[:of_added] if added.version in kept]
    return msgspec.structs.replace(
        change,
        rewritten=compaction.version,
        messages=change.messages - event.replaced,
        dropped=change.dropped + of_stored,
        kept=(*event.kept[: len(event.kept) - len(staying)], *change.kept[of_kept:]),
        compaction=compaction,
        added=(*staying, *change.added[of_added:]),
    )


def _rewound(change: HistoryChange, version: int, removed: int) -> HistoryChange:
    """Take the newest messages away: added ones, then those stored before the change, then those of them it keeps."""
    of_added = min(removed, len(change.added))
    stored = change.messages - len(change.kept) - len(change.added)
    of_stored = min(removed - of_added, stored)
    of_kept = removed - of_added - of_stored
    return msgspec.structs.replace(
        change,
        rewritten=version,
        messages=change.messages - removed,
        kept=change.kept[: len(change.kept) - of_kept],
        removed=change.removed + of_stored,
        added=change.added[: len(change.added) - of_added],
    )


def message_of(event: RecordedEvent) -> Message:
    """Return the message that an event adds."""
    data: Any = event.data
    message: Message = {
        "role": data.role,
        "content": data.content,
        "timestamp": naive_iso(event.recorded_ms) if data.occurred_at is None else time_of(event),
        "metadata": data.metadata,
        "version": event.version,
    }
    if data.name is not None:
        message["name"] = data.name
    if data.tool_calls is not None:
        message["tool_calls"] = data.tool_calls
    if data.tool_call_id is not None:
        message["tool_call_id"] = data.tool_call_id
    return message


def _ms_of(event: RecordedEvent) -> int:
    return event.recorded_ms if event.occurred_at is None else int(event.occurred_at.timestamp() * 1000)


def time_of(event: RecordedEvent) -> str:
    """Write when an event happened as naive UTC: its own time if it brought one, to the microsecond if that has some.

    So a copy that tells when the original was recorded, as in a fork, reads like the original.
    """
    own = event.occurred_at
    if own is None:
        return naive_iso(event.recorded_ms)
    return own.replace(tzinfo=None).isoformat(timespec="microseconds" if own.microsecond % 1000 else "milliseconds")
