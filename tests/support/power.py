"""A server whose power can be cut: what it had not synced to its disk by then is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from support import syncs_told
from support.servers import Server

RECEIVE, SEND = 0xC0502100, 0xC0182101
"""The requests to a listener of seccomp notifications: take the next, answer it."""
NOTIFICATION = struct.Struct("QIIiIQ6Q")
ANSWER = struct.Struct("QqiI")

can_be_cut = platform.system() == "Linux" and platform.machine() in syncs_told.SYSCALLS
"""Whether this machine tells when a program syncs."""


class MainsServer(Server):
    """A server that hangs on the mains, and a record of what its disk holds for certain.

    Whenever the server syncs a file, this process is told first. It notes how long the file is, syncs it, and only then
    lets the server go on. So what the server was told to be on disk is there, and nothing else counts as being there:
    the page cache, which outlives every kill of the server, does not survive here.
    """

    def __init__(self, binary: str, directory: Path, **settings: str) -> None:
        super().__init__(binary, directory, **settings)
        self._directory = directory
        self.syncs = 0
        """How often it has synced a file."""
        self._synced: dict[int, int] = {}
        self._noting: threading.Thread | None = None

    def lose_power(self) -> int:
        """Kill it, and cut its files back to what had been synced. Return how many bytes are gone."""
        self.kill()
        self._settle()
        gone = 0
        for path in self._directory.rglob("*"):
            if path.is_file():
                found = path.stat()
                kept = min(self._synced.get(found.st_ino, 0), found.st_size)
                os.truncate(path, kept)
                gone += found.st_size - kept
        return gone

    def stop(self) -> None:
        """Stop it if it runs."""
        super().stop()
        self._settle()

    def _launched(self) -> subprocess.Popen[bytes]:
        self._settle()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = subprocess.Popen(
                [sys.executable, syncs_told.__file__, str(theirs.fileno()), *self._command],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
            theirs.close()
            _, listeners, _, _ = socket.recv_fds(ours, 1, 1)
        assert listeners, "the kernel does not tell of syncs: it allows no seccomp notifications here"
        self._noting = threading.Thread(target=self._note, args=listeners, daemon=True)
        self._noting.start()
        return process

    def _settle(self) -> None:
        """Wait until what a server that has ended asked for is noted."""
        if self._noting is not None:
            self._noting.join()
            self._noting = None

    def _note(self, listener: int) -> None:
        waiting = select.poll()
        waiting.register(listener, select.POLLIN)
        try:
            while not waiting.poll()[0][1] & select.POLLHUP:
                with contextlib.suppress(FileNotFoundError):  # it was killed meanwhile
                    notification = bytearray(NOTIFICATION.size)
                    fcntl.ioctl(listener, RECEIVE, notification)
                    number, pid, *_, file = NOTIFICATION.unpack(notification)[:7]
                    self._sync(f"/proc/{pid}/fd/{file}")
                    fcntl.ioctl(listener, SEND, ANSWER.pack(number, 0, 0, 0))
        finally:
            os.close(listener)

    def _sync(self, path: str) -> None:
        file = os.open(path, os.O_RDONLY)
        try:
            found = os.fstat(file)  # what is written from here on may miss this sync
            os.fdatasync(file)
            self._synced[found.st_ino] = found.st_size
            self.syncs += 1
        finally:
            os.close(file)
