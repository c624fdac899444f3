"""Make one HTML page of a session: what happened when, the conversation, metrics, context values, and the proof.

The page needs no network and runs nothing of what was recorded, so it can be handed on. With a public key, and best
with a manifest too, it says whether the log is what was sealed.

Exit codes: 0 if it was made, and everything that was sealed is as it was; 1 if it was made, and something is wrong; 2
if it was not made; 3 if it was made, and nothing is proved.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from auditing import showing
    from auditing.options import Manifests, PublicKeys, keyring_of, manifests_of, replace
    from command import Code, Script
    from options import LOCAL, Archive, Json, Namespace, Url, store_of
    from printing import printable

    from eventstore import EventStore, UnknownSession
    from eventstore.store import DEFAULT_NAMESPACE
    from projections.report import page, story
    from projections.report.proof import verification
    from projections.sealing.verifier import Verifier
except ImportError as missing:
    sys.exit(f"What an audit needs is not installed here ({missing}). Run: pip install '.[audit]'")

main = Script(__doc__)


@main.command
async def report(
    session: Annotated[str, typer.Argument(metavar="SESSION", help="which session")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="the page, FILE.html")],
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: Archive = None,
    public_key: PublicKeys = None,
    manifest: Manifests = None,
    as_json: Json = False,
) -> int:
    """Make the page."""
    keyring, manifests = keyring_of(public_key), manifests_of(manifest)
    async with store_of(url, namespace, archive) as store:
        told = await _told(store, session, Verifier(store, keyring, manifests), sealed=bool(manifests))
    replace(output, page.render(f"{session} - audit report", told).encode())
    proof = told["verification"]
    said = "not as it was" if proof["findings"] else "not proved" if proof["doubts"] else "proved"
    if as_json:
        summary = {name: proof[name] for name in ("proved", "events", "sealed_events", "findings", "doubts")}
        print(showing.as_json({"stopped": None, "output": str(output), **summary}))
    else:
        print(f"{output}: {len(told['events']):,} events of {printable(session)}, {said}.")
    return Code.WRONG if proof["findings"] else Code.UNPROVED if proof["doubts"] else Code.DONE


async def _told(store: EventStore, session: str, verifier: Verifier, *, sealed: bool) -> dict[str, Any]:
    """Return what the page tells; of a session without events it tells only what seals or manifests say of it."""
    checked = await verification(store, verifier, session)
    events = await story.read(store, session)
    if not events and not checked["marks"] and not sealed:
        raise UnknownSession(session)
    return {
        "session": session,
        "namespace": store.namespace,
        "made_ms": int((await store.now()).timestamp() * 1000),
        "verification": checked,
        **story.tell(events),
    }


if __name__ == "__main__":
    sys.exit(main())
