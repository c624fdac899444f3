"""The scripts of an audit, run as an auditor and a machine run them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from support.processes import Processes
from support.proofs import SCRIPTS, called, script, talk
from support.terminals import on_a_terminal

from eventstore import EventStore, MessageAdded, open_store
from eventstore.redis.store import RedisStore


class Audit:
    """A store, a key, and the scripts."""

    def __init__(self, url: str, namespace: str, directory: Path) -> None:
        self.url, self.namespace = url, namespace
        self.where = ("--url", url, "--namespace", namespace)
        self.directory = directory
        self.key, self.public = directory / "key", directory / "key.pub"
        assert called("seal.py", "--new-key", str(self.key))[0] == 0

    async def run(self, name: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run a script with ``--json``. Return its exit code and what it says."""
        code, out = await asyncio.to_thread(called, name, *self.where, "--json", *arguments)
        return code, json.loads(out)

    async def seal(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Seal with the key."""
        return await self.run("seal.py", "--key", str(self.key), *arguments)

    async def verify(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Verify with the public key."""
        return await self.run("verify.py", "--public-key", str(self.public), *arguments)


@pytest.fixture
def audit(redis_url: str, namespace: str, directory: Path) -> Audit:
    """An audit of an empty store."""
    return Audit(redis_url, namespace, directory)


async def filled(audit: Audit) -> EventStore:
    """Open the store with a session in it."""
    store = await open_store(audit.where[1], namespace=audit.where[3])
    await talk(store, "s", "one", "two", "three")
    return store


@pytest.mark.guarantee("A3", "A4")
async def test_seal_and_verify(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit codes tell: proved, wrong, cannot be looked at, not proved."""
    store = await filled(audit)
    manifest = str(audit.directory / "manifest.json")
    assert (await audit.verify())[0] == 3
    assert (await audit.seal("--manifest", manifest)) == (
        0,
        {"seals": store.partitions, "sessions": 1, "events": 3, "findings": []},
    )
    assert (await audit.verify("s", "--manifest", manifest))[0] == 0
    code, told = await audit.verify("--manifest", manifest)
    assert (code, told["proved"], told["sealed_events"], told["unsealed_events"]) == (0, True, 3, 0)
    await talk(store, "s", "four")
    assert (await audit.verify())[0] == 0
    assert (await audit.verify("--require-sealed"))[0] == 3
    assert (await audit.run("verify.py"))[0] == 3
    monkeypatch.setenv("CONTEXTENGINE_SEAL_PUBLIC_KEY", audit.public.read_text())
    monkeypatch.setenv("CONTEXTENGINE_SEAL_KEY", audit.key.read_text().replace("\n", "\\n"))
    assert (await audit.run("verify.py"))[0] == 0
    assert (await audit.run("seal.py"))[0] == 0
    second = (await store.read("s"))[1]
    async with Redis.from_url(audit.where[1]) as client:
        log = store.keys.log(store.keys.partition(b"s"), b"s")  # type: ignore[attr-defined]
        await client.xdel(log, f"2-{second.recorded_ms}")
    code, told = await audit.verify("--manifest", manifest)
    assert code == 1
    assert [(each["kind"], each["session_id"], each["version"]) for each in told["findings"]] == [("missing", "s", 2)]
    shown = script("verify.py", *audit.where, "--public-key", str(audit.public))
    assert shown.returncode == 1
    assert "Version 2 is missing" in shown.stdout
    assert "NOT AS IT WAS" in shown.stdout
    await store.aclose()


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("verify.py", ["--manifest", "/nowhere"], "cannot be read"),
        ("verify.py", ["--public-key", "/nowhere"], "cannot be read"),
        ("seal.py", [], "There is no key"),
        ("seal.py", ["--key", "/nowhere"], "cannot be read"),
        ("export.py", ["nobody", "-o", "x"], "nobody"),
        ("import.py", ["/nowhere"], "/nowhere cannot be read: No such file or directory."),
        ("audit_report.py", ["nobody", "-o", "x"], "nobody"),
    ],
)
async def test_what_cannot_begin(audit: Audit, name: str, arguments: list[str], reason: str) -> None:
    """A file, key or session that is not there ends a script with code 2 and a sentence."""
    await (await open_store(audit.url, namespace=audit.namespace)).aclose()
    code, told = await audit.run(name, *arguments)
    assert code == 2
    assert reason in str(told["stopped"])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("archive.py", ["list"]),
        ("audit_report.py", ["s", "-o", "x"]),
        ("export.py", ["-o", "x"]),
        ("forget.py", ["s", "--by", "me", "--reason", "asked", "--unsigned"]),
        ("parked.py", ["list"]),
        ("rebuild.py", []),
        ("replay.py", ["--all"]),
        ("replay.py", ["s"]),
        ("seal.py", []),
        ("verify.py", []),
    ],
)
async def test_a_namespace_that_is_not_there(audit: Audit, name: str, arguments: list[str]) -> None:
    """A misspelt namespace is named, instead of being made and found to be in order."""
    arguments += ["--key", str(audit.key)] if name == "seal.py" else []
    arguments += ["--archive", audit.directory.as_uri()] if name == "archive.py" else []
    done = script(name, *arguments, "--url", audit.url, "--namespace", "misspelt")
    assert done.returncode == 2
    assert "There is no namespace 'misspelt' on this server" in done.stdout + done.stderr
    async with Redis.from_url(audit.url) as redis:
        assert not await redis.exists("{misspelt}:namespace")


async def test_a_key_that_somebody_overwrote(audit: Audit) -> None:
    """An audit that cannot go on because a key holds something else names the key."""
    store = await filled(audit)
    assert isinstance(store, RedisStore)
    heads = store.keys.heads(store.keys.partition(b"s")).decode()
    async with Redis.from_url(audit.url) as redis:
        await redis.set(heads, "harm")
    code, told = await audit.run("verify.py")
    assert code == 2
    assert f"Somebody has overwritten the key '{heads}'" in str(told["stopped"])
    await store.aclose()


def test_a_server_that_is_away(directory: Path) -> None:
    """A server that does not answer ends each script with code 2 and a sentence."""
    assert script("seal.py", "--new-key", str(directory / "key")).returncode == 0
    for name, arguments in (
        ("seal.py", ["--key", str(directory / "key")]),
        ("verify.py", []),
        ("export.py", ["-o", str(directory / "x")]),
        ("audit_report.py", ["s", "-o", str(directory / "x")]),
    ):
        code, out = called(name, "--url", "unix:///nowhere/s", "--json", *arguments)
        assert code == 2
        assert "No Redis answers" in json.loads(out)["stopped"]


@pytest.mark.guarantee("A2")
async def test_sealing_for_good(audit: Audit) -> None:
    """With --every it seals at intervals until SIGTERM, then once more, and keeps the manifest fresh."""
    store = await filled(audit)
    manifest = audit.directory / "manifest.json"
    async with Processes() as processes:
        sealer = await processes.start(
            str(SCRIPTS / "seal.py"),
            *audit.where,
            "--key",
            str(audit.key),
            "--every",
            "1000",
            "--manifest",
            str(manifest),
        )
        while not manifest.exists():
            await store.now()
        await talk(store, "s", "four")
        sealer.terminate()
        assert await sealer.ended() == 0
    code, told = await audit.verify("--manifest", str(manifest), "--require-sealed")
    assert (code, told["sealed_events"]) == (0, 4)
    other = audit.directory / "other"
    assert (await asyncio.to_thread(called, "seal.py", "--new-key", str(other)))[0] == 0
    done = await asyncio.to_thread(script, "seal.py", *audit.where, "--key", str(other), "--every", "1000", "--json")
    assert done.returncode == 2
    assert "not trusted" in json.loads(done.stdout)["stopped"]
    await store.aclose()


@pytest.mark.guarantee("A6", "A7")
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "zstd"])
async def test_export_and_import(audit: Audit, packed: bool) -> None:
    """A file goes out and comes back; a second import does nothing; a damaged file and another session are refused."""
    store = await filled(audit)
    await audit.seal()
    path = audit.directory / ("all.jsonl.zst" if packed else "all.jsonl")
    assert (await audit.run("export.py", "-o", str(path))) == (0, {"stopped": None, "sessions": 1, "events": 3})
    target = ("--url", audit.where[1], "--namespace", audit.where[3] + ".copy")
    into = [str(path), *target, "--public-key", str(audit.public)]
    code, told = await audit.run("import.py", *into, "--check")
    assert (code, told["proved_events"]) == (0, 3)
    assert (await audit.run("import.py", *into))[1]["restored"] == 1
    assert (await audit.run("import.py", *into))[1]["present"] == 1
    async with open_store(target[1], namespace=target[3]) as copy:
        assert [(e.version, e.recorded_ms, e.entry) for e in await copy.read("s")] == [
            (e.version, e.recorded_ms, e.entry) for e in await store.read("s")
        ]
        await copy.append("s", MessageAdded("user", "more"))
    code, told = await audit.run("import.py", *into)
    assert (code, told["refused"]) == (1, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert (await audit.run("import.py", *into))[0] == 2
    out = script("export.py", *audit.where, "s", "-o", "-")
    assert out.returncode == 0
    assert out.stdout.count('"kind":"event"') == 3
    await store.aclose()


async def test_progress(audit: Audit) -> None:
    """A terminal shows how far it is; what is printed for machines goes into the pipe, all of it and nothing else."""
    store = await filled(audit)
    path = str(audit.directory / "all.jsonl")
    target = ["--url", audit.where[1], "--namespace", audit.where[3] + ".copy"]
    for name, arguments, key in (
        ("export.py", [*audit.where, "-o", path], "events"),
        ("import.py", [*target, path], "restored"),
        ("verify.py", audit.where, "events"),
        ("replay.py", [*audit.where, "--all"], "sessions"),
    ):
        _, out, shown = await asyncio.to_thread(on_a_terminal, SCRIPTS / name, [*arguments, "--json"], piped=True)
        assert key in json.loads(out), name
        assert ("6/6 lines" if name == "export.py" else "3/3 events") in shown, name
    await store.aclose()


@pytest.mark.guarantee("A8")
async def test_the_report(audit: Audit) -> None:
    """The page is written, and the exit code tells what it says of the proof."""
    store = await filled(audit)
    path = audit.directory / "report.html"
    assert (await audit.run("audit_report.py", "s", "-o", str(path)))[0] == 3
    await audit.seal()
    code, told = await audit.run("audit_report.py", "s", "-o", str(path), "--public-key", str(audit.public))
    assert (code, told["proved"], told["events"]) == (0, True, 3)
    assert "<title>s - audit report</title>" in path.read_text(encoding="utf-8")
    async with Redis.from_url(audit.where[1]) as client:
        log = store.keys.log(store.keys.partition(b"s"), b"s")  # type: ignore[attr-defined]
        await client.delete(log)
        await client.xadd(log, {"other": "field"}, id="2-5")
    code, told = await audit.run("audit_report.py", "s", "-o", str(path), "--public-key", str(audit.public))
    assert (code, told["proved"]) == (1, False)
    assert "Unreadable" in path.read_text(encoding="utf-8")
    async with Redis.from_url(audit.where[1]) as client:
        await client.delete(log)
    code, told = await audit.run("audit_report.py", "s", "-o", str(path), "--public-key", str(audit.public))
    assert (code, told["events"], told["findings"][0]["kind"]) == (1, 0, "removed")
    await store.aclose()
