"""An engine under nest_asyncio and its like, where tasks run their event loop from within themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.servers import Server, binaries

USER = Path(__file__).parents[1] / "support" / "nesting_user.py"


@pytest.mark.parametrize("library", ["nest_asyncio", "nest_asyncio2"])
def test_tasks_that_run_their_loop_append_and_read(directory: Path, library: str) -> None:
    """Replies come to a nested run as to any other, though the task outside of it was waiting for one, too."""
    with Server(next(iter(binaries().values())), directory) as server:
        command = [sys.executable, "-X", "dev", str(USER), library, server.url, "8", "10"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert json.loads(ran.stdout) == [20] * 8
    assert "Traceback" not in ran.stderr
