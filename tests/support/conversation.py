"""The oracle's view of one conversation: its current history, and compactions that fit it.

It is told in the plainest way, event after event, and shares nothing with the projections but the types of the events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from eventstore import Event, HistoryCleared, HistoryCompacted, HistoryRewound, MessageAdded, UnknownEvent

Logged: TypeAlias = Event | UnknownEvent
T = TypeVar("T", bound=Logged)


class Wish(NamedTuple):
    """A compaction that somebody would like, before it is known of which history. `fitted` makes an event of it.

    Attributes:
        share: How much of the history it is to reach, from 0 to 1.
        keeping: Which of the reached messages stay, the oldest first; repeated as often as needed.
        fault: What is wrong with it: nothing, or what must keep it from having an effect.
        summary: The summary.
        shown: Whether readers see it.
        role: In which role they do.
        summarizer: Who wrote it.
        remark: What was odd about it.
    """

    share: float = 1.0
    keeping: Sequence[bool] = (False,)
    fault: str | None = None
    summary: str | None = None
    shown: bool = True
    role: str = "system"
    summarizer: str | None = None
    remark: str | None = None


FAULTS = ("stale", "one too many", "nothing goes", "less than nothing goes")
"""What can be wrong with a compaction: it was planned for another history, or takes away what it cannot."""

Wanted: TypeAlias = Event | Wish


class Conversation:
    """The current history of one session, after each of its events in turn.

    Attributes:
        messages: The messages that were added and are still part of it, each with its version.
        rewritten: The version of the last clear, compaction or rewinding that had an effect; 0 if there was none.
        compaction: The event that says what went, if the history was compacted since it was last cleared.
        compacted_at: Its version.
        size: How large the messages are, by what the events themselves say of those that went.
    """

    def __init__(self, events: Iterable[Logged] = ()) -> None:
        self.version = 0
        self.messages: list[tuple[int, MessageAdded]] = []
        self.rewritten = 0
        self.compaction: HistoryCompacted | None = None
        self.compacted_at = 0
        self.size = 0
        for event in events:
            self.happens(event)

    def happens(self, event: Logged) -> None:
        """Take the next event."""
        self.version += 1
        if isinstance(event, MessageAdded):
            self.messages.append((self.version, event))
            self.size += _size(event)
        elif isinstance(event, HistoryCleared):
            self.messages, self.rewritten, self.compaction, self.size = [], self.version, None, 0
        elif isinstance(event, HistoryCompacted) and self.is_fit_for(event):
            reached = event.replaced + len(event.kept)
            staying = [(version, message) for version, message in self.messages[:reached] if version in event.kept]
            self.messages = staying + self.messages[reached:]
            self.rewritten = self.compacted_at = self.version
            self.compaction = event
            self.size = max(0, self.size - event.replaced_bytes)
        elif isinstance(event, HistoryRewound) and 0 < event.removed <= len(self.messages):
            self.messages, self.rewritten = self.messages[: -event.removed], self.version
            self.size = max(0, self.size - event.removed_bytes)

    def is_fit_for(self, event: HistoryCompacted) -> bool:
        """Return whether a compaction was planned for this history, and takes away something that is there."""
        return (
            event.base == self.rewritten
            and event.replaced >= 1
            and event.replaced + len(event.kept) <= len(self.messages)
        )

    def history(self) -> list[dict[str, Any]]:
        """Return the messages as they were added, without their timestamps."""
        return [_message(version, event) for version, event in self.messages]

    def figures(self) -> dict[str, int]:
        """Return what is known of the history without reading it."""
        event = self.compaction
        return {
            "history_messages": len(self.messages),
            "history_bytes": self.size,
            "summary_bytes": len((event.summary or "").encode()) if event and event.shown else 0,
            "rewritten": self.rewritten,
        }

    def summary(self) -> dict[str, Any] | None:
        """Return the message that a reader is shown in place of those that went, if there is one."""
        event = self.compaction
        if event is None or event.summary is None or not event.shown:
            return None
        return {
            "role": event.role,
            "content": f"[Summary of {event.stands_for} earlier messages]\n\n{event.summary}",
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
            "version": self.compacted_at,
        }

    def compacted(self, wish: Wish) -> HistoryCompacted:
        """Return the compaction of this history that somebody wishes, or one that has no effect on it."""
        reached = self.messages[: math.ceil(wish.share * len(self.messages))]
        keeping = [wish.keeping[place % len(wish.keeping)] for place in range(len(reached))]
        kept = [version for (version, _), stays in zip(reached, keeping, strict=True) if stays]
        going = [message for (_, message), stays in zip(reached, keeping, strict=True) if not stays]
        replaced = {
            "one too many": len(self.messages) - len(kept) + 1,
            "nothing goes": 0,
            "less than nothing goes": -1,
        }.get(wish.fault or "", len(going))
        earlier = self.compaction
        versions = [version for version, _ in self.messages] or [0]
        return HistoryCompacted(
            base=self.rewritten if wish.fault != "stale" else 0 if self.rewritten else self.version + 1,
            first=earlier.first if earlier else versions[0],
            last=reached[-1][0] if reached else 0,
            replaced=replaced,
            replaced_bytes=sum(map(_size, going)),
            stands_for=len(going) + (earlier.stands_for if earlier else 0),
            strategy="as wished",
            kept=kept,
            summary=wish.summary,
            role=wish.role,
            shown=wish.shown,
            summarizer=wish.summarizer,
            remark=wish.remark,
        )


def fitted(log: Iterable[Logged], wanted: Iterable[T | Wish]) -> list[T | HistoryCompacted]:
    """Return what comes next in a log: what is wanted, with wishes made into compactions of the history at hand."""
    conversation = Conversation(log)
    new: list[T | HistoryCompacted] = []
    for event in wanted:
        new.append(conversation.compacted(event) if isinstance(event, Wish) else event)
        conversation.happens(new[-1])
    return new


def compaction(
    *, base: int = 0, replaced: int, kept: Sequence[int] = (), summary: str | None = "so far", shown: bool = True
) -> HistoryCompacted:
    """Return a compaction of which only that is given which decides what it does."""
    return HistoryCompacted(
        base=base,
        first=1,
        last=replaced + len(kept),
        replaced=replaced,
        replaced_bytes=replaced,
        stands_for=replaced,
        strategy="a test's",
        kept=[*kept],
        summary=summary,
        shown=shown,
    )


def _message(version: int, event: MessageAdded) -> dict[str, Any]:
    always = {"role": event.role, "content": event.content, "metadata": event.metadata, "version": version}
    optional = {"name": event.name, "tool_calls": event.tool_calls, "tool_call_id": event.tool_call_id}
    return always | {name: value for name, value in optional.items() if value is not None}


def _size(message: MessageAdded) -> int:
    """Return the length of a text in UTF-8, of any other content in JSON, of none 0; and of the tool calls in JSON."""
    if isinstance(message.content, str):
        size = len(message.content.encode())
    else:
        size = 0 if message.content is None else len(msgspec.json.encode(message.content))
    return size + (0 if message.tool_calls is None else len(msgspec.json.encode(message.tool_calls)))
