"""How often a crash test breaks something: often in the long form, ``make test-crash``, and a few times otherwise."""

from __future__ import annotations

import os

ROUNDS = "CONTEXTENGINE_ROUNDS"
FEW = 2


def rounds(most: int) -> int:
    """Return how many rounds the present form runs of a test that has so many in the long one."""
    return min(most, int(os.environ.get(ROUNDS, FEW)))
