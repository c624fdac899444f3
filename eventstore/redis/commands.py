"""What is said to Redis and what it answers: commands, scripts, replies, refusals."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Self, TypeAlias

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, ResponseError

from eventstore.errors import NotPermitted, StoreRefused

Argument: TypeAlias = bytes | str | int
Command: TypeAlias = Sequence[Argument]
Call: TypeAlias = tuple[Sequence[bytes], Sequence[Argument]]
"""The keys and arguments of a script."""


class Script:
    """A Lua script, known to the server by its SHA-1."""

    def __init__(self, text: str) -> None:
        """Take the script's text."""
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def load(cls, package: str, name: str) -> Self:
        """Read ``name`` from a package's folder."""
        return cls(files(package).joinpath(name).read_text(encoding="utf-8"))


_DENIED_IN_A_SCRIPT = ("ACL failure in script", "The user executing the script can't")
"""How servers begin to say that a script's caller lacks a permission."""


def refusal(error: Exception) -> StoreRefused:
    """Turn the server's error reply into ours."""
    refused = StoreRefused(f"Redis refused: {error}. Nothing was written.")
    if isinstance(error, NoPermissionError) or str(error).startswith(_DENIED_IN_A_SCRIPT):
        refused = NotPermitted(f"{refused} scripts/acl.py prints the permissions that each role needs.")
    refused.__cause__ = error
    return refused


def checked(replies: Sequence[Any]) -> Sequence[Any]:
    """Return the replies of a pipeline.

    Raises:
        StoreRefused: One of them is an error.
    """
    for reply in replies:
        if isinstance(reply, Exception):
            raise refusal(reply)
    return replies


def pack(commands: Sequence[Command]) -> list[bytes]:
    """Return the commands as RESP."""
    packed: Callable[[Any], bytes] = hiredis.pack_command
    return [packed(tuple(command)) for command in commands]


async def next_reply(connection: AbstractConnection) -> Any:
    """Wait for the next reply, and return it; an error reply too."""
    try:
        return await connection.read_response(disable_decoding=True, timeout=math.inf, disconnect_on_error=False)
    except (ResponseError, AuthenticationError, AuthorizationError) as error:
        return error
