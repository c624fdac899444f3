"""docs/AUDIT.md, followed to the letter."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path

import pytest
from support.proofs import SCRIPTS, called, talk

from eventstore import SessionEnded, open_store

TEXT = (SCRIPTS.parent / "docs" / "AUDIT.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ python scripts/(\S+) (.*)$", TEXT, re.MULTILINE)


@pytest.mark.guarantee("A1", "A6", "F3")
def test_the_walk(redis_url: str, namespace: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the page ends well in the order in which it stands there, and proves what the page says."""

    async def fill() -> None:
        async with open_store(redis_url, namespace=namespace) as store:
            await talk(store, "support-4711", "Where is my parcel?", "It is on its way.")
            await store.append("support-4711", SessionEnded("completed"))

    asyncio.run(fill())
    monkeypatch.chdir(directory)
    assert len(COMMANDS) == 16
    said = ""
    for name, line in COMMANDS:
        arguments = shlex.split(line.replace("$URL", redis_url).replace("$ARCHIVE", f"file://{directory}/archive"))
        where = ["--namespace", namespace if "copy" not in arguments else f"{namespace}.copy"]
        arguments = [word for word in arguments if word not in {"--namespace", "copy"}]
        code, out = called(name, *arguments, *where)
        assert code == 0, (name, out)
        said += out
    assert said.count("PROVED: everything that was sealed is as it was.") == 4
    assert "forgotten: support-4711, 3 events, on 2" in said
    assert {path.name for path in directory.iterdir()} >= {"manifest.json", "all.jsonl.zst", "report.html"}
