"""The scripts that replay, verify and rebuild, run as people and machines run them."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.servers import Server

from contextengine import ContextEngine
from eventstore import open_store

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
async def engine(server: Server) -> AsyncIterator[ContextEngine]:
    """An engine with a few sessions, on a server of the test's own."""
    async with ContextEngine(server.url) as engine:
        for number in range(4):
            name = f"user-{number}"
            await engine.create_session(name, "ann" if number % 2 else "bob")
            for text in ("one", "two", "three\x1b[31m"):
                await engine.add_conversation_message(name, "user", text)
            await engine.set_context(name, "plan", {"n": number})
        await engine.add_conversation_message("lone", "user", "only one")
        await engine.get_metrics()
        yield engine


async def run(script: str, server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of this server, and return what came of it."""
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), "--url", server.url, *arguments]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)


async def told(script: str, server: Server, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run a script for machines, and return what it told."""
    done = await run(script, server, *arguments, "--json")
    assert (done.returncode, done.stderr) == (code, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def damaged(server: Server) -> None:
    """Change a value of a view behind everybody's back."""
    async with open_store(server.url) as store:
        links, keys = store.links, store.keys  # type: ignore[attr-defined]
        await links.call("HSET", keys.of_session(b"context@1", b"user-2"), "plan", '{"n":99}')


class TestReplay:
    async def test_a_session_as_it_was(self, engine: ContextEngine, server: Server) -> None:
        """History, session and context of a version, or a time, are those that the engine answers."""
        (found,) = (await told("replay", server, "user-1", "--at-version", "3"))["sessions"]
        assert found["session"] == await engine.get_session("user-1", at_version=3)
        assert found["history"] == await engine.get_conversation_history("user-1", at_version=3)
        assert (found["version"], found["context"]) == (3, {})
        (now,) = (await told("replay", server, "user-1", "--at", "9999-01-01"))["sessions"]
        assert (now["version"], now["context"]) == (5, {"plan": {"n": 1}})
        (never,) = (await told("replay", server, "user-1", "--at", "1999-01-01T00:00:00Z"))["sessions"]
        assert (never["version"], never["session"], never["history"]) == (0, None, [])
        shown = await run("replay", server, "user-1", "--limit", "1")
        assert shown.returncode == 0
        assert re.search(r"^ +4  user +three\\x1b\[31m$", shown.stdout, re.MULTILINE)
        assert 'plan = {"n":1}' in shown.stdout

    async def test_many(self, engine: ContextEngine, server: Server) -> None:
        """Sessions are chosen by pattern, user and time; what has not come to a version yet is counted."""

        async def names(*arguments: str) -> list[str]:
            return [each["session_id"] for each in (await told("replay", server, *arguments))["sessions"]]

        assert await names("--match", "user-*") == ["user-0", "user-1", "user-2", "user-3"]
        assert await names("--user", "ann") == ["user-1", "user-3"]
        assert await names("--match", "*-[01]", "--user", "bob") == ["user-0"]
        assert await names("--since", "9999-01-01") == await names("--until", "1999-01-01") == []
        assert len(await names("--since", "1999-01-01", "--until", "9999-01-01")) == 5
        found = await told("replay", server, "--all", "--at-version", "2")
        assert (len(found["sessions"]), found["not_yet"], found["failures"]) == (4, 1, [])
        shown = await run("replay", server, "--all")
        assert re.search(r"^user-3 +5 +ann +active +3 +1$", shown.stdout, re.MULTILINE)

    async def test_what_changed(self, engine: ContextEngine, server: Server) -> None:
        """Between two moments: messages that came or went, context values, fields of the session."""
        await engine.set_context("user-1", "plan", "other")
        await engine.compress_conversation("user-1", "truncate")
        await engine.end_session("user-1", "cleared")
        (changed,) = (await told("replay", server, "user-1", "--diff", "3", "now"))["sessions"]
        assert (changed["from_version"], changed["to_version"]) == (3, 8)
        assert [message["content"] for message in changed["messages"]["gone"]] == ["one", "two"]
        assert changed["context"]["set"] == {"plan": "other"}
        assert changed["session"]["status"] == ["active", "cleared"]
        (back,) = (await told("replay", server, "user-1", "--diff", "6", "5"))["sessions"]
        assert back["context"]["changed"] == {"plan": ["other", {"n": 1}]}
        shown = await run("replay", server, "user-1", "--diff", "5", "6")
        assert '* context plan = {"n":1} -> other' in shown.stdout

    async def test_doubts(self, engine: ContextEngine, server: Server) -> None:
        """A session that is not there, or has not come so far, ends the script with code 1; no server, with code 2."""
        missing = await told("replay", server, "nobody", "user-1", code=1)
        assert [each["session_id"] for each in missing["failures"]] == ["nobody"]
        assert [each["session_id"] for each in missing["sessions"]] == ["user-1"]
        early = await told("replay", server, "user-1", "--at-version", "9", code=1)
        assert "has not come to version 9" in early["failures"][0]["reason"]
        assert (await told("replay", server, "user-1", "--diff", "1", "9", code=1))["sessions"] == []
        assert "No Redis" in (await told("replay", server, "x", "--url", "unix:///nowhere", code=2))["stopped"]
        assert "memory" in (await told("rebuild", server, "--url", "memory://", code=2))["stopped"]
        for wrong in (
            [],
            ["x", "--at", "tomorrow"],
            ["x", "--at-version", "-1"],
            ["x", "--at", "1999-01-01", "--verify"],
            ["x", "--at-version", "0", "--diff", "1", "now"],
            ["x", "--diff", "1", "later"],
        ):
            assert (await run("replay", server, *wrong)).returncode == 2


class TestVerifyAndRebuild:
    @pytest.mark.guarantee("R3", "R4")
    async def test_drift_is_found_and_mended(self, engine: ContextEngine, server: Server) -> None:
        """A view that drifts is named by session and field, with code 1; after a rebuild there is none."""
        await engine.set_context("user-2", "more", 1)  # so that it is not short: its views are stored
        clean = await told("replay", server, "--verify")
        assert (clean["clean"], clean["sessions"], clean["events"], clean["totals"]) == (True, 5, 22, True)
        await damaged(server)
        drift = await told("replay", server, "--verify", code=1)
        assert [(each["session_id"], each["field"]) for each in drift["drifts"]] == [("user-2", "context['plan'][0].n")]
        assert (drift["drifts"][0]["stored"], drift["drifts"][0]["folded"]) == (99, 2)
        shown = await run("replay", server, "--verify", "--match", "user-*")
        assert shown.returncode == 1
        assert re.search(r"^user-2 +6 +context\['plan'\]\[0\]\.n +99 +2$", shown.stdout, re.MULTILINE)
        assert (await told("replay", server, "user-1", "--verify"))["sessions"] == 1
        done = await told("rebuild", server, "--drop-old")
        assert (done["built"]["phase"], done["built"]["sessions"], done["dropped"]) == ("switched", 5, 5)
        assert (await told("replay", server, "--verify"))["clean"] is True
        await engine.get_metrics()  # an engine notices within a second, and at once when it counts
        assert await engine.get_context("user-2", "plan") == {"n": 2}
        assert (await run("rebuild", server)).stdout == "The new views live: 5 sessions, 22 events.\n"
        assert (await told("rebuild", server, "--drop-only"))["dropped"] == 5
