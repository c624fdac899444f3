"""The examples, run as their readers run them."""

from __future__ import annotations

import logging
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import contextengine
from with_aiecs.agents import Model

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHOWN: dict[str, tuple[str, ...]] = {
    "basic_integration": ("agent-1: You have told me 1 thing(s), at last: 'Hello'.", "runs on: memory"),
    "best_practices": ("await engine.initialize()", "'Hello'", "InvalidEvent", "the newest 50 of 5,000:"),
    "compression": ("20 messages were said", "The user has sent numbered messages", "user: Message 9"),
    "context_storage": ("{'theme': 'dark'}", "21 items, 31 in total", "shopping_cart: 2 field(s)"),
    "conversation_history": (
        "at last: 'What's the weather?', 'What about tomorrow?'.",
        "] assistant: You have told me",
    ),
    "multi_agent": ("agent-2: You have told me 1 thing(s), at last: 'My name is Ann.'.", "agent-2: We have not talked"),
    "production": ("no engine: ", "'total_sessions': 1", "healthy, on redis, issues: []"),
    "session_management": ("average time: 1.5 s", "had to count: 1", "idle at all: 1", "still there: 2"),
}


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let examples find what they share, and let them silence the agents for themselves alone."""
    monkeypatch.syspath_prepend(EXAMPLES)
    level = logging.getLogger("aiecs").level
    yield
    logging.getLogger("aiecs").setLevel(level)


def test_all_of_them_are_tested() -> None:
    """Each file there is an example whose output is known below, or what they share."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SHOWN, "scripted"}


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("kind", ["redis", "embedded"])
def test_runs_and_shows_what_it_is_for(
    name: str,
    kind: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a Redis and on a server of its own, an example prints what it promises."""
    if name == "compression" and not hasattr(contextengine, "CompressionConfig"):
        pytest.skip("contextengine has no CompressionConfig yet")
    directory = request.getfixturevalue("directory")
    url = request.getfixturevalue("empty_redis") if kind == "redis" else f"embedded://{directory}/memory"
    monkeypatch.setenv("CONTEXTENGINE_URL", url)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for text in SHOWN[name]:
        assert text in printed


def test_remembers_from_run_to_run_with_no_settings(directory: Path) -> None:
    """With nothing set up an example starts a server beside itself, and its second run remembers the first."""
    shutil.copytree(EXAMPLES, directory / "examples", ignore=shutil.ignore_patterns(".data"))
    printed = [
        subprocess.run(
            [sys.executable, str(directory / "examples" / "conversation_history.py")],
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert ["We have not talked before." in text for text in printed] == [True, False]
    assert "told me 5 thing(s)" in printed[1]


async def test_the_example_of_the_readme(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the README says of agents runs as it stands, but for the key that its model needs, and remembers."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "aiecs" in block]
    model = Model()
    monkeypatch.setattr("aiecs.llm.OpenAIClient", lambda: model)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102
    for description in ("Hello", "And now?"):
        assert (await names["talk"]("user-123", description))["success"]
    assert (("user", "Hello") in model.last_prompt) is (where != "memory://")
