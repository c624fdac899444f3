"""Checks of the arguments that the engine's methods share."""

from __future__ import annotations

from typing import Any

from eventstore.codec import is_same
from eventstore.errors import InvalidInput, shown
from eventstore.store import check_number

MOST = 10**12
"""A count that is replaced leaves room to be counted on from there."""
LONGEST = 1e12
"""Seconds: some 30,000 years. Sums of such stay finite."""


def limit_of(limit: object, name: str = "limit") -> int | None:
    """Return a limit; None for no limit, which 0 means too.

    Raises:
        InvalidInput: It is neither None nor a whole number from 0.
    """
    return None if limit is None else check_number(name, limit) or None


def count_of(value: object, name: str) -> int:
    """Return a count.

    Raises:
        InvalidInput: It is not a whole number from 0 to `MOST`.
    """
    if check_number(name, value) > MOST:
        raise InvalidInput(f"{name} must be a whole number from 0 to {MOST}.")
    return check_number(name, value)


def seconds_of(value: object, name: str) -> float:
    """Return a duration.

    Raises:
        InvalidInput: It is not a number from 0 to `LONGEST`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST:
        raise InvalidInput(f"{name} must be a number of seconds from 0 to {LONGEST:g}.")
    return float(value)


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


def joined(others: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata together with what stands beside it and belongs into it.

    Raises:
        InvalidInput: A key stands in both, with another value in each, or with values that cannot be compared.
    """
    for key in others.keys() & metadata.keys():
        if type(others[key]) is not type(metadata[key]) or not is_same(others[key], metadata[key]):
            raise InvalidInput(f"The key {shown(key)} has one value in the metadata and another beside it.")
    return others | metadata


def text_of(value: object, name: str) -> str:
    """Return a str that is not empty.

    Raises:
        InvalidInput: It is something else.
    """
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{name} must be a str that is not empty, not {shown(value)}.")
    return value
