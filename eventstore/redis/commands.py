"""What is said to Redis and what it answers: commands, scripts, replies, refusals."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Self, TypeAlias

import hiredis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from eventstore.errors import ContextEngineError, NotPermitted, OutOfMemory, StoreRefused, StoreUnavailable

Argument: TypeAlias = bytes | str | int
Command: TypeAlias = Sequence[Argument]
"""The words of a command; or it is `Prepared`, and nobody looks at its words any more."""
Call: TypeAlias = tuple[Sequence[bytes], Sequence[Argument]]
"""The keys and arguments of a script."""


class Prepared(bytes):
    """A command as RESP, made once because it is sent again and again."""


_INCLUDE = re.compile(r"^-- include (\S+)/(\S+)$", re.MULTILINE)


class Script:
    """A Lua script, known to the server by its SHA-1."""

    def __init__(self, text: str) -> None:
        """Take the script's text."""
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def load(cls, package: str, name: str) -> Self:
        """Read ``name`` from a package's folder, with what it includes (``-- include package/name``)."""
        return cls(_text(package, name))


def _text(package: str, name: str) -> str:
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda found: _text(found[1], found[2]), text)


class Unserved(StoreUnavailable):
    """A node did not serve commands. They may be served when they are sent again, perhaps by another node."""


class NoReplicasError(ResponseError):
    """NOREPLICAS: fewer replicas follow than the server wants before it takes writes (``min-replicas-to-write``)."""


ELSEWHERE_OR_LATER = (AskError, TryAgainError, ClusterDownError, ReadOnlyError, NoReplicasError)
"""What says that the node has carried out nothing. redis-py takes MOVED for a kind of ASK, MASTERDOWN of CLUSTERDOWN.

A script that meets one of the last two has written nothing either: neither begins between two commands of a script.
"""

_BY_A_SCRIPT = re.compile(
    r"ERR Error running script \(call to \w+\): (?:@user_script: ?\d+: )+-(?=READONLY|NOREPLICAS)"
)
"""How servers before Redis 7 begin to say what a command within a script was told."""

_KEY_AT = {"EVALSHA": 3, "XGROUP": 2, "XINFO": 2}
_KEY_AFTER = {"XREAD": "STREAMS", "XREADGROUP": "STREAMS"}
_WITHOUT_KEY = {"CLIENT", "CLUSTER", "EXEC", "INFO", "MULTI", "SCRIPT", "TIME"}


def key_of(command: Command) -> bytes:
    """Return the first key that a command names, the empty one if it names none."""
    name = str(command[0])
    if name in _WITHOUT_KEY:
        return b""
    at = command.index(_KEY_AFTER[name]) + 1 if name in _KEY_AFTER else _KEY_AT.get(name, 1)
    key = command[at]
    return key if isinstance(key, bytes) else str(key).encode()


def failure(error: Exception) -> ContextEngineError:
    """Turn the server's error reply into ours: into `Unserved` where another node, or another time, may serve."""
    # UNBLOCKED: the node has lost its slot, or its rank, while the command was waiting there.
    if isinstance(error, ELSEWHERE_OR_LATER) or str(error).startswith("UNBLOCKED"):
        return unserved(error)
    return refusal(error)


def unserved(error: Exception) -> Unserved:
    """Turn a node's reply that it does not serve a command into ours."""
    ours = Unserved(f"The node does not serve this now ({type(error).__name__}: {error}).")
    ours.__cause__ = error
    return ours


_DENIED_IN_A_SCRIPT = ("ACL failure in script", "The user executing the script can't")
"""How servers begin to say that a script's caller lacks a permission."""
_OUT_OF_MEMORY_IN_A_SCRIPT = "OOM command not allowed"


def refusal(error: Exception, *, left: str = "Nothing was written.") -> StoreRefused:
    """Turn the server's error reply into ours, which also says what there is then."""
    refused = StoreRefused(f"Redis refused: {error}. {left}")
    if isinstance(error, NoPermissionError) or str(error).startswith(_DENIED_IN_A_SCRIPT):
        refused = NotPermitted(f"{refused} scripts/acl.py prints the permissions that each role needs.")
    elif isinstance(error, OutOfMemoryError) or _OUT_OF_MEMORY_IN_A_SCRIPT in str(error):
        refused = OutOfMemory(f"{refused} The server needs more memory: see its maxmemory.")
    refused.__cause__ = error
    return refused


def checked(replies: Sequence[Any], commands: Sequence[Command] = ()) -> Sequence[Any]:
    """Return the replies of a pipeline.

    Raises:
        StoreRefused: One of them is an error. Where the commands are given, it names a key that somebody overwrote.
    """
    for number, reply in enumerate(replies):
        if isinstance(reply, Exception):
            if commands and str(reply).startswith("WRONGTYPE"):
                key = key_of(commands[number]).decode(errors="backslashreplace")
                raise refusal(reply, left=f"Somebody has overwritten the key {key!r}.")
            raise refusal(reply)
    return replies


def is_primary(replication: Any) -> bool:
    """Whether a server says of itself, in INFO, that it takes writes. One that does not tell may."""
    return not isinstance(replication, bytes) or b"role:slave" not in replication


def pack(commands: Sequence[Command]) -> list[bytes]:
    """Return the commands as RESP."""
    packed: Callable[[Any], bytes] = hiredis.pack_command
    return [command if type(command) is Prepared else packed(tuple(command)) for command in commands]


def prepared(command: Command) -> Prepared:
    """Return a command that takes no packing any more."""
    return Prepared(*pack([command]))


def error_of(text: str) -> Exception:
    """Return an error reply as an exception; what a command within a script was told, as if it had been outside."""
    text = _BY_A_SCRIPT.sub("", text)
    if text.startswith("NOREPLICAS"):
        return NoReplicasError(text)
    error: Exception = DefaultParser.parse_error(text)  # type: ignore[no-untyped-call] # redis-py leaves it untyped
    return error


async def next_reply(connection: AbstractConnection) -> Any:
    """Wait for the next reply, and return it; an error reply too."""
    try:
        return await connection.read_response(disable_decoding=True, timeout=math.inf, disconnect_on_error=False)
    except (ResponseError, AuthenticationError, AuthorizationError) as error:
        return error
