"""Where an engine runs, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from support.servers import Server
from support.waiting import under_way

from contextengine import (
    ContextEngine,
    ContextEngineError,
    InvalidInput,
    PartitionCountMismatch,
    ServerUnfit,
    StoreRefused,
    StoreUnavailable,
    UnknownNamespace,
    UnknownStoreUrl,
    get_redis_client,
)
from eventstore import embedded, open_store
from eventstore.redis import fitness

NOBODY = "unix:///nonexistent/socket"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what the machine's environment says."""
    for name in ("CONTEXTENGINE_URL", "REDIS_URL", "CONTEXTENGINE_FALLBACK"):
        monkeypatch.delenv(name, raising=False)


async def backend(engine: ContextEngine) -> str:
    """Return where an engine runs, after a message made its way there and back."""
    async with engine:
        await engine.add_conversation_message("s", "user", "x")
        assert [m.content for m in await engine.get_conversation_history("s")] == ["x"]
        health = await engine.health_check()
        assert health["redis_connected"] is (health["storage_backend"] == "redis")
        return str(health["storage_backend"])


class TestClients:
    async def test_of_what_is_known_of_a_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Host, port, database and password make a client; what is left out comes from the environment."""
        monkeypatch.setenv("REDIS_PORT", "7000")
        client = await get_redis_client(host="example.org", db=2, password="secret")  # noqa: S106
        settings = client.connection_pool.connection_kwargs
        assert (settings["host"], settings["port"], settings["db"]) == ("example.org", 7000, 2)
        assert settings["password"] == "secret"  # noqa: S105
        monkeypatch.setenv("REDIS_PORT", "many")
        with pytest.raises(InvalidInput, match="REDIS_PORT"):
            await get_redis_client()

    @pytest.mark.parametrize("url", ["memory://", "embedded:///x", "redis://localhost:port"])
    async def test_of_what_is_no_redis(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the environment names no Redis, the error says what to do instead."""
        monkeypatch.setenv("CONTEXTENGINE_URL", url)
        with pytest.raises(UnknownStoreUrl, match=r"ContextEngine\(\)"):
            await get_redis_client()

    async def test_bare(self, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """With nothing given, the environment says where the server is, and an engine runs on it."""
        monkeypatch.setenv("REDIS_URL", redis_url)
        client = await get_redis_client()
        assert await backend(ContextEngine(redis_client=client, namespace=namespace)) == "redis"
        await client.aclose()


class TestTable:
    async def test_url(self, redis_url: str, namespace: str) -> None:
        """A URL runs on that Redis."""
        assert await backend(ContextEngine(redis_url, namespace=namespace)) == "redis"

    @pytest.mark.parametrize("settings", [{}, {"decode_responses": True}, {"protocol": 2}, {"protocol": 3}])
    async def test_client(self, redis_url: str, namespace: str, settings: dict[str, Any]) -> None:
        """A client's settings are used, whatever it decodes; the client stays open and unharmed."""
        async with Redis.from_url(redis_url, **settings) as client:
            assert await backend(ContextEngine(redis_client=client, namespace=namespace)) == "redis"
            assert await client.ping()

    async def test_memory(self, namespace: str) -> None:
        """``memory://`` runs in this process."""
        assert await backend(ContextEngine("memory://", namespace=namespace)) == "memory"

    @pytest.mark.guarantee("S3")
    async def test_embedded_keeps_everything(self, directory: Path) -> None:
        """``embedded://`` starts a server whose data outlives it."""
        url = f"embedded://{directory}/a path with spaces = odd"
        assert await backend(ContextEngine(url)) == "redis"
        async with ContextEngine(url) as engine:
            assert [m.content for m in await engine.get_conversation_history("s")] == ["x"]

    async def test_many_engines_on_one_directory(self, directory: Path) -> None:
        """Sixty engines that open a directory at once in one process share its server, which then ends."""
        engines = [ContextEngine(f"embedded://{directory}", workers=False) for _ in range(60)]
        await asyncio.gather(*(engine.initialize() for engine in engines))
        await asyncio.gather(*(engine.close() for engine in engines))
        assert not embedded._lives(directory)

    async def test_opening_at_once_and_closing_under_cancellation(self, directory: Path) -> None:
        """One engine opened by five tasks is opened once; a close whose caller is cancelled goes on to its end."""
        engine = ContextEngine(f"embedded://{directory}")
        await asyncio.gather(*(engine.initialize() for _ in range(5)))
        (closing,) = await under_way(engine.close())
        closing.cancel()
        await asyncio.wait([closing])
        await engine.close()
        assert not embedded._lives(directory)

    @pytest.mark.parametrize("name", ["CONTEXTENGINE_URL", "REDIS_URL"])
    async def test_environment(
        self, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """Given nothing, the environment names the server; ours comes first."""
        monkeypatch.setenv("REDIS_URL", NOBODY)
        monkeypatch.setenv(name, redis_url)
        assert await backend(ContextEngine(namespace=namespace)) == "redis"

    async def test_nothing_anywhere(
        self, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Given nothing, and no server answering: memory, with one warning that nothing will be kept."""
        monkeypatch.setenv("REDIS_URL", NOBODY)
        with caplog.at_level(logging.WARNING, "contextengine"):
            assert await backend(ContextEngine(namespace=namespace)) == "memory"
        assert [("NOTHING WILL BE KEPT" in record.message) for record in caplog.records] == [True]

    @pytest.mark.parametrize("where", ["argument", "environment"])
    async def test_fallback_error(self, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        """``fallback="error"`` makes even the engine that was given nothing raise."""
        monkeypatch.setenv("REDIS_URL", NOBODY)
        if where == "environment":
            monkeypatch.setenv("CONTEXTENGINE_FALLBACK", "error")
        with pytest.raises(StoreUnavailable):
            await ContextEngine(fallback="error" if where == "argument" else None).initialize()

    async def test_an_explicit_url_that_does_not_answer(self, namespace: str) -> None:
        """Who names a server gets that server or an error, unless memory was asked for."""
        with pytest.raises(StoreUnavailable):
            await ContextEngine(NOBODY).initialize()
        with pytest.raises(StoreUnavailable):
            await ContextEngine(redis_client=Redis.from_url(NOBODY)).initialize()
        assert await backend(ContextEngine(NOBODY, fallback="memory", namespace=namespace)) == "memory"


class TestRefusals:
    @pytest.mark.parametrize(
        "url", ["", "localhost", "http://localhost", "redis:/x", "embedded://", "embedded:///x?y=1"]
    )
    async def test_urls_that_nobody_serves(self, url: str) -> None:
        """A URL of an unknown kind is named, with what would do."""
        with pytest.raises(UnknownStoreUrl):
            await open_store(url)

    @pytest.mark.parametrize("url", ["redis://localhost:notaport", "redis://localhost/x?health_check_interval=abc"])
    async def test_urls_that_redis_does_not_understand(self, url: str) -> None:
        """What redis-py refuses in a URL is passed on as our error."""
        with pytest.raises(UnknownStoreUrl):
            await open_store(url)

    @pytest.mark.parametrize("option", ["foo=1", "ssl_cert_reqs=none"])
    async def test_url_options_that_a_connection_does_not_take(self, option: str) -> None:
        """An option that redis-py's connection refuses is refused at once, not waited for."""
        with pytest.raises(UnknownStoreUrl):
            await open_store(f"redis://localhost?{option}")

    async def test_url_options_of_a_pool(self, redis_url: str, namespace: str) -> None:
        """Options that concern redis-py's pool do no harm: there is no pool here."""
        url = redis_url + "?max_connections=10&timeout=5"
        assert await backend(ContextEngine(url, namespace=namespace)) == "redis"

    async def test_a_wrong_password_is_no_reason_for_memory(self, server: Server) -> None:
        """A server that answers and refuses raises, whatever the fallback."""
        async with Redis.from_url(server.url) as client:
            await client.config_set("requirepass", "secret")
        url = server.url.replace("unix://", "unix://:wrong@")
        with pytest.raises(StoreRefused, match="credentials"):
            await ContextEngine(url, fallback="memory").initialize()

    async def test_a_user_who_may_not_connect_as_we_do(self, server: Server) -> None:
        """A missing permission is named."""
        async with Redis.from_url(server.url) as client:
            await client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all", "-client")  # type: ignore[no-untyped-call]
        with pytest.raises(StoreRefused, match="client"):
            await open_store(server.url.replace("unix://", "unix://bob:pw@"))

    async def test_embedded_directories_that_cannot_be(self, directory: Path) -> None:
        """A root, a NUL, a file in the way: each is refused as bad input."""
        (directory / "file").write_text("")
        for path in ("/", "//", "/tmp/a%00b", f"{directory}/file", f"{directory}/file/below"):  # noqa: S108
            with pytest.raises(InvalidInput):
                await open_store(f"embedded://{path}")

    @pytest.mark.parametrize(
        "options",
        [
            {"namespace": ""},
            {"namespace": "a:b"},
            {"namespace": "{x}"},
            {"namespace": "x" * 65},
            {"namespace": 5},
            {"partitions": 0},
            {"partitions": 2000},
            {"partitions": "16"},
            {"partitions": True},
            {"timeout": 0},
            {"timeout": -1},
            {"timeout": "10"},
            {"max_event_bytes": 0},
            {"max_event_bytes": "1"},
        ],
        ids=str,
    )
    async def test_bad_options(self, url: str, options: dict[str, Any]) -> None:
        """Each option is checked before a server is asked."""
        with pytest.raises(InvalidInput):
            await open_store(url, **options)

    @pytest.mark.parametrize("arguments", [{"redis_client": "redis://localhost"}, {"url": 5}, {"fallback": "maybe"}])
    async def test_bad_engine_arguments(self, arguments: dict[str, Any]) -> None:
        """Things that are no URL, no client, no fallback."""
        with pytest.raises(InvalidInput):
            await ContextEngine(**arguments).initialize()

    async def test_url_and_client(self) -> None:
        """A URL and a client at once contradict each other."""
        with pytest.raises(InvalidInput):
            ContextEngine("memory://", redis_client=Redis())

    @pytest.mark.guarantee("S2")
    async def test_another_partition_count(self, redis_url: str, namespace: str) -> None:
        """A namespace has the count with which it was made; leaving it out takes that."""
        async with open_store(redis_url, namespace=namespace, partitions=5) as store:
            assert store.partitions == 5
        with pytest.raises(PartitionCountMismatch, match="5 partitions"):
            await open_store(redis_url, namespace=namespace, partitions=8)
        async with open_store(redis_url, namespace=namespace) as store:
            assert store.partitions == 5

    async def test_a_namespace_that_is_not_to_be_made(self, redis_url: str, namespace: str) -> None:
        """Who only wants what is there is told that nothing is, and leaves nothing behind."""
        with pytest.raises(UnknownNamespace, match=f"There is no namespace '{namespace}'"):
            await open_store(redis_url, namespace=namespace, create=False)
        async with Redis.from_url(redis_url) as client:
            assert not [key async for key in client.scan_iter(match=f"*{namespace}*")]
        await (await open_store(redis_url, namespace=namespace)).aclose()
        await (await open_store(redis_url, namespace=namespace, create=False)).aclose()
        with pytest.raises(UnknownNamespace):
            await open_store("memory://", create=False)

    @pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl"])
    @pytest.mark.guarantee("S2")
    async def test_a_server_that_evicts(self, directory: Path, server: Server, policy: str) -> None:
        """A server that would delete sessions is refused before anything is written, with what to set."""
        async with Redis.from_url(server.url) as client:
            await client.config_set("maxmemory-policy", policy)
            with pytest.raises(ServerUnfit, match="noeviction"):
                await open_store(server.url)
            assert await client.dbsize() == 0

    @pytest.mark.guarantee("S2")
    async def test_a_server_that_is_too_old(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server older than the oldest that is supported is named."""
        monkeypatch.setattr(fitness, "OLDEST_VERSION", (99, 0))
        with pytest.raises(ServerUnfit, match="too old"):
            await open_store(redis_url)

    async def test_a_server_without_aof_is_warned_of_once(
        self, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A server that keeps nothing on disk is served, with one warning."""
        async with Redis.from_url(server.url) as client:
            await client.config_set("appendonly", "no")
        with caplog.at_level(logging.WARNING, "contextengine"):
            for _ in range(3):
                await (await open_store(server.url)).aclose()
        assert [record.action for record in caplog.records] == ["server_without_aof"]  # type: ignore[attr-defined]

    @pytest.mark.guarantee("L8", "S1")
    async def test_a_server_without_memory(self, server: Server) -> None:
        """A server that has no memory left refuses, nothing is written, and reads go on."""
        async with ContextEngine(server.url, workers=False) as engine, Redis.from_url(server.url) as client:
            await engine.add_conversation_message("s", "user", "x")
            await client.config_set("maxmemory", "1")
            with pytest.raises(ContextEngineError, match="maxmemory"):
                await engine.add_conversation_message("s", "user", "y")
            assert [m.content for m in await engine.get_conversation_history("s")] == ["x"]
            await client.config_set("maxmemory", "0")
            await engine.add_conversation_message("s", "user", "z")
            assert [m.content for m in await engine.get_conversation_history("s")] == ["x", "z"]


class TestHealth:
    @pytest.mark.guarantee("S1")
    async def test_a_server_that_went_away(self, server: Server) -> None:
        """Losing the server raises from every call, and health says so without inventing zeros."""
        async with ContextEngine(server.url, timeout=0.3, workers=False) as engine:
            await engine.add_conversation_message("s", "user", "x")
            server.kill()
            with pytest.raises(StoreUnavailable):
                await engine.get_conversation_history("s")
            with pytest.raises(ConnectionError):
                await engine.add_conversation_message("s", "user", "y")
            health = await engine.health_check()
            assert (health["status"], health["redis_connected"], health["lag"]) == ("unhealthy", False, None)
            assert health["workers"] is None
            server.start()
            assert [m.content for m in await engine.get_conversation_history("s")] == ["x"]
            assert (await engine.health_check())["redis_connected"] is True

    async def test_nobody_works(self, redis_url: str, namespace: str) -> None:
        """Appends that wait with no worker alive are an issue, though reads are right."""
        async with ContextEngine(redis_url, namespace=namespace, workers=False) as engine:
            assert (await engine.health_check())["status"] == "healthy"
            await engine.add_conversation_message("s", "user", "x")
            health = await engine.health_check()
            assert (health["status"], health["lag"], health["workers"]) == ("degraded", 1, {})

    async def test_parked_sessions(self, redis_url: str, namespace: str) -> None:
        """A parked session is named."""
        async with ContextEngine(redis_url, namespace=namespace) as engine:
            await engine.add_conversation_message("s", "user", "x")
            await engine._here().queries._projector.park("s", 1, "for the test")
            health = await engine.health_check()
            assert (health["status"], health["parked_sessions"]) == ("degraded", ["s"])
