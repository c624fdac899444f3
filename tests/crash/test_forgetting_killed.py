"""Forgetting that is killed after each of its steps: never half a session, and complete when it is run again."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis
from support.audits import audited
from support.everything import everything
from support.proofs import SCRIPTS, SIGNER, bad, seal, verify
from support.proxy import Proxy
from support.rounds import rounds
from support.servers import Server, binaries

from contextengine import ContextEngine, OutOfMemory, SessionForgotten
from eventstore import Append, MessageAdded
from projections.archiving import Archivist
from projections.forgetting.erasing import open_eraser

SECRETS = (b"hunter2", b"anna-4711")
COUNT = 300
"""Messages: more than a page of the log."""


async def forget(url: str, session_id: str, archive: str, proxy: Proxy | None, after: int) -> tuple[int, str]:
    """Run the script, and kill it when so many replies have come. Return its exit code and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPTS / "forget.py"), session_id, "--url", url, "--archive", archive, "--json"),
        env={"CONTEXTENGINE_SEAL_KEY": SIGNER.private_pem(), "PYTHONPATH": str(SCRIPTS.parent)},
        stdout=asyncio.subprocess.PIPE,
    )
    left = after

    def kill(_reply: bytes) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            process.send_signal(signal.SIGKILL)
        return left <= 0

    if proxy is not None:
        proxy.lose_reply_if(kill)
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.guarantee("F1", "F5")
async def test_after_every_reply(server: Server, directory: Path) -> None:
    """Wherever it is killed, the session is wholly there or reads as gone; run again, nothing of it is left."""
    archive = f"file://{directory}/archive"
    killed, completed = 0, False
    async with (
        ContextEngine(server.url, archive=archive, workers=False) as engine,
        Proxy(server.path, directory / "p") as proxy,
    ):
        runtime = engine._here()
        await engine.add_conversation_message("other", "user", "stays")
        for turn, after in enumerate(range(1, 60, 1 if rounds(20) == 20 else 4)):
            session_id = f"person-{after}"
            await engine.create_session(session_id, "anna-4711", {"mail": "hunter2"})
            await runtime.append(session_id, *(MessageAdded("user", f"hunter2 {n}") for n in range(COUNT)))
            if turn % 2 == 0:
                await engine.end_session(session_id)
                await Archivist(runtime.store, runtime.views).archive(session_id)
            await engine.list_sessions()
            await seal(runtime.store)
            code, _ = await forget(proxy.url, session_id, archive, proxy, after)
            completed = code == 0
            killed += not completed
            assert code in (0, -signal.SIGKILL)
            gone = await runtime.store.forgotten(session_id)
            assert len(await engine.get_conversation_history(session_id, None)) == (0 if gone else COUNT)
            assert len(await runtime.store.read(session_id)) in ({0} if gone else {COUNT + 1, COUNT + 2})
            assert (await engine.get_session(session_id) is None) == gone
            assert len(await engine.list_sessions(user_id="anna-4711")) == (0 if gone else 1)
            if gone:
                with pytest.raises(SessionForgotten):
                    await engine.add_conversation_message(session_id, "user", "x")
            assert await audited(runtime.store, runtime.views) == []
            code, out = await forget(server.url, session_id, archive, None, 0)
            told = json.loads(out)
            assert (code, told["forgotten"][session_id]["version"] >= COUNT) == (0, True)
            left = await everything(runtime.store)
            assert not [secret for secret in SECRETS if secret in left]
            assert await open_eraser(runtime.store).remains() == {}
            assert runtime.store.archive is not None
            assert await runtime.store.archive.names() == []
            if completed:
                break
        assert completed, "it was never let through"
        assert killed > (8 if rounds(20) == 20 else 2)
        assert await audited(runtime.store, runtime.views) == []
        assert [session.session_id for session in await engine.list_sessions()] == ["other"]
        verdict = await verify(runtime.store)
        assert (bad(verdict), len(verdict.forgotten)) == (set(), killed + 1)


@pytest.mark.parametrize("kind", binaries())
@pytest.mark.guarantee("F1")
async def test_where_the_server_has_no_memory_left(kind: str, directory: Path) -> None:
    """Forgetting makes room, so it is done where nothing else can be written."""
    with Server(binaries()[kind], directory) as server:
        async with ContextEngine(server.url, workers=False) as engine, Redis.from_url(server.url) as raw:
            texts = [MessageAdded("user", f"hunter2 {n}") for n in range(COUNT)]
            await engine._here().store.append_many([Append(name, texts) for name in ("person", "other")])
            await engine.list_sessions(user_id="anna-4711")
            await raw.config_set("maxmemory", 1)
            with pytest.raises(OutOfMemory):
                await engine.add_conversation_message("other", "user", "x")
            tombstone = await engine.forget_session("person", signing_key=SIGNER)
            assert (tombstone.version, tombstone.done) == (COUNT, True)
            assert await open_eraser(engine._here().store).remains() == {}
            await raw.config_set("maxmemory", 0)
            assert [session.session_id for session in await engine.list_sessions()] == ["other"]
            assert len(await engine.get_conversation_history("other", None)) == COUNT
