"""One user of an embedded server, in a process of its own, who does what it is told on standard input.

``open``, ``append <count>`` and ``close`` each end with a JSON line.

With ``--orphan``, another user starts the server and is killed, and the server becomes a child of this process, which
never asks how its children ended: as process 1 of a container does that is no init. With ``--dies-starting``, this user
is killed as soon as it has started the server's process.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
from typing import Any

import anyio.to_thread

from eventstore import EventStore, MessageAdded, embedded, open_store
from eventstore.redis.store import RedisStore

PR_SET_CHILD_SUBREAPER = 36


async def server_pid(store: EventStore) -> int:
    """Return the process id of the server on which a store stands."""
    assert isinstance(store, RedisStore)
    info = await store.links.call("INFO", "server")
    return int(info.split(b"process_id:")[1].split()[0])


def say(action: str, **values: Any) -> None:
    """Write a JSON line."""
    sys.stdout.write(json.dumps({"action": action, **values}) + "\n")
    sys.stdout.flush()


def leave_an_orphan(url: str) -> None:
    """Have another process start the server and kill that process."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    command = [sys.executable, __file__, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        starter.stdin.write(b"open\n")
        starter.stdin.flush()
        while b"opened" not in starter.stdout.readline():
            continue
        starter.kill()


def die_starting() -> None:
    """Make this process kill itself at the moment at which it has started another one."""

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            os.kill(os.getpid(), signal.SIGKILL)

    embedded.subprocess.Popen = Popen  # type: ignore[attr-defined]


async def main(url: str) -> None:
    """Obey."""
    say("ready")
    while words := (await anyio.to_thread.run_sync(sys.stdin.readline)).split():
        match words:
            case ["open"]:
                store = await open_store(url)
                say("opened", pid=await server_pid(store))
            case ["append", count]:
                appended = await store.append("s", [MessageAdded("user", str(n)) for n in range(int(count))])
                say("appended", version=appended.version, event_ids=appended.event_ids)
            case ["close"]:
                await store.aclose()
                say("closed")


if __name__ == "__main__":
    if "--orphan" in sys.argv:
        leave_an_orphan(sys.argv[1])
    if "--dies-starting" in sys.argv:
        die_starting()
    asyncio.run(main(sys.argv[1]))
