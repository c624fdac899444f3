"""Import what `export.py` wrote: every event with its version, its time and its bytes as they were.

The file is gone through first, and refused if it is not whole. A session that the target has already and that is
another one is refused by name and left as it is. A run that was killed is simply run again. With --public-key, sessions
whose seals do not fit are refused as well; --check imports nothing.

Exit codes: 0 if everything that the file holds is in the target; 1 if a session was refused; 2 if the file is damaged,
or the target does not answer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from auditing import showing
    from auditing.options import PublicKeys, keyring_of
    from command import Code, Script
    from options import LOCAL, Archive, Json, Namespace, Url, store_of
    from printing import counting, printable

    from eventstore import EventStore
    from eventstore.store import DEFAULT_NAMESPACE
    from projections.transfer.reading import ExportFile
    from projections.transfer.restoring import Outcome, Restorer
except ImportError as missing:
    sys.exit(f"What an import needs is not installed here ({missing}). Run: pip install '.[audit]'")

main = Script(__doc__)


@main.command
async def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="what export.py wrote")],
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: Archive = None,
    public_key: PublicKeys = None,
    check: Annotated[bool, typer.Option("--check", help="only look whether the file is whole; import nothing")] = False,
    as_json: Json = False,
) -> int:
    """Import."""
    keyring = keyring_of(public_key)
    file = ExportFile(path, keyring if len(keyring) else None)
    told: dict[str, Any] = {
        "stopped": None,
        "sessions": file.sessions,
        "events": file.events,
        "proved_events": file.proved if len(keyring) else None,
        "refusals": [],
    }
    if not check:
        async with store_of(url, namespace, archive, create=True) as store:
            told |= await _restore(store, file)
    if as_json:
        print(showing.as_json(told))
    else:
        _print(told)
    return Code.WRONG if told["refusals"] else Code.DONE


async def _restore(store: EventStore, file: ExportFile) -> dict[str, Any]:
    """Put every session of a file back, and return what has become of them."""
    restorer, sums, refusals = Restorer(store), dict.fromkeys(Outcome, 0), []
    with counting("events", file.events) as seen:
        async for done in restorer.restore(file):
            sums[done.outcome] += 1
            if done.outcome is Outcome.REFUSED:
                refusals.append({"session": done.session_id, "reason": done.reason})
            seen(done.events)
    told = {outcome.name.lower(): count for outcome, count in sums.items()}
    return {**told, "refusals": refusals, "seals_restored": restorer.seals}


def _print(told: dict[str, Any]) -> None:
    counts = {name: value for name, value in told.items() if name != "refusals" and value is not None}
    showing.facts({name.replace("_", " "): value for name, value in counts.items()})
    for refused in told["refusals"]:
        print(printable(f"refused: {refused['session']}: {refused['reason']}"))


if __name__ == "__main__":
    sys.exit(main())
