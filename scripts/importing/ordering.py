"""In which order the messages of one of the original's lists were said.

The original adds each message at a list's head, so from the tail on the list is the conversation. But when it has
compacted a conversation, it writes the messages that remain the other way round: the list's end is then a block whose
oldest message stands nearest to the head, and later messages come before it at the head as usual. Nothing marks such a
block but the times of its messages:

- They rise towards the tail, where all other times fall.
- Or they are all the same and bear a UTC offset: one of the original's compactions stamps so, and nothing else does.

A list without a block at its end is taken as it stands from the tail on, whatever its times say, because that is how
the messages arrived. A list with a block is put in order of time. Equal times stay as they stand: from the head within
the block, from the tail elsewhere. (A conversation that the original has compacted again and again may be in no order
at all, for it reads its own blocks backwards. Where the times survived, this puts it right; where a compaction
stamped everything anew, nobody can.)
"""

from __future__ import annotations

from collections.abc import Sequence


def chronological(times: Sequence[int], *, offset_at_tail: bool) -> Sequence[int]:
    """Return the places of a list's messages, oldest first. Places count from the tail, which is 0.

    Args:
        times: The messages' times, from the tail on.
        offset_at_tail: Whether the time of the message at the tail bears a UTC offset.
    """
    block = _block(times, offset_at_tail=offset_at_tail)
    if not block:
        return range(len(times))
    return sorted(range(len(times)), key=lambda place: (times[place], -place if place < block else place))


def _block(times: Sequence[int], *, offset_at_tail: bool) -> int:
    """Return the length of the block at the tail that a compaction has written, 0 if there is none."""
    length = min(1, len(times))
    while length < len(times) and times[length] <= times[length - 1]:
        length += 1
    return length if length and (offset_at_tail or times[length - 1] < times[0]) else 0
