"""Become another program, whose syncs to disk are told to whoever started it, and wait for the answer.

The first argument is a Unix socket, inherited, over which the starter gets what the kernel tells it by (a listener of
seccomp user notifications, see ``man 2 seccomp``); the others are the program. `support.power` starts it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
import sys

SYSCALLS = {"x86_64": (317, 74, 75), "aarch64": (277, 82, 83)}
"""By machine: the numbers of the system calls seccomp, fsync and fdatasync."""
PR_SET_NO_NEW_PRIVS = 38
SET_MODE_FILTER, NEW_LISTENER = 1, 8
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000


class Filter(ctypes.Structure):
    """``struct sock_fprog``: a filter of system calls."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def listener() -> int:
    """From now on tell of each sync before it happens. Return the file on which it is told."""
    seccomp, fsync, fdatasync = SYSCALLS[platform.machine()]
    program = [
        (LOAD, 0, 0, 0),  # the number of the system call
        (JUMP_IF_EQUAL, 2, 0, fsync),
        (JUMP_IF_EQUAL, 1, 0, fdatasync),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, NOTIFY),
    ]
    instructions = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    found = libc.syscall(seccomp, SET_MODE_FILTER, NEW_LISTENER, ctypes.byref(Filter(len(program), instructions)))
    if found < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(found)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as starter:
        socket.send_fds(starter, [b"."], [listener()])
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - that is what it is for
