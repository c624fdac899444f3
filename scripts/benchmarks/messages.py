"""What is written: real messages, in turn, each also in the form in which the log holds it."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from demonstration.input import BadInput, read

from benchmarks import BenchFailed
from eventstore import MessageAdded
from eventstore.codec import encode
from eventstore.ids import new_event_id

LENGTH = 300
"""Bytes of content of a message that is made to measure."""


class Message(msgspec.Struct, frozen=True):
    """A message to write.

    Attributes:
        fields: The arguments of ``add_conversation_message``, but for the session.
        entry: What the log holds for it: what the raw side writes, encoded beforehand.
    """

    fields: dict[str, Any]
    entry: bytes

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Message:
        """Encode a message."""
        return cls(fields, encode(new_event_id(), MessageAdded(**fields), None))


class Messages:
    """The messages of a file."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            BenchFailed: It cannot be read.
        """
        self.source = path.name
        try:
            conversations = read(path, None)
        except BadInput as error:
            raise BenchFailed(str(error)) from error
        once = {id(each.messages): each.messages for each in conversations}  # repeated conversations share theirs
        self.all = [Message.of(fields) for messages in once.values() for fields in messages]
        if not self.all:
            raise BenchFailed(f"{path} holds no message.")

    def __iter__(self) -> Iterator[Message]:
        """Give the messages over and over."""
        return itertools.cycle(self.all)

    def take(self, count: int) -> list[Message]:
        """Return so many, from the beginning."""
        return list(itertools.islice(self, count))

    def typical(self, count: int) -> list[Message]:
        """Return so many whose sizes are spread as those of all."""
        ordered = sorted(self.all, key=lambda message: len(message.entry))
        return [ordered[len(ordered) * (2 * place + 1) // (2 * count)] for place in range(count)]

    def of_length(self, count: int) -> list[dict[str, Any]]:
        """Return so many messages of 300 bytes of real text, each with three metadata fields."""
        text = " ".join(str(each.fields["content"]) for each in self.all if each.fields["content"])
        text = " ".join(text.encode("ascii", "ignore").decode().split()).replace('"', "'").replace("\\", "/")
        text *= 1 + 2 * LENGTH // len(text)
        roles = itertools.cycle(("user", "assistant"))
        return [
            {
                "role": next(roles),
                "content": (text + text)[(start := number * LENGTH % len(text)) : start + LENGTH],
                "metadata": {"source": "web", "turn": number % 1000, "tokens": 75},
            }
            for number in range(count)
        ]

    @property
    def described(self) -> str:
        """What they are, in one sentence."""
        sizes = [len(message.entry) for message in self.all]
        return (
            f"{len(sizes):,} messages of {self.source}, over and over; as stored {statistics.median(sizes):,.0f} bytes "
            f"in the median, {statistics.mean(sizes):,.0f} on average, {max(sizes):,} at most"
        )
