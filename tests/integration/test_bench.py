"""The benchmark: it runs, and leaves what it says. What it measures is not looked at: this machine may be busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = [sys.executable, str(ROOT / "scripts" / "bench.py")]


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark, with its temporary files in a directory, to its end."""
    environment = os.environ | {"TMPDIR": str(directory), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [*BENCH, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_it_leaves_a_table_json_and_a_page(directory: Path) -> None:
    """Two rows are measured against raw Redis; table, JSON and page tell the same; its servers have gone."""
    docs, path = directory / "docs", directory / "found.json"
    done = run(directory, "--quick", "--only", "one", "values", "--json", str(path), "--write", str(docs))
    assert done.returncode == 0, done.stderr
    assert "One message, sequential" in done.stdout

    found = json.loads(path.read_text(encoding="utf-8"))
    assert [row["name"] for row in found["rows"]] == ["one", "values"]
    for row in found["rows"]:
        assert all(len(figure["values"]) == 3 and min(figure["values"]) > 0 for figure in row["result"]["figures"])
        for check in row["result"]["checks"]:
            assert check["passed"] == (check["median"] <= check["bound"])
        assert row["passed"] == all(check["passed"] for check in row["result"]["checks"])

    page = (docs / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert "get_session / HGETALL" in page
    assert "--only one values" in page
    assert str(directory) not in page
    assert sorted(left.name for left in directory.iterdir()) == ["docs", "found.json"]


def test_what_was_written_by_hand_stays(directory: Path) -> None:
    """When the page is written again, its figures are new and its last section is as it was."""
    page = directory / "BENCHMARKS.md"
    page.write_text("# Old\n\nold figures\n\n## Where the time goes\n\nIn the kernel.\n\n## More\n", encoding="utf-8")
    done = run(
        directory, "--quick", "--only", "values", "--only", "one", "--transport", "tcp", "--write", str(directory)
    )
    assert done.returncode == 0, done.stderr
    written = page.read_text(encoding="utf-8")
    assert "old figures" not in written
    assert written.startswith("# Benchmarks\n")
    assert "get_session / HGETALL" in written
    assert "One message, sequential" in written
    assert written.endswith("\n\n## Where the time goes\n\nIn the kernel.\n\n## More\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--server", "/nowhere/redis-server"), "The server '/nowhere/redis-server' cannot be run"),
        (("--server", "/bin/true"), "'/bin/true' is no server"),
        (("--json", "/nowhere/found.json"), "there is no directory '/nowhere'"),
        (("--write", "/etc/hostname"), "'/etc/hostname' is a file"),
        (("--dir", "/nowhere"), "'/nowhere' does not exist"),
        (("--input", "/nowhere.jsonl"), "/nowhere.jsonl cannot be read"),
        (("--only", "one", "two"), "'two' is none of the rows: one, writers, "),
    ],
    ids=["server", "no server", "json", "page", "directory", "input", "row"],
)
def test_what_cannot_begin_says_why(directory: Path, arguments: tuple[str, ...], complaint: str) -> None:
    """Without a server, messages or rows that there are it ends with exit code 2 and one sentence."""
    done = run(directory, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
