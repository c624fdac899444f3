"""The order of the messages of the original's lists, whatever it has done to them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from importing.ordering import chronological


def in_order(from_head: list[int], *, offset: bool = False) -> list[int]:
    """Return the times of a list in the order in which its messages are imported."""
    times = from_head[::-1]
    return [times[place] for place in chronological(times, offset_at_tail=offset)]


def places(from_head: list[int], *, offset: bool = False) -> list[int]:
    """Return the indexes from the head in the order in which the messages are imported."""
    return [len(from_head) - 1 - place for place in chronological(from_head[::-1], offset_at_tail=offset)]


@pytest.mark.parametrize(
    ("from_head", "offset", "expected"),
    [
        ([], False, []),
        ([5], False, [0]),
        ([5], True, [0]),
        ([3, 2, 1], False, [2, 1, 0]),
        ([7, 7, 7], False, [2, 1, 0]),  # added within one tick of a clock
        ([3, 2, 2, 1, 1], False, [4, 3, 2, 1, 0]),
        ([9, 4, 5, 3, 2, 1], False, [5, 4, 3, 2, 1, 0]),  # a clock that was set back: as they arrived
        ([1, 2, 3], False, [0, 1, 2]),  # just compacted
        ([5, 4, 1, 2, 3], False, [2, 3, 4, 1, 0]),  # compacted, then two more
        ([5, 5, 1, 2, 2], False, [2, 3, 4, 1, 0]),  # equal times within the block and outside
        ([7, 7, 7], True, [0, 1, 2]),  # all stamped by one compaction
        ([9, 8, 7, 7, 7], True, [2, 3, 4, 1, 0]),
        ([9, 8, 7], True, [2, 1, 0]),  # a block of one
    ],
)
def test_orders(from_head: list[int], offset: bool, expected: list[int]) -> None:
    """Added at the head, compacted, and both: oldest first."""
    assert places(from_head, offset=offset) == expected


@settings(deadline=None)
@given(steps=st.lists(st.sampled_from(["add", "add", "add", "compact", "compact 3"]), max_size=30))
def test_whatever_the_original_did(steps: list[str]) -> None:
    """Compactions that keep the times, however many, at whatever moments, and read backwards by one another: in order.

    A compaction reads from the tail on, keeps the end of what it reads, and writes that from the head on.
    """
    found: list[int] = []
    for now, step in enumerate(steps):
        rewritten = found[::-1][-3:] if step == "compact 3" else found[::-1]
        found = [now, *found] if step == "add" else rewritten
    assert in_order(found) == sorted(found)
