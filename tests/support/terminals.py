"""Terminals for scripts: what stands there in the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path


def on_a_terminal(
    script: Path, arguments: Sequence[str], *, piped: bool = False, environment: Mapping[str, str] = os.environ
) -> tuple[int, str, str]:
    """Run a script on a terminal; or its errors alone, and its output into a pipe.

    Returns:
        The exit code, what came through the pipe, and what stands on the terminal without the codes that move about.
    """
    ours, its = os.openpty()
    seen = bytearray()

    def read() -> None:
        try:
            while part := os.read(ours, 65536):
                seen.extend(part)
        except OSError:
            pass  # the terminal's last user has gone

    with subprocess.Popen(
        [sys.executable, str(script), *arguments],
        env={**environment, "TERM": "xterm-256color"},
        stdin=its,
        stdout=subprocess.PIPE if piped else its,
        stderr=its,
    ) as process:
        os.close(its)
        reader = threading.Thread(target=read)
        reader.start()
        out, _ = process.communicate(timeout=60)
        reader.join()
    os.close(ours)
    return process.returncode, (out or b"").decode(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
