"""Make one HTML page of a session: what happened when, the conversation, metrics, context values, and the proof.

The page needs no network and runs nothing of what was recorded, so it can be handed on. With a public key, and best
with a manifest too, it says whether the log is what was sealed.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    import anyio
    from auditing import showing
    from auditing.options import add_trust, keyring_of, manifests_of, parser, replace

    from eventstore import ContextEngineError, InvalidInput, UnknownSession, open_store
    from projections.report import page, story
    from projections.report.proof import verification
    from projections.sealing.verifier import Verifier
except ImportError as missing:
    sys.exit(f"What an audit needs is not installed here ({missing}). Run: pip install '.[audit]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page.

    Returns:
        0 if it was made, and everything that was sealed is as it was; 1 if it was made, and something is wrong; 2 if it
        was not made; 3 if it was made, and nothing is proved.
    """
    options = _options(arguments)
    try:
        told = anyio.run(_told, options)
        replace(options.output, page.render(f"{options.session} - audit report", told).encode())
    except ContextEngineError as error:
        print(showing.as_json({"stopped": str(error)}) if options.json else showing.printable(str(error)))
        return 2
    proof = told["verification"]
    said = "not as it was" if proof["findings"] else "not proved" if proof["doubts"] else "proved"
    if options.json:
        summary = {name: proof[name] for name in ("proved", "events", "sealed_events", "findings", "doubts")}
        print(showing.as_json({"stopped": None, "output": str(options.output), **summary}))
    else:
        print(f"{options.output}: {len(told['events']):,} events of {showing.printable(options.session)}, {said}.")
    return 1 if proof["findings"] else 3 if proof["doubts"] else 0


def _options(arguments: Sequence[str] | None) -> Namespace:
    made = parser(__doc__)
    made.add_argument("session", metavar="SESSION")
    made.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the page, FILE.html")
    add_trust(made)
    return made.parse_args(arguments)


async def _told(options: Namespace) -> dict[str, Any]:
    keyring, manifests = keyring_of(options.public_key), manifests_of(options.manifest)
    if options.url.startswith("memory:"):
        raise InvalidInput("Another process's memory cannot be read: use redis:// or embedded:///directory.")
    async with open_store(options.url, namespace=options.namespace, archive=options.archive) as store:
        checked = await verification(store, Verifier(store, keyring, manifests), options.session)
        events = await story.read(store, options.session)
        if not events and not checked["marks"] and not manifests:
            raise UnknownSession(options.session)
        return {
            "session": options.session,
            "namespace": store.namespace,
            "made_ms": int((await store.now()).timestamp() * 1000),
            "verification": checked,
            **story.tell(events),
        }


if __name__ == "__main__":
    sys.exit(main())
