"""The script of the import, run as people and machines run it."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from support.imports import SCRIPT, import_by_script, logs
from support.original import Original, tour
from support.servers import Server
from support.terminals import on_a_terminal


class TestTheScript:
    async def test_a_table(self, original: Original, server: Server, target_url: str) -> None:
        """People see how much was imported, was there, and was refused, and why; the exit code tells, too."""
        await tour(original)
        done = import_by_script("--from", server.url, "--to", target_url)
        assert done.returncode == 0
        assert re.search(r"^sessions +5 +0 +0$", done.stdout, re.MULTILINE)
        assert re.search(r"^messages +35 +0 +0$", done.stdout, re.MULTILINE)
        assert "6 of 6 sessions and threads" in done.stderr
        await original.put("sessions", "odd\x1b[31m", "no JSON")
        done = import_by_script("--from", server.url, "--to", target_url)
        assert done.returncode == 1
        assert re.search(r"^sessions +0 +5 +1$", done.stdout, re.MULTILINE)
        assert "refused: odd\\x1b[31m\n  sessions[odd\\x1b[31m]: it cannot be read (JSON is malformed" in done.stdout

    async def test_json(self, original: Original, server: Server, target_url: str) -> None:
        """Machines get one JSON object."""
        await original.create_session("s", "ann")
        await original.put("sessions", "bad", "no JSON")
        done = import_by_script("--from", server.url, "--to", target_url, "--namespace", "other", "--json", "--dry-run")
        assert done.returncode == 1
        told = json.loads(done.stdout)
        assert told["dry_run"] is True
        assert told["stopped"] is None
        assert told["imported"] == {"sessions": 1, "messages": 0, "checkpoints": 0, "writes": 0, "contexts": 1}
        assert told["refused"]["sessions"] == 1
        assert [(each["name"], each["key"]) for each in told["refusals"]] == [("bad", "sessions[bad]")]
        assert await logs(target_url, "other") == {}

    @pytest.mark.parametrize(
        ("source", "target", "reason"),
        [
            ("unix:///nowhere/s", None, "nowhere"),
            (None, "unix:///nowhere/s", "No Redis answers"),
            ("http://x", None, "--from cannot be used"),
            (None, "http://x", "No store serves 'http'"),
        ],
    )
    def test_what_cannot_begin(self, server: Server, source: str | None, target: str | None, reason: str) -> None:
        """A server that does not answer, or a URL of no sense, ends the script with code 2 and a sentence."""
        done = import_by_script("--from", source or server.url, "--to", target or f"{server.url}?db=1", "--json")
        assert done.returncode == 2
        assert reason in json.loads(done.stdout)["stopped"]
        assert "Traceback" not in done.stderr

    async def test_a_larger_limit(self, original: Original, server: Server, target_url: str) -> None:
        """What is larger than usual can be let in."""
        await original.add_message("s", "user", "x" * 2**20)
        assert import_by_script("--from", server.url, "--to", target_url).returncode == 1
        assert (
            import_by_script("--from", server.url, "--to", target_url, "--max-event-bytes", "2000000").returncode == 0
        )

    async def test_a_terminal(self, original: Original, server: Server, target_url: str) -> None:
        """On a terminal the progress is drawn."""
        await tour(original)
        code, _, shown = await asyncio.to_thread(on_a_terminal, SCRIPT, ["--from", server.url, "--to", target_url])
        assert (code, "6/6" in shown) == (0, True)
        assert re.search(r"^sessions +5 +0 +0\r?$", shown, re.MULTILINE)
