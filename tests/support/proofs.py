"""Sealed stores for tests, and the check of them."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventstore import EventStore, MessageAdded
from eventstore.proof.manifests import Manifest
from eventstore.proof.signing import Keyring, Signer
from projections.sealing.findings import Verdict
from projections.sealing.sealer import Sealer
from projections.sealing.verifier import Verifier

SCRIPTS = Path(__file__).parents[2] / "scripts"
SIGNER = Signer.new()


async def talk(store: EventStore, session_id: str, *texts: str) -> None:
    """Let a user say something, one append a text."""
    for text in texts:
        await store.append(session_id, MessageAdded("user", text))


async def seal(store: EventStore, signer: Signer = SIGNER) -> Manifest:
    """Seal everything, and return the manifest."""
    sealer = Sealer(store, signer)
    assert not (await sealer.seal()).findings
    return await sealer.manifest()


async def verify(
    store: EventStore, *session_ids: str, manifests: Sequence[Manifest] = (), signer: Signer | None = SIGNER
) -> Verdict:
    """Check sessions, or all."""
    keyring = Keyring([signer.public] if signer else [])
    named = [(f"manifest {number}", manifest) for number, manifest in enumerate(manifests, 1)]
    return await Verifier(store, keyring, named).verify(session_ids or None)


def bad(verdict: Verdict) -> set[tuple[str, str | None, int]]:
    """Return what is wrong: kind, session, and first bad version."""
    return {(finding.kind.value, finding.session_id, finding.version) for finding in verdict.findings}


def script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a process of its own."""
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


def called(name: str, *arguments: str) -> tuple[int, str]:
    """Run a script in this process, which is faster. Return its exit code and what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = _main_of(name)(arguments)
    return code, out.getvalue()


@functools.cache
def _main_of(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"script_{name[:-3]}", SCRIPTS / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main
