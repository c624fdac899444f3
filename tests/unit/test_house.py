"""The house: imports run downwards only, and one folder each knows Redis."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = ["contextengine", "workers", "projections", "eventstore"]
KNOW_REDIS = {"eventstore/redis", "projections/redis"}
NAME_REDIS_CLIENTS = {
    "eventstore/opening.py",
    "contextengine/engine.py",
    "contextengine/clients.py",
}  # they take a client from the user


def imports_of(path: Path) -> Iterator[str]:
    """Give the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""


def modules() -> list[Path]:
    """Return all modules of the packages."""
    return [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    """A package imports only itself and the ones below it."""
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    above = {name for name in imports_of(path) if name.split(".")[0] in FLOORS[:floor]}
    assert not above


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_redis_folders_import_redis(path: Path) -> None:
    """Redis is spoken in two folders; elsewhere its name stands only where a user's client is taken."""
    relative = path.relative_to(ROOT)
    if str(relative.parent) in KNOW_REDIS or str(relative) in NAME_REDIS_CLIENTS:
        return
    assert not [name for name in imports_of(path) if name.split(".")[0] in {"redis", "hiredis"}]


@pytest.mark.parametrize("name", ["workers", "projections", "eventstore"])
def test_a_folder_that_shadows_a_package_is_named(name: str, tmp_path: Path) -> None:
    """An application's own folder of the same name makes the import say so in one sentence."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("", encoding="utf-8")
    outcome = subprocess.run(
        [sys.executable, "-c", "import contextengine"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 1
    message = outcome.stderr.strip().splitlines()[-1]
    assert message.startswith(f"ImportError: contextengine's own package {name!r} is shadowed by {tmp_path}")
    assert "rename" in message
