"""The figures of docs/GUARANTEES.md are those that the crash tests found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.figures import HEADING, KEPT_IN, PAGE, main, page_with, table
from support.findings import FINDINGS, record

DOCS = Path(__file__).parents[2] / "docs"
JUDGED = {"acknowledged": 10, "found": 9, "lost": 1, "doubled": 0, "out_of_order": 0, "torn": 0, "untold": 0}


def found_in_docs() -> Any:
    """Return what is kept beside the page."""
    return json.loads((DOCS / KEPT_IN).read_text(encoding="utf-8"))


def test_the_page_has_the_figures_of_the_last_long_run() -> None:
    """The table of the page is what the JSON beside it gives."""
    page = (DOCS / PAGE).read_text(encoding="utf-8")
    assert page_with(page, found_in_docs()) == page


def test_the_last_long_run_was_long_and_flawless() -> None:
    """What the page counts on is in the JSON, in as many rounds as are promised, and nothing was doubled or moved."""
    findings = found_in_docs()["findings"]
    rounds: dict[str, int] = {}
    for finding in findings:
        rounds[finding["name"]] = min(rounds.get(finding["name"], 100), finding["rounds"])
        assert not any(finding.get(fault) for fault in ("doubled", "out_of_order", "torn", "untold")), finding
    for name in ("the server is killed, appendfsync always", "the server is killed, appendfsync everysec"):
        assert rounds[name] == 20
    for name in ("power loss, appendfsync always", "power loss, appendfsync everysec"):
        assert rounds[name] == 20
    assert rounds["3 workers are killed, or stopped past their claim time"] == 50
    may_lose = {
        "the server is killed, appendfsync everysec",
        "power loss, appendfsync everysec",
        "the log is cut in mid-record",
        "a replica takes over where sentinels watch",
        "a replica takes over in a cluster",
        "a stalled replica takes over, accepted",
        "a stalled replica takes over, fsynced",
    }
    assert {finding["name"] for finding in findings if finding.get("lost")} <= may_lose


def test_what_is_recorded_stands_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings of one name are summed, the most of them is the most, and texts stay in the JSON."""
    findings, docs = tmp_path / "findings.jsonl", tmp_path / "docs"
    docs.mkdir()
    (docs / PAGE).write_text(f"# Page\n\n{HEADING}\n\nold\n\n## Next\n\nkept\n", encoding="utf-8")
    monkeypatch.setenv(FINDINGS, str(findings))
    for server, lost_at_once in (("one", 7), ("other", 5)):
        record(
            "cut", server=server, rounds=2, **JUDGED, unknown=3, unknown_there=1, most_lost=lost_at_once, seeds="1 2"
        )
    record("another", rounds=1, parked=1)
    assert main([str(findings), "--write", str(docs)]) == 0
    page = (docs / PAGE).read_text(encoding="utf-8")
    assert "| cut | 4 | 20 | 18 | 2 | 0 | 0 | 6 | 2 | most lost 7 |" in page
    assert "| another | 1 |  |  |  |  |  |  |  | parked 1 |" in page
    assert "old" not in page
    assert page.endswith("\n\n## Next\n\nkept\n")
    kept = json.loads((docs / KEPT_IN).read_text(encoding="utf-8"))
    assert page_with(page, kept) == page
    assert len(kept["findings"]) == 3


def test_without_a_file_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names no file, findings go nowhere."""
    monkeypatch.delenv(FINDINGS, raising=False)
    monkeypatch.chdir(tmp_path)
    record("cut", rounds=1)
    assert list(tmp_path.iterdir()) == []


def test_other_figures_make_another_table() -> None:
    """A table shows the figures that it is given."""
    findings = found_in_docs()["findings"]
    assert table(findings) != table([{**finding, "rounds": finding["rounds"] + 1} for finding in findings])
