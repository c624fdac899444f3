"""A conversation in the shapes that prompts take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contextengine.values import Message
from eventstore.errors import InvalidInput, shown
from workers.compaction.transcript import text_of

FORMATS = ("messages", "string", "dict")


def check_format(format: object) -> None:  # noqa: A002 - the name that users know
    """Refuse a format that there is not.

    Raises:
        InvalidInput: It is not one of `FORMATS`.
    """
    if not isinstance(format, str) or format not in FORMATS:
        raise InvalidInput(f"format must be one of {', '.join(FORMATS)}, not {shown(format)}.")


def formatted(messages: Sequence[Message], format: str) -> Any:  # noqa: A002 - the name that users know
    """Return messages in a format.

    Args:
        messages: The messages.
        format: ``messages`` for the messages themselves; ``dict`` for plain dicts; ``string`` for one text, in which
            each message is ``[2026-01-31 12:00:00] role: content``, with an empty line between them. What is no text,
            such as tool calls, stands there as JSON.

    Raises:
        InvalidInput: The format is another one.
    """
    check_format(format)
    if format == "string":
        return "\n\n".join(f"[{m.timestamp:%Y-%m-%d %H:%M:%S}] {m.role}: {text_of(m)}" for m in messages)
    return [message.to_dict() for message in messages] if format == "dict" else list(messages)
