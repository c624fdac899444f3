"""`scripts/archive.py` as it is used, and what the other scripts say of archived sessions."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support.proofs import SIGNER, called, script, seal
from support.servers import Server

from contextengine import ContextEngine
from eventstore import EventStore, MessageAdded, SessionEnded, open_store
from eventstore.archive.places import ARCHIVE_VARIABLE
from eventstore.proof.signing import Keyring
from projections import Projector, open_views
from projections.transfer.reading import ExportFile

ENDED = ["one", "two", "a/../b 日本語"]


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """See to it that no archive is named but by the test."""
    monkeypatch.delenv(ARCHIVE_VARIABLE, raising=False)


@pytest.fixture
def where(redis_url: str, namespace: str, directory: Path) -> list[str]:
    """The options that name a store with three ended sessions and one that goes on, sealed, and an archive."""
    asyncio.run(fill(redis_url, namespace))
    return ["--url", redis_url, "--namespace", namespace, "--archive", f"file://{directory}/archive"]


async def fill(url: str, namespace: str, sessions: list[str] = ENDED, messages: int = 300) -> None:
    """Make sessions that have ended, and one that goes on; seal them."""
    async with open_store(url, namespace=namespace) as store:
        for session_id in sessions:
            await talk_and_end(store, session_id, messages)
        await store.append("goes on", MessageAdded("user", "hi"))
        await Projector(store, open_views(store)).project([*sessions, "goes on"])
        await seal(store)


async def talk_and_end(store: EventStore, session_id: str, messages: int) -> None:
    """Let a session have so many messages, and end it."""
    said = [MessageAdded("user", f"{session_id} says for the {n}th time: where is my parcel?") for n in range(messages)]
    await store.append(session_id, said)
    await store.append(session_id, SessionEnded("completed"))


def told(name: str, *arguments: str) -> tuple[int, Any]:
    """Run a script with --json. Return its exit code and what it tells."""
    code, out = called(name, *arguments, "--json")
    return code, json.loads(out)


def test_run_list_restore(where: list[str], directory: Path) -> None:
    """All that are due are archived, listed with their files, and brought back; each exit code is 0."""
    code, due = told("archive.py", "run", *where, "--idle", "0s", "--dry-run")
    assert (code, sorted(due["due"])) == (0, sorted(ENDED))
    assert not (directory / "archive").exists()
    code, done = told("archive.py", "run", *where, "--idle", "0s", "--rest", "0")
    assert (code, done["sessions"], done["not_done"], done["stopped"]) == (0, 3, [], None)
    assert 0 < done["file_bytes"] < done["entry_bytes"] / 5
    code, listed = told("archive.py", "list", *where)
    assert (code, listed["missing"]) == (0, 0)
    assert sorted(each["session_id"] for each in listed["sessions"]) == sorted(ENDED)
    assert {each["version"] for each in listed["sessions"]} == {301}
    names = {path.name for path in (directory / "archive").iterdir()}
    assert {each["file"] for each in listed["sessions"]} == names
    assert told("archive.py", "run", *where, "--idle", "0s")[1]["sessions"] == 0
    code, done = told("archive.py", "restore", *where, *ENDED)
    assert (code, done["sessions"]) == (0, 3)
    assert len(list((directory / "archive").iterdir())) == 3, "they stay for two hours"
    code, done = told("archive.py", "run", *where)
    assert (code, len(done["swept"]["left"])) == (0, 3)
    assert told("archive.py", "list", *where) == (0, {"sessions": [], "missing": 0})


def test_for_people(where: list[str], directory: Path) -> None:
    """The same is told to people, in processes of their own, with the archive named by the environment."""
    named, archive = where[:4], {ARCHIVE_VARIABLE: where[5]}
    ran = script("archive.py", "run", *named, "--idle", "0s", **archive)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("Archived 3 sessions, ")
    listed = script("archive.py", "list", *named, **archive)
    assert (listed.returncode, "a/../b" in listed.stdout, "3 archived" in listed.stderr) == (0, True, True)
    restored = script("archive.py", "restore", *named, "one", **archive)
    assert restored.stdout.startswith("Brought back 1 sessions")


@pytest.mark.guarantee("K4")
def test_each_file_is_an_export_that_proves_itself(where: list[str], directory: Path) -> None:
    """A file of the archive is a whole export of its session, with a seal that a key proves; import.py takes it."""
    called("archive.py", "run", *where, "--idle", "0s")
    for path in (directory / "archive").iterdir():
        file = ExportFile(path, Keyring([SIGNER.public]))
        assert (file.sessions, file.events, file.proved) == (1, 301, 301)
        code, out = called("import.py", str(path), *where[:2], "--namespace", where[3] + ".copy")
        assert code == 0, out
        content = path.read_bytes()
        path.write_bytes(content[:-30] + b"x" + content[-29:])
        assert called("import.py", str(path), "--check")[0] == 2
    assert told("archive.py", "list", *where)[0] == 0
    assert called("archive.py", "restore", *where, "one")[0] == 1


@pytest.mark.guarantee("K4")
def test_the_check(where: list[str], directory: Path) -> None:
    """With the archive everything is proved; without it nothing is, and it says so; a changed file is found."""
    public = directory / "key.pub"
    public.write_text(SIGNER.public_pem(), encoding="utf-8")
    called("archive.py", "run", *where, "--idle", "0s")
    key = ["--public-key", str(public)]
    code, verdict = told("verify.py", *where, *key)
    assert (code, verdict["proved"], verdict["archived"], verdict["sealed_events"]) == (0, True, 3, 904)
    code, verdict = told("verify.py", *where[:4], *key)
    assert (code, verdict["findings"], verdict["archived"]) == (3, [], 3)
    assert told("replay.py", "--verify", *where)[0] == 0
    assert told("replay.py", "--verify", *where[:4])[0] == 1
    (path, *_) = (directory / "archive").iterdir()
    path.unlink()
    code, verdict = told("verify.py", *where, *key)
    assert (code, {each["kind"] for each in verdict["findings"]}) == (1, {"archive"})
    code, listed = told("archive.py", "list", *where)
    assert (code, listed["missing"]) == (1, 1)
    code, done = told("archive.py", "run", *where)
    assert (code, len(done["swept"]["missing"])) == (1, 1)


def test_what_is_not_done_is_told(where: list[str]) -> None:
    """A session that is named and not due, or that does not exist, ends with 1; without an archive it ends with 2."""
    code, done = told("archive.py", "run", *where, "--idle", "0s", "goes on", "nobody", "one")
    assert (code, done["sessions"]) == (1, 1)
    assert {each["session_id"]: each["outcome"] for each in done["not_done"]} == {
        "goes on": "not due",
        "nobody": "refused",
    }
    assert told("archive.py", "run", *where, "two")[1]["not_done"][0]["reason"].startswith("something was appended")
    code, done = told("archive.py", "run", *where[:4], "--idle", "0s")
    assert (code, ARCHIVE_VARIABLE in done["stopped"]) == (2, True)
    assert told("archive.py", "list", "--url", "redis://localhost:1", *where[4:])[0] == 2
    assert called("export.py", *where[:4], "-o", "nowhere.jsonl", "one")[0] == 2
    assert told("archive.py", "list", *where[:4], "--archive", "s3://bucket")[0] == 2
    for bad in (["--idle", "soon"], ["--rest", "-1"]):
        assert called("archive.py", "run", *where, *bad) == (2, "")


@pytest.mark.guarantee("K5")
def test_it_frees_redis(server: Server, directory: Path) -> None:
    """Of an archived session nine tenths of the memory are free, also on a server that has none left for writes."""
    asyncio.run(fill(server.url, "contextengine", ["long"], 900))
    with Redis.from_url(server.url) as redis:

        def used() -> int:
            return sum(redis.memory_usage(key, samples=0) or 0 for key in redis.scan_iter() if b":long" in key)

        before, seals = used(), 32 * 901
        redis.config_set("maxmemory", 1)
        code, done = told(
            "archive.py", "run", "--url", server.url, "--archive", f"file://{directory}/a", "--idle", "0s"
        )
        assert (code, done["sessions"]) == (0, 1), done
        assert used() - seals < before / 10
        redis.config_set("maxmemory", 0)

    async def read() -> None:
        async with ContextEngine(server.url, archive=f"file://{directory}/a") as engine:
            assert len(await engine.get_conversation_history("long", 0)) == 900

    asyncio.run(read())


def test_replay_tells_logs_that_it_cannot_read_and_no_counts_beside_them(where: list[str]) -> None:
    """Without the archive, archived sessions are named; the counts over all, which are right, are called no drift."""
    assert told("archive.py", "run", *where, "--idle", "0s", "--rest", "0")[0] == 0
    code, verified = told("replay.py", "--verify", *where[:4])
    assert (code, verified["totals"]) == (1, False)
    assert {(drift["session_id"], drift["field"]) for drift in verified["drifts"]} == {(each, "log") for each in ENDED}
    assert told("replay.py", "--verify", *where)[1]["totals"]


def test_an_archive_that_fails_is_no_file_that_cannot_be_written(where: list[str], directory: Path) -> None:
    """An export that cannot go on says what cannot be read, and leaves no file."""
    assert told("archive.py", "run", *where, "--idle", "0s", "--rest", "0", "one")[0] == 0
    (directory / "archive").rename(directory / "moved")
    (directory / "archive").touch()
    code, told_of = told("export.py", *where, "one", "-o", str(directory / "one.jsonl"))
    assert code == 2
    assert "The archive" in told_of["stopped"]
    assert sorted(path.name for path in directory.iterdir()) == ["archive", "moved"]


@pytest.mark.guarantee("K4")
@pytest.mark.parametrize("damage", ["directory", "empty", "cut", "longer"])
def test_a_file_that_is_none_or_has_another_size(where: list[str], directory: Path, damage: str) -> None:
    """It is told by the list, and is a finding of its session alone; everything else is looked at."""
    assert told("archive.py", "run", *where, "--idle", "0s", "--rest", "0")[0] == 0
    sessions = {each["file"]: each["session_id"] for each in told("archive.py", "list", *where)[1]["sessions"]}
    path = next((directory / "archive").iterdir())
    content = path.read_bytes()
    path.unlink()
    if damage == "directory":
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "cut": content[:-1], "longer": content + b"x"}[damage])
    code, listed = told("archive.py", "list", *where)
    assert (code, listed["missing"]) == (1, damage == "directory")
    assert {each["file"] for each in listed["sessions"] if each["found"] != each["size"]} == {path.name}
    assert (["MISSING", "DAMAGED"][damage != "directory"]) in called("archive.py", "list", *where)[1]
    code, verdict = told("verify.py", *where)
    assert (code, verdict["archived"], verdict["sessions"]) == (1, 3, 4)
    (finding,) = verdict["findings"]
    assert (finding["kind"], finding["session_id"], path.name in finding["message"]) == (
        "archive",
        sessions[path.name],
        True,
    )
