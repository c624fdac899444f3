"""Real sentinels for tests: a primary and its replicas, and three who watch them and replace the primary."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Self

from redis.exceptions import RedisError

from support.clusters import eventually, free_ports
from support.servers import Server

NAME = "mymaster"
DOWN_AFTER = 1500
"""Milliseconds without an answer after which sentinels take a server for dead: more than a starved one needs."""


class Watched(Server):
    """A server that sentinels watch, on a port and on a socket of its own."""

    def __init__(self, binary: str, directory: Path, **settings: str) -> None:
        (self.port,) = free_ports(1)
        super().__init__(
            binary,
            directory,
            port=str(self.port),
            bind="127.0.0.1",
            repl_diskless_sync_delay="0",
            repl_ping_replica_period="1",
            **settings,
        )

    def follow(self, primary: Watched) -> None:
        """Become a replica."""
        self.ask("REPLICAOF", "127.0.0.1", primary.port)


class Sentinel(Server):
    """One who watches. Its configuration is a file, which it rewrites itself.

    Args:
        binary: What to run.
        directory: Its own.
        primary: The host and port of the server that it is to watch first.
        quorum: How many sentinels have to agree.
        settings: Overrides of its configuration.
    """

    def __init__(
        self, binary: str, directory: Path, primary: tuple[str, int], *, quorum: int = 2, **settings: str
    ) -> None:
        (self.port,) = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        super().__init__(binary, directory)
        file = directory / "sentinel.conf"
        options = {"port": str(self.port), "bind": "127.0.0.1", "unixsocket": str(self.path), "dir": str(directory)}
        options |= {name.replace("_", "-"): value.format(port=self.port) for name, value in settings.items()}
        host, port = primary
        lines = [
            *(f"{name} {value}" for name, value in options.items()),
            "sentinel resolve-hostnames yes",
            "sentinel announce-hostnames yes",
            f"sentinel monitor {NAME} {host} {port} {quorum}",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER}",
            f"sentinel failover-timeout {NAME} 5000",
        ]
        file.write_text("\n".join([*lines, ""]))
        self._command = [binary, str(file), "--sentinel"]

    def master(self) -> dict[str, str]:
        """Return what it knows of the primary."""
        found: dict[str, str] = self.ask("SENTINEL", "MASTER", NAME)
        return found


class Sentinels:
    """A primary with two replicas, and three sentinels.

    Args:
        binary: What to run.
        settings: Overrides of the servers' configuration.
    """

    def __init__(self, binary: str, **settings: str) -> None:
        self._path = Path(tempfile.mkdtemp(prefix="ce"))
        self.servers = [Watched(binary, self._directory(f"r{number}"), **settings) for number in range(3)]
        first = ("127.0.0.1", self.servers[0].port)
        self.sentinels = [Sentinel(binary, self._directory(f"s{number}"), first) for number in range(3)]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(sentinel.address for sentinel in self.sentinels)}/{NAME}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop all of them."""
        for one in (*self.sentinels, *self.servers):
            one.stop()
        shutil.rmtree(self._path, ignore_errors=True)

    def primary(self) -> Watched:
        """Return the primary on which the sentinels agree: one that changes its mind is waited for."""
        primary = eventually(self._agreed)
        assert primary is not None
        return primary

    def replaced(self, primary: Watched) -> bool:
        """Whether all sentinels know another primary."""
        return self._agreed() not in (None, primary)

    def mend(self) -> None:
        """Start what has died, and wait until all is well: one primary, two replicas that follow it.

        Sentinels take their time to make a replica of a primary that comes back; here it is told at once.
        """
        for one in (*self.servers, *self.sentinels):
            if not one.runs:
                one.start()
        primary = self.primary()
        for server in self.servers:
            if server is not primary and not server.says(f"master_port:{primary.port}"):
                server.follow(primary)
        eventually(self._is_well)

    def fail_over(self) -> None:
        """Have the sentinels replace a primary that is well."""
        self.sentinels[0].ask("SENTINEL", "FAILOVER", NAME)

    def replicas_are_level(self, primary: Watched) -> None:
        """Wait until all replicas have what the primary had when this was called."""
        offset = primary.ask("INFO", "replication")["master_repl_offset"]
        replicas = [server for server in self.servers if server is not primary]
        eventually(lambda: all(one.ask("INFO", "replication")["slave_repl_offset"] >= offset for one in replicas))

    def _directory(self, name: str) -> Path:
        directory = self._path / name
        directory.mkdir()
        return directory

    def _start(self) -> None:
        for server in self.servers:
            server.start()
        for replica in self.servers[1:]:
            replica.follow(self.servers[0])
        for sentinel in self.sentinels:
            sentinel.start()
        eventually(self._is_well)

    def _is_well(self) -> bool:
        """Whether every sentinel knows the others and both replicas, which follow the one primary."""
        if (primary := self._agreed()) is None:
            return False
        known = [sentinel.master() for sentinel in self.sentinels]
        return (
            all((one["num-slaves"], one["num-other-sentinels"], one["flags"]) == ("2", "2", "master") for one in known)
            and primary.says("role:master")
            and all(one is primary or _follows(one, primary) for one in self.servers)
        )

    def _agreed(self) -> Watched | None:
        with contextlib.suppress(RedisError, OSError):
            ports = {int(sentinel.master()["port"]) for sentinel in self.sentinels}
            if len(ports) == 1:
                return next(server for server in self.servers if server.port in ports)
        return None


def _follows(replica: Watched, primary: Watched) -> bool:
    return replica.says("master_link_status:up") and replica.says(f"master_port:{primary.port}")
