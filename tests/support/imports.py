"""Importing in tests: in this process, or as the script in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from importing.copying import Importer, Outcome
from importing.source import Source

from eventstore import EventStore, MessageAdded, RecordedEvent, open_store
from eventstore.codec import DEFAULT_MAX_EVENT_BYTES
from support.original import Original

SCRIPT = Path(__file__).parents[2] / "scripts" / "import_original.py"


def importer(source: Source, target: EventStore, *, dry_run: bool = False) -> Importer:
    """Return an importer with the limit that the target has."""
    return Importer(source, target, dry_run=dry_run, max_event_bytes=DEFAULT_MAX_EVENT_BYTES)


async def imported(original: Original, target: EventStore, *, dry_run: bool = False) -> dict[str, Outcome]:
    """Import in this process, and return what has become of each stream."""
    run = importer(Source(original.client), target, dry_run=dry_run).run()
    return {outcome.name: outcome async for outcome in run}


async def verdicts(original: Original, target: EventStore, *, dry_run: bool = False) -> dict[str, str]:
    """Import in this process, and return the verdicts."""
    return {name: each.verdict.name for name, each in (await imported(original, target, dry_run=dry_run)).items()}


def import_by_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a process of its own."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, encoding="utf-8", timeout=60, check=False
    )


async def dump(client: Any) -> dict[bytes, bytes]:
    """Return a whole database."""
    return {key: await client.dump(key) for key in sorted(await client.keys("*"))}


async def logs(url: str, namespace: str) -> dict[str, list[RecordedEvent]]:
    """Return all events of a namespace by stream."""
    found: dict[str, list[RecordedEvent]] = {}
    async with open_store(url, namespace=namespace) as store:
        async for event in store.read_all():
            found.setdefault(event.session_id, []).append(event)
    return found


async def logged(target: EventStore, session_id: str) -> list[Any]:
    """Return the contents of all messages in a session's log."""
    return [event.data.content for event in await target.read(session_id) if isinstance(event.data, MessageAdded)]


def said(history: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the contents of messages."""
    return [message["content"] for message in history]
