"""Ids: of events (made here) and of sessions (checked here)."""

from __future__ import annotations

import enum
import hashlib
import itertools
import os
import time
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import NamedTuple

from eventstore.errors import InvalidInput, InvalidSessionId

MAX_ID_BYTES = 512
MOST_REMEMBERED = 10_000
"""Session ids that are not checked again."""
_random = Random()  # noqa: S311 - ids have to differ, not to be secret. Its own, because callers seed the module's.


class _Ids(NamedTuple):
    """The event ids of one millisecond: what they begin with, and what counts their ends."""

    ms: int
    prefix: str
    next: Callable[[], int]


_ids = _Ids(-1, "", itertools.count().__next__)


def new_event_id() -> str:
    """Return a UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then 73 random bits.

    The last 48 bits of those of one millisecond count up from the first, as section 6.2 of the RFC has it: every event
    needs one, and drawing and writing out so many bits for each would cost a good part of encoding it.
    """
    now, (ms, prefix, following) = time.time_ns() // 1_000_000, _ids
    if now != ms:
        _, prefix, following = _ids_of(now)
    return prefix + "%012x" % following()  # noqa: UP031 - an f-string takes twice as long


def _ids_of(ms: int) -> _Ids:
    """Begin a millisecond. Threads that do so at the same time go different ways."""
    global _ids  # noqa: PLW0603 - the one that is present
    time_text = f"{ms:012x}"
    a, b, first = _random.getrandbits(12), _random.getrandbits(14), _random.getrandbits(47)  # room to count above it
    _ids = _Ids(ms, f"{time_text[:8]}-{time_text[8:]}-7{a:03x}-{b | 1 << 15:04x}-", itertools.count(first).__next__)
    return _ids


def _begin_anew() -> None:
    """Let a forked process go its own way."""
    global _ids  # noqa: PLW0603
    _random.seed()
    _ids = _Ids(-1, "", itertools.count().__next__)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def check_session_id(session_id: object) -> bytes:
    """Return the session id as UTF-8.

    Raises:
        InvalidSessionId: It is not a str, is empty, is longer than 512 bytes, or holds NUL or a lone surrogate.
    """
    if type(session_id) is str:
        return _session_key(session_id)
    return _checked(session_id, "session id", InvalidSessionId)


@lru_cache(MOST_REMEMBERED)
def _session_key(session_id: str) -> bytes:
    return _checked(session_id, "session id", InvalidSessionId)


def tombstone_field(session_key: bytes) -> str:
    """Return under what the tombstone of a session is kept: its SHA-1, which a script on the server can compute."""
    return hashlib.sha1(session_key, usedforsecurity=False).hexdigest()


def check_name(name: object, what: str) -> bytes:
    """Return another name (a context key, a user id ...) as UTF-8, under the rules of session ids.

    Raises:
        InvalidInput: As for `check_session_id`; ``what`` names the argument in the message.
    """
    return _checked(name, what, InvalidInput)


def _checked(text: object, what: str, error: type[InvalidInput]) -> bytes:
    if not isinstance(text, str) or (type(text) is not str and not isinstance(text, enum.Enum)):
        raise error(f"A {what} must be a str, not {type(text).__name__}.")  # JSON knows no other kinds of text
    if not text:
        raise error(f"A {what} must not be empty.")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as exc:
        raise error(f"The {what} {text[:80]!r} holds a lone surrogate, which UTF-8 cannot express: {exc}.") from None
    if len(encoded) > MAX_ID_BYTES:
        raise error(f"A {what} may have {MAX_ID_BYTES} bytes in UTF-8 at most; {text[:40]!r}... has {len(encoded)}.")
    if b"\0" in encoded:
        raise error(f"The {what} {text[:80]!r} holds a NUL character.")
    return encoded
