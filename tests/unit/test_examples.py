"""The examples where they cannot run; `make test-aiecs` runs them where they can."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.skipif(find_spec("aiecs") is not None, reason="aiecs is installed")
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_says_what_to_install(path: Path) -> None:
    """Without the agents' package, an example says in one sentence what to install."""
    outcome = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert outcome.returncode == 1
    assert outcome.stderr == (
        "This example runs real agents: install them with pip install aiecs (on Python 3.11 or 3.12).\n"
    )
