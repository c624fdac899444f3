"""Whether a server is fit to keep a log, found out by whatever it tells."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from support.servers import Server, binaries

from contextengine import ContextEngine, ServerUnfit
from eventstore import open_store
from eventstore.redis import fitness


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[Redis]:
    """A client of the test's own server that may do everything."""
    async with Redis.from_url(server.url) as client:
        yield client


async def as_user(admin: Redis, server: Server, *rules: str) -> str:
    """Return the URL of a user who may do everything but what the rules take away."""
    await admin.execute_command("ACL", "SETUSER", "bob", "reset", "on", ">pw", "~*", "&*", "+@all", *rules)  # type: ignore[no-untyped-call]
    return server.url.replace("unix://", "unix://bob:pw@")


@pytest.mark.guarantee("S2")
async def test_without_info_settings_are_asked_for(admin: Redis, server: Server) -> None:
    """Where INFO is denied, an evicting server is found out by CONFIG, and named with what to set."""
    url = await as_user(admin, server, "-info")
    await (await open_store(url)).aclose()
    await admin.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ServerUnfit, match=r"allkeys-lru.*CONFIG SET maxmemory-policy noeviction"):
        await open_store(url)


async def test_without_config_info_tells(admin: Redis, server: Server) -> None:
    """Where CONFIG is denied, as hosted servers do, INFO tells the same."""
    url = await as_user(admin, server, "-config")
    await (await open_store(url)).aclose()
    await admin.config_set("maxmemory-policy", "volatile-lru")
    with pytest.raises(ServerUnfit, match="volatile-lru"):
        await open_store(url)


async def test_what_is_not_told_is_said_in_the_log(
    admin: Redis, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Where neither is allowed, the store opens, and debug lines say what could not be found out."""
    url = await as_user(admin, server, "-config", "-info")
    with caplog.at_level(logging.DEBUG, "contextengine"):
        async with ContextEngine(url, workers=False) as engine:
            await engine.add_conversation_message("s", "user", "hi")
    untold = [str(vars(record)["untold"]) for record in caplog.records if "untold" in vars(record)]
    assert [("version" in what, "maxmemory-policy" in what) for what in untold] == [(True, False), (False, True)]


async def test_settings_that_info_leaves_out(
    admin: Redis, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server whose INFO lacks version, policy and persistence is neither refused nor accused."""
    monkeypatch.setattr(fitness, "_parse", lambda _: {"loading": "0"})
    with caplog.at_level(logging.WARNING, "contextengine"):
        await (await open_store(server.url)).aclose()
    assert caplog.records == []
    await admin.config_set("maxmemory-policy", "allkeys-random")
    with pytest.raises(ServerUnfit, match="allkeys-random"):
        await open_store(server.url)


@pytest.mark.guarantee("S2")
async def test_too_old_a_server_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server older than Redis 6.2 is refused with its version and the one that is needed; nothing is written."""
    parse = fitness._parse
    monkeypatch.setattr(fitness, "_parse", lambda info: {**parse(info), "redis_version": "6.0.16"})
    with pytest.raises(ServerUnfit, match=r"6\.0\.16 is too old.*6\.2"):
        await open_store(server.url)


async def test_what_a_missing_file_means_is_told_once(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server without AOF is warned of once for all engines, with what is lost and what to set."""
    with Server(next(iter(binaries().values())), directory, appendonly="no") as server:
        with caplog.at_level(logging.WARNING, "contextengine"):
            for _ in range(3):
                async with ContextEngine(server.url, workers=False):
                    pass
        (record,) = caplog.records
        assert "lost when it stops" in record.message
        assert "CONFIG SET appendonly yes" in record.message


async def test_servers_of_our_own_and_memory_are_not_warned_of(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An embedded server keeps a file, and memory was asked for: neither is warned of."""
    with caplog.at_level(logging.WARNING, "contextengine"):
        for url in (f"embedded://{directory}", "memory://"):
            async with ContextEngine(url) as engine:
                await engine.add_conversation_message("s", "user", "hi")
    assert caplog.records == []
