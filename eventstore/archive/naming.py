"""The names of the files of an archive.

``log-<namespace>-<SHA-256 of the session id>-<version>-<begun at, in ms>-<random>.jsonl.zst``: what a session is called
may be anything, so it stands in its file and not in the name. No name is given twice. So what a session's log says of
its file holds for ever, and whoever leaves a file behind leaves one that nobody else will come to use.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import NamedTuple

from eventstore.errors import InvalidInput, shown
from eventstore.ids import check_session_id
from eventstore.partitions import check_namespace

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}\Z")
_OURS = re.compile(
    r"log-(?P<namespace>[A-Za-z0-9_.-]{1,64})-[0-9a-f]{64}-[0-9]+-(?P<ms>[0-9]+)-[0-9a-f]{8}\.jsonl\.zst\Z"
)


class FileOf(NamedTuple):
    """What the name of a session's file tells: for which namespace, and when it was begun, in Unix milliseconds."""

    namespace: str
    begun_ms: int


def check_file_name(name: object) -> str:
    """Return the name of a file.

    Raises:
        InvalidInput: It is none that every archive can keep.
    """
    if not isinstance(name, str) or not _FILE.match(name):
        raise InvalidInput(f"A file's name has 1 to 255 letters, digits, '.', '_' and '-', unlike {shown(name)}.")
    return name


def prefix_of_session(namespace: str, session_id: str) -> str:
    """Return how the names of all files of a session begin, and no others.

    Whoever has to let a session go for good deletes all of them: a file may be there of which its log does not tell,
    because who put it there died.
    """
    return prefix_of_digest(namespace, hashlib.sha256(check_session_id(session_id)).hexdigest())


def prefix_of_digest(namespace: str, digest: str) -> str:
    """Return the same, given the SHA-256 of the session's id in hexadecimal."""
    return f"log-{check_namespace(namespace)}-{digest}-"


def new_file_name(namespace: str, session_id: str, version: int, begun_ms: int) -> str:
    """Return a name for a file that holds a session's log up to a version. None is given twice."""
    return f"{prefix_of_session(namespace, session_id)}{version}-{begun_ms}-{uuid.uuid4().hex[:8]}.jsonl.zst"


def told_by(name: str) -> FileOf | None:
    """Return what a name tells, None if it is none that `new_file_name` gives."""
    found = _OURS.match(name)
    return FileOf(found["namespace"], int(found["ms"])) if found else None
