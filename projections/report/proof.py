"""What is proved of a session, for its report."""

from __future__ import annotations

from typing import Any

import msgspec

from eventstore.partitions import partition_of
from eventstore.proof.seals import decode
from eventstore.store import EventStore
from projections.sealing.keeping import open_seals
from projections.sealing.verifier import Verifier


async def verification(store: EventStore, verifier: Verifier, session_id: str) -> dict[str, Any]:
    """Check a session, and return the verdict with ``marks``: the seals that tell of it, oldest first.

    The marks are what the seals say; whether to believe them, the verdict says.
    """
    verdict = await verifier.verify([session_id])
    marks: list[dict[str, Any]] = []
    for number, text in await open_seals(store).seals(partition_of(session_id.encode(), store.partitions)):
        try:
            seal = decode(text)
        except ValueError:
            continue  # the verdict has a finding for it
        marks += [
            {
                "number": number,
                "sealed_ms": seal.statement.sealed_ms,
                "version": version,
                "head": head,
                "key": seal.statement.key,
            }
            for name, version, _, head in seal.changed
            if name == session_id
        ]
    told: dict[str, Any] = msgspec.to_builtins(verdict)
    return told | {"proved": verdict.proved, "unsealed_events": verdict.unsealed_events, "marks": marks}
