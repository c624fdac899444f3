"""Stand-in until the real one is merged."""

from collections.abc import Sequence

from projections.history import Message
from workers.compaction.transcript import text_of


def extract(messages: Sequence[Message], budget: int, earlier: str = "") -> str:
    """Cut."""
    text = "\n".join([earlier, *(f"{m['role']}: {text_of(m)}" for m in messages)])
    return text.encode()[-budget:].decode(errors="ignore")
