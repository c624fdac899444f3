"""What each role may do on the server, as rules of Redis' access control lists.

| role | for | may |
|---|---|---|
| reader | engines that only ask | read everything of the namespace |
| writer | engines with ``workers=False`` | that, and append |
| worker | ``python -m workers``, and engines with workers inside | that, and write views and move groups along feeds |
| auditor | who checks the log | read everything of the namespace, also by commands that the engine does not use |
| custodian | who archives and forgets | what a worker may, and move a log into the archive and back, and erase it |

No other role may delete, trim, rename, copy or overwrite a log. None may call other scripts than ours, or touch another
namespace. A script is carried out with its caller's permissions, so permissions on commands and keys hold inside ours
as well.

The rules need Redis 7.0 or newer, or any Valkey: Redis 6.2 can give a user one set of commands for all its keys only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import NamedTuple

from eventstore.errors import InvalidInput
from eventstore.partitions import check_namespace
from eventstore.redis.commands import Script

SCRIPT_FOLDERS = ("eventstore.redis", "projections.redis")
DIGITS = 4
"""Of a partition's number, at most. Each digit is spelled out, for a ``*`` would match the rest of any key as well."""

CONNECTION = (
    "ping select info time multi exec discard asking readonly client|id client|setname script|load script|exists "
    "cluster|slots cluster|shards"
)
ENGINE_READS = (
    "exists get hget hgetall hexists hkeys hmget hscan hvals lrange xinfo|groups xinfo|stream xpending xrange xread "
    "xrevrange zcard zrevrange zrevrangebyscore"
)
VIEWS = (
    "session@*",
    "history@*",
    "compaction@*",
    "context@*",
    "checkpoints@*",
    "checkpoint-order@*",
    "writes@*",
    "sessions@*",
    "totals@*",
)


class Grant(NamedTuple):
    """Some commands on some keys.

    Attributes:
        commands: As in ``+command``.
        keys: What follows the prefix of a partition.
        access: ``R`` to read, ``W`` to write, or both.
        without: Commands that a category among the commands brings along.
    """

    commands: str
    keys: tuple[str, ...]
    access: str = "RW"
    without: str = ""


class Role(NamedTuple):
    """What a role may do.

    Attributes:
        connection: Commands that concern no key.
        grants: The others.
        namespace: What it may do to the namespace's own key.
    """

    connection: str
    grants: tuple[Grant, ...]
    namespace: str = "hget"


_APPENDS = (
    Grant("xadd", ("log:*", "feed"), "W"),
    Grant("hset", ("heads",), "W"),
    Grant("set del", ("compacting:*",), "W"),
)
_PROJECTS = (
    Grant("xack xautoclaim xgroup|create xgroup|delconsumer xgroup|destroy xreadgroup xtrim", ("feed",)),
    Grant("set", ("feed-trimmed",), "W"),
    Grant("del hdel hincrby hset lpush ltrim rpush sadd set unlink zadd zrem", VIEWS),
    Grant("smembers", ("writes@*",), "R"),
    Grant("hdel hincrby hset", ("parked@*", "attempts@*", "workers")),
)
# Of what blocks and names no key there are WAIT and WAITAOF; older servers do not know the latter's name.
_APPENDING = f"{CONNECTION} client|kill wait @blocking"
_ARCHIVES = (
    Grant("hdel hset", ("archived", "released"), "W"),
    Grant("pexpire persist rename unlink xadd xlen", ("log:*", "whole:*")),
)
_ERASES = (
    Grant("hdel", ("heads",), "W"),
    Grant("hdel hset unlink", ("tombstones", "forgetting:*"), "W"),
    Grant("rename", ("log:*", "forgetting:*")),
    Grant("unlink", ("compacting:*", "chain@*"), "W"),
    Grant("xack xdel", ("feed",)),
)
_READS = Grant(ENGINE_READS, ("*",), "R")

ROLES = {
    "reader": Role(CONNECTION, (_READS,)),
    "writer": Role(_APPENDING, (_READS, *_APPENDS), "hget hsetnx"),
    "worker": Role(f"{_APPENDING} client|unblock", (_READS, *_APPENDS, *_PROJECTS), "hget hsetnx"),
    "custodian": Role(
        f"{_APPENDING} client|unblock",
        (_READS, *_APPENDS, *_PROJECTS, *_ARCHIVES, *_ERASES),
        "hget hgetall hsetnx",
    ),
    "auditor": Role(f"{CONNECTION} acl|whoami", (Grant("@read", ("*",), "R", "dbsize keys randomkey scan"),)),
}

_HASH = re.compile(r"[0-9a-f]{64}\Z")
_USER = re.compile(r"[!-~]{1,128}\Z")


def rules(role: str, namespace: str, *, any_script: bool = False) -> list[str]:
    """Return the rules of a role, as words for ``ACL SETUSER``. What the user had before is taken from it.

    Args:
        role: One of `ROLES`.
        namespace: The namespace that it may touch.
        any_script: Allow other scripts, too, which can do no more than the user can by itself. Otherwise those of this
            version of contextengine are named one by one, and after an upgrade the rules have to be given again.

    Raises:
        InvalidInput: There is no such role, or the namespace is none.
    """
    if role not in ROLES:
        raise InvalidInput(f"The role must be one of {', '.join(ROLES)}, not {role!r:.80}.")
    check_namespace(namespace)
    granted = ROLES[role]
    scripts = "evalsha" if any_script else " ".join(f"evalsha|{sha}" for sha in sorted(_scripts()))
    own_key = f"~{{{namespace}}}:namespace"
    return [
        "resetkeys",
        "resetchannels",
        "-@all",
        "clearselectors",
        *_allowed(granted.connection),
        f"({' '.join(_allowed(granted.namespace))} {own_key})",
        *(_selector(grant, namespace) for grant in (Grant(scripts, ("*",)), *granted.grants)),
    ]


def user_rules(role: str, namespace: str, user: str, password: str | None, *, any_script: bool = False) -> str:
    """Return a user's name and rules, as they stand behind ``ACL SETUSER``, or behind ``user`` in a file of users.

    Args:
        role: As for `rules`.
        namespace: Likewise.
        user: The name: visible ASCII characters.
        password: The SHA-256 of a password in hexadecimal; ``nopass`` for none; None to leave passwords alone.
        any_script: As for `rules`.

    Raises:
        InvalidInput: As `rules`, or the user's name or the password is none.
    """
    if not _USER.match(user):
        raise InvalidInput(f"A user's name has 1 to 128 visible ASCII characters, unlike {user!r:.80}.")
    secret = []
    if password == "nopass":  # noqa: S105 - the word for none
        secret = ["nopass"]
    elif password is not None:
        if not _HASH.match(password):
            raise InvalidInput("A password is given as its SHA-256: 64 hexadecimal digits in lower case.")
        secret = ["resetpass", f"#{password}"]
    return " ".join([user, "on", *secret, *rules(role, namespace, any_script=any_script)])


def _scripts() -> Iterator[str]:
    """Give the SHA-1 of each of our scripts."""
    for package in SCRIPT_FOLDERS:
        for path in files(package).iterdir():
            if path.name.endswith(".lua"):
                yield Script.load(package, path.name).sha


def _allowed(commands: str) -> Iterable[str]:
    return (f"+{command}" for command in commands.split())


def _selector(grant: Grant, namespace: str) -> str:
    """Return a grant as a selector: these commands on these keys, and nothing together with another selector."""
    access = "" if grant.access == "RW" else f"%{grant.access}"
    prefixes = [f"{{{namespace}:{'[0-9]' * digits}}}:" for digits in range(1, DIGITS + 1)]
    words = [
        *_allowed(grant.commands),
        *(f"-{command}" for command in grant.without.split()),
        *(f"{access}~{prefix}{key}" for key in grant.keys for prefix in prefixes),
    ]
    return f"({' '.join(words)})"
