"""Fixtures: each kind of store in turn, as the environment names it for the guide's ``ContextEngine()``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis import Redis
from support.servers import Server

from contextengine import ContextEngine

KEPT = ["redis", "embedded"]


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory, because aiecs makes folders where it is, and with no settings but the test's."""
    monkeypatch.chdir(tmp_path)
    for name in ("CONTEXTENGINE_URL", "REDIS_URL", "CONTEXTENGINE_FALLBACK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def empty_redis(redis_url: str) -> Iterator[str]:
    """The URL of a real server that holds nothing."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
        yield redis_url
        client.flushall()


@pytest.fixture(params=[*KEPT, "memory"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name each kind of store in turn in the environment, as the guide's users do; return its URL."""
    match request.param:
        case "redis":
            url = request.getfixturevalue("empty_redis")
        case "embedded":
            url = f"embedded://{request.getfixturevalue('directory')}/memory"
        case _:
            url = "memory://"
    monkeypatch.setenv("CONTEXTENGINE_URL", url)
    return str(url)


@pytest.fixture
async def context_engine(where: str) -> AsyncIterator[ContextEngine]:
    """The guide's engine, on each kind of store in turn."""
    context_engine = ContextEngine()
    await context_engine.initialize()
    yield context_engine
    await context_engine.close()


@pytest.fixture
async def mortal_engine(server: Server) -> AsyncIterator[ContextEngine]:
    """An engine whose server is the test's, to kill."""
    async with ContextEngine(server.url, timeout=0.5) as engine:
        yield engine
