"""Checks of the arguments that the engine's methods share."""

from __future__ import annotations

from typing import Any

from eventstore.errors import InvalidInput


def limit_of(limit: object, name: str = "limit") -> int | None:
    """Return a limit; None for no limit, which 0 means too.

    Raises:
        InvalidInput: It is neither None nor a whole number from 0.
    """
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise InvalidInput(f"{name} must be a whole number from 0 (0 or None for all), not {limit!r:.80}.")
    return limit or None


def dict_of(value: object, name: str) -> dict[str, Any]:
    """Return a dict; an empty one for None.

    Raises:
        InvalidInput: It is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} must be a dict, not {type(value).__name__}.")
    return value


def text_of(value: object, name: str) -> str:
    """Return a str that is not empty.

    Raises:
        InvalidInput: It is something else.
    """
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{name} must be a str that is not empty, not {value!r:.80}.")
    return value
