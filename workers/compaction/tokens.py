"""How tokens are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

TokenCounter: TypeAlias = Callable[[str], int]


def estimate_tokens(text: str) -> int:
    """Estimate."""
    return -(-len(text.encode()) // 4)
