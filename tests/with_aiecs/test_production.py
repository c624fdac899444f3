"""The guide's sections "Production patterns" and "Best practices", without compression."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis
from support.servers import Server, binaries

from contextengine import ContextEngine, ContextEngineError, NotInitialized, get_redis_client
from with_aiecs.agents import Model, ask, contents, hybrid

logger = logging.getLogger(__name__)


PASSWORD = "your-password"  # noqa: S105 - the guide's


def free_port() -> int:
    """Return a TCP port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certificate(directory: Path) -> dict[str, str]:
    """Return the settings of a server that speaks TLS, with a certificate for localhost that vouches for itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not here to make a certificate")
    key, cert = str(directory / "key.pem"), str(directory / "cert.pem")
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, *names], check=True, capture_output=True)
    return {"tls_cert_file": cert, "tls_key_file": key, "tls_ca_cert_file": cert, "tls_auth_clients": "no"}


class TestRedisConfiguration:
    @pytest.mark.parametrize("ssl", [False, True])
    async def test_as_written(self, ssl: bool, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Host, port, database, password and TLS lead to that server, and the engine serves agents from there."""
        port, binary, settings = free_port(), next(iter(binaries().values())), {}
        if ssl:
            found = shutil.which("redis-server")
            if found is None:
                pytest.skip("redis-server is not here to speak TLS")
            binary, settings = found, certificate(directory)
            monkeypatch.setenv("SSL_CERT_FILE", settings["tls_cert_file"])
        settings["tls_port" if ssl else "port"] = str(port)
        with Server(binary, directory, **settings) as server:
            async with Redis.from_url(server.url) as admin:
                await admin.config_set("requirepass", PASSWORD)
            redis_client = await get_redis_client(host="localhost", port=port, db=0, password=PASSWORD, ssl=ssl)
            context_engine = ContextEngine(redis_client=redis_client)
            await context_engine.initialize()
            await ask(await hybrid(context_engine, Model()), "Hello")
            assert await contents(context_engine) == ["Hello", "model answers 1"]
            assert (await context_engine.health_check())["redis_connected"] is True
            await context_engine.close()
            await redis_client.aclose()


class TestErrorHandling:
    @pytest.mark.parametrize("url", ["memory://", "unix:///nonexistent/socket"])
    async def test_as_written(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """With an engine, or with None where none could be opened, the agent works."""
        monkeypatch.setenv("CONTEXTENGINE_URL", url)
        monkeypatch.setenv("CONTEXTENGINE_FALLBACK", "error")
        context_engine: ContextEngine | None
        try:
            context_engine = ContextEngine()
            await context_engine.initialize()
        except Exception:
            logger.exception("Failed to initialize ContextEngine")
            context_engine = None
        assert (context_engine is None) is (url != "memory://")
        model = Model()
        agent = await hybrid(context_engine, model)
        await ask(agent, "Hello")
        await ask(agent, "And now?")
        assert ("user", "Hello") in model.last_prompt
        if context_engine:
            await context_engine.close()


class TestMonitoring:
    async def test_as_written(self, context_engine: ContextEngine, caplog: pytest.LogCaptureFixture) -> None:
        """The figures hold at once what agents and others did; sessions with many errors are found."""
        await ask(await hybrid(context_engine, Model()), "Hello")
        await context_engine.set_context(session_id="user-123", key="k", value=1)
        await context_engine.create_session("bad")
        for _ in range(11):
            await context_engine.update_session("bad", mark_error=True)
        assert await context_engine.get_global_metrics() == {
            "total_sessions": 2,
            "active_sessions": 2,
            "total_messages": 2,
            "total_context_operations": 1,
            "total_checkpoints": 0,
        }
        metrics = context_engine.get_global_metrics()
        assert f"Total sessions: {metrics['total_sessions']}" == "Total sessions: 2"
        assert f"Total context operations: {metrics['total_context_operations']}" == "Total context operations: 1"
        active_sessions = await context_engine.list_sessions(status="active")
        assert [session.session_id for session in active_sessions if session.error_count > 10] == ["bad"]


class TestBestPractices:
    async def test_always_initialize(self, where: str) -> None:
        """An engine that was forgotten to be initialized says so, and lets agents do their tasks without memory."""
        context_engine = ContextEngine()
        with pytest.raises(NotInitialized, match="initialize"):
            await context_engine.get_conversation_history("user-123")
        agent = await hybrid(context_engine, Model())
        assert await ask(agent, "Hello") == "model answers 1"
        await context_engine.initialize()
        assert await contents(context_engine) == []
        await context_engine.close()

    async def test_consistent_session_ids(self, context_engine: ContextEngine) -> None:
        """The same id leads to the same conversation, whatever characters users bring."""
        for user_id in ("42", "ann@example.org", "日本", "a b:{c}"):
            session_id = f"user-{user_id}"
            for turn in (1, 2):
                await ask(await hybrid(context_engine, Model()), f"{user_id} {turn}", session_id)
            assert (await contents(context_engine, session_id))[::2] == [f"{user_id} 1", f"{user_id} 2"]

    async def test_handle_errors_gracefully(self, context_engine: ContextEngine) -> None:
        """What cannot be stored is refused with an error, and the conversation goes on."""
        with pytest.raises(ContextEngineError, match="object"):
            await context_engine.add_conversation_message("user-123", "user", object())
        await context_engine.add_conversation_message("user-123", "user", "Hello")
        assert await contents(context_engine) == ["Hello"]

    async def test_monitor_performance(self, context_engine: ContextEngine) -> None:
        """Reading the last 50 of 5,000 messages is no slow operation."""
        for _ in range(5):
            await context_engine.add_conversation_messages("user-123", [{"role": "user", "content": "x"}] * 1000)
        assert len(await contents(context_engine)) == 5000
        start = time.time()
        assert len(await context_engine.get_conversation_history("user-123")) == 50
        assert time.time() - start < 1.0
