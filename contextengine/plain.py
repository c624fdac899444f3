"""From Python values to JSON, for what agents store: contexts, checkpoints, task contexts.

| given | stored and read back as |
|---|---|
| None, bool, int, finite float, str, list, dict with str keys | itself |
| datetime, date, time (aware or naive) | str, ISO 8601 |
| timedelta | str, ISO 8601 duration |
| Decimal, UUID | str, exact |
| Enum | its value |
| tuple, set, frozenset | list (a set in any order) |
| dataclass, attrs class, msgspec Struct, pydantic model | dict of its fields |

Anything else (bytes, NaN, keys that are not str, other objects) is refused.
"""

from __future__ import annotations

from typing import Any

import msgspec

from eventstore.errors import InvalidEvent, shown

_KEPT = (bytes, bytearray, memoryview)  # left as they are, so that the codec refuses them


def plain(value: Any, what: str) -> Any:
    """Return a value as JSON.

    Raises:
        InvalidEvent: It holds something that has no place in the table; ``what`` names the argument.
    """
    try:
        _refuse_other_keys(value)
        return _lists(msgspec.to_builtins(value, builtin_types=_KEPT, enc_hook=_model))
    except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError) as error:
        raise InvalidEvent(f"{what} cannot be stored: {error}.") from None


def _refuse_other_keys(value: Any) -> None:
    """Refuse dicts whose keys are not all str: two keys could become one."""
    if isinstance(value, dict):
        other = next((key for key in value if type(key) is not str), None)
        if other is not None:
            raise TypeError(f"the key {shown(other)} is a {type(other).__name__}, and JSON has only str keys")
        for item in value.values():
            _refuse_other_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_other_keys(item)


def _lists(value: Any) -> Any:
    """Turn tuples into lists."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _model(value: Any) -> Any:
    """Return a pydantic model's fields."""
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump()
    raise NotImplementedError(f"a {type(value).__name__} has no JSON form")
