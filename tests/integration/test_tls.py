"""TLS: an engine talks to a server that proves who it is, and to no other."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from redis.asyncio import Redis
from support.sentinels import NAME, Sentinel
from support.servers import Server, binaries

from contextengine import ContextEngine, ContextEngineError, StoreRefused, StoreUnavailable

HOST = "localhost"
OPENSSL = shutil.which("openssl") or pytest.skip("openssl is not here to make certificates", allow_module_level=True)


class Secure(NamedTuple):
    """A server that speaks TLS, and the files that belong to it."""

    port: int
    files: Path

    def url(self, **options: str) -> str:
        """Return its URL."""
        given = "&".join(f"{name}={value}" for name, value in options.items())
        return f"rediss://{HOST}:{self.port}?{given}"


def openssl(*arguments: str, into: Path) -> None:
    """Run openssl in a directory."""
    subprocess.run([OPENSSL, *arguments], cwd=into, check=True, capture_output=True)


def authority(name: str, into: Path) -> None:
    """Make a certificate authority."""
    subject = ("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, into=into)


def certificate(name: str, host: str, by: str, into: Path) -> None:
    """Make a certificate for a host, signed by an authority."""
    openssl(
        *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={host}", "-keyout", f"{name}.key"),
        *("-out", f"{name}.csr"),
        into=into,
    )
    (into / f"{name}.ext").write_text(f"subjectAltName=DNS:{host}\n")
    openssl(
        *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{by}.crt", "-CAkey", f"{by}.key", "-CAcreateserial"),
        *("-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt"),
        into=into,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, and certificates by the first: of the server, of another host, of a client."""
    files = tmp_path_factory.mktemp("tls")
    for name in ("ours", "theirs"):
        authority(name, files)
    certificate("server", HOST, "ours", files)
    certificate("elsewhere", "elsewhere.example.org", "ours", files)
    certificate("client", "client", "ours", files)
    return files


def serving(directory: Path, files: Path, name: str, **settings: str) -> Iterator[Secure]:
    """Run a server with a certificate."""
    able = [path for path in binaries().values() if speaks_tls(path)]
    if not able:
        pytest.skip("no server here speaks TLS")
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    settings = {
        "tls-port": str(port),
        "tls-cert-file": str(files / f"{name}.crt"),
        "tls-key-file": str(files / f"{name}.key"),
        "tls-ca-cert-file": str(files / "ours.crt"),
        "tls-auth-clients": "no",
    } | settings
    with Server(able[0], directory, **settings):
        yield Secure(port, files)


def speaks_tls(binary: str) -> bool:
    """Return whether a server was built with TLS: then it misses the certificate."""
    asked = subprocess.run([binary, "--port", "0", "--tls-port", "1"], capture_output=True, text=True, check=False)
    return "tls-cert-file" in asked.stdout


@pytest.fixture
def secure(directory: Path, files: Path) -> Iterator[Secure]:
    """A server that proves who it is."""
    yield from serving(directory, files, "server")


@pytest.mark.guarantee("S8")
async def test_a_server_that_proves_who_it_is(secure: Secure) -> None:
    """With the authority's certificate at hand an engine works over TLS, from a URL as from a client, workers too."""
    url = secure.url(ssl_ca_certs=str(secure.files / "ours.crt"))
    async with ContextEngine(url) as engine:
        await engine.add_conversation_message("s", "user", "hi" * 100_000)
        assert [m.content for m in await engine.get_conversation_history("s")] == ["hi" * 100_000]
        assert (await engine.health_check())["redis_connected"] is True
    async with Redis.from_url(url) as client, ContextEngine(redis_client=client) as engine:
        assert len(await engine.get_conversation_history("s")) == 1


@pytest.mark.parametrize("authority", ["theirs", None])
@pytest.mark.guarantee("S8")
async def test_a_server_that_cannot_prove_it(secure: Secure, authority: str | None) -> None:
    """A server whose certificate is by nobody whom we trust is no reason for memory: it is refused at once."""
    options = {} if authority is None else {"ssl_ca_certs": str(secure.files / f"{authority}.crt")}
    with pytest.raises(StoreRefused, match=r"certificate verify failed.*Check the credentials, the certificates"):
        await ContextEngine(secure.url(**options), fallback="memory").initialize()


@pytest.mark.guarantee("S8")
async def test_a_certificate_of_another_host(directory: Path, files: Path) -> None:
    """A certificate by the right authority, of another host, is refused."""
    for secure in serving(directory, files, "elsewhere"):
        with pytest.raises(StoreRefused, match="certificate is not valid for"):
            await ContextEngine(secure.url(ssl_ca_certs=str(files / "ours.crt"))).initialize()


@pytest.mark.guarantee("S8")
async def test_a_server_that_wants_proof_as_well(directory: Path, files: Path) -> None:
    """A server that asks clients for certificates serves those who have one, and no others."""
    for secure in serving(directory, files, "server", tls_auth_clients="yes"):
        ours = {"ssl_ca_certs": str(files / "ours.crt")}
        own = {"ssl_certfile": str(files / "client.crt"), "ssl_keyfile": str(files / "client.key")}
        async with ContextEngine(secure.url(**ours, **own)) as engine:
            await engine.add_conversation_message("s", "user", "hi")
        with pytest.raises(ContextEngineError):
            await ContextEngine(secure.url(**ours), timeout=1).initialize()


@pytest.mark.guarantee("S8")
async def test_sentinels_that_prove_who_they_are(directory: Path, files: Path) -> None:
    """With ``rediss+sentinel://`` both the sentinel and the server that it names have to prove who they are."""
    able = next(path for path in binaries().values() if speaks_tls(path))
    (directory / "s1").mkdir()
    for name, proved in (("server", True), ("elsewhere", False)):
        for secure in serving(directory, files, "server"):
            own = {"tls_cert_file": str(files / f"{name}.crt"), "tls_key_file": str(files / f"{name}.key")}
            own["tls_ca_cert_file"] = str(files / "ours.crt")
            all_over_tls = {"port": "0", "tls_port": "{port}", "tls_auth_clients": "no", "tls_replication": "yes"}
            sentinel = Sentinel(able, directory / "s1", (HOST, secure.port), quorum=1, **all_over_tls, **own)
            url = f"rediss+sentinel://{HOST}:{sentinel.port}/{NAME}?ssl_ca_certs={files / 'ours.crt'}"
            with sentinel:
                if proved:
                    async with ContextEngine(url) as engine:
                        await engine.add_conversation_message("s", "user", "hi")
                        assert [m.content for m in await engine.get_conversation_history("s")] == ["hi"]
                    with pytest.raises(StoreRefused, match="certificate verify failed"):
                        await ContextEngine(url.partition("?")[0], fallback="memory").initialize()
                else:
                    with pytest.raises(StoreRefused, match="certificate is not valid for"):
                        await ContextEngine(url, fallback="memory").initialize()


async def test_without_tls(secure: Secure) -> None:
    """A client that speaks no TLS to a port that does is told that nobody answers, and not that all is well."""
    with pytest.raises(StoreUnavailable):
        await ContextEngine(f"redis://{HOST}:{secure.port}", timeout=1).initialize()
