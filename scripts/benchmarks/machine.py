"""On what the benchmark ran: a figure without its machine says little."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from benchmarks.bench import Bench

PACKAGES = ("redis", "hiredis", "msgspec", "openai-agents", "llama-index-storage-chat-store-redis", "aiecs")


class Circumstances(msgspec.Struct, frozen=True):
    """What a run's figures belong to."""

    date: str
    command: str
    machine: str
    server: str
    versions: str
    messages: str
    load: str


def circumstances(bench: Bench, arguments: Sequence[str]) -> Circumstances:
    """Describe a run that is about to begin."""
    packages = {name: found for name in PACKAGES if (found := _version(name))}
    return Circumstances(
        date=datetime.now(UTC).date().isoformat(),
        command=command(arguments),
        machine=machine(),
        server=f"{bench.binary.version}, on the same machine, {bench.described}",
        versions=", ".join([f"Python {platform.python_version()}", *(f"{n} {v}" for n, v in packages.items())]),
        messages=bench.messages.described,
        load=f"{os.getloadavg()[0]:.1f} when it began",
    )


def command(arguments: Sequence[str]) -> str:
    """Return the command line, with the names alone of files that lie elsewhere."""
    shown = [Path(word).name if word.startswith("/") else word for word in arguments]
    return shlex.join(["python", "scripts/bench.py", *shown])


def machine() -> str:
    """Return the cores, the processor, the memory and the system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{cores} cores", _processor(), f"{platform.system()} {platform.release().split('-')[0]}"]
    with contextlib.suppress(ValueError, OSError):
        parts.insert(2, f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB")
    return ", ".join(part for part in parts if part)


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
