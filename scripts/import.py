"""Import what `export.py` wrote: every event with its version, its time and its bytes as they were.

The file is gone through first, and refused if it is not whole. A session that the target has already and that is
another one is refused by name and left as it is. A run that was killed is simply run again. With --public-key, sessions
whose seals do not fit are refused as well; --check imports nothing.
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
    from auditing.options import keyring_of, parser

    from eventstore import ContextEngineError, InvalidInput, open_store
    from projections.transfer.reading import ExportFile
    from projections.transfer.restoring import Outcome, Restorer
except ImportError as missing:
    sys.exit(f"What an import needs is not installed here ({missing}). Run: pip install '.[audit]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Import.

    Returns:
        0 if everything that the file holds is in the target; 1 if a session was refused; 2 if the file is damaged, or
        the target does not answer.
    """
    options = _options(arguments)
    try:
        told = anyio.run(_import, options)
    except ContextEngineError as error:
        print(showing.as_json({"stopped": str(error)}) if options.json else showing.printable(str(error)))
        return 2
    if options.json:
        print(showing.as_json(told))
    else:
        refusals = told.pop("refusals")
        showing.facts({name.replace("_", " "): value for name, value in told.items() if value is not None})
        for refused in refusals:
            print(showing.printable(f"refused: {refused['session']}: {refused['reason']}"))
        told["refusals"] = refusals
    return 1 if told["refusals"] else 0


def _options(arguments: Sequence[str] | None) -> Namespace:
    made = parser(__doc__)
    made.add_argument("file", type=Path, metavar="FILE", help="what export.py wrote")
    made.add_argument("--public-key", type=Path, action="append", metavar="FILE", help="whose seals to believe, in PEM")
    made.add_argument("--check", action="store_true", help="only look whether the file is whole; import nothing")
    return made.parse_args(arguments)


async def _import(options: Namespace) -> dict[str, Any]:
    keyring = keyring_of(options.public_key)
    file = ExportFile(options.file, keyring if len(keyring) else None)
    told: dict[str, Any] = {
        "stopped": None,
        "sessions": file.sessions,
        "events": file.events,
        "proved_events": file.proved if len(keyring) else None,
        "refusals": [],
    }
    if options.check:
        return told
    if options.url.startswith("memory:"):
        raise InvalidInput("Another process's memory cannot be written to: use redis:// or embedded:///directory.")
    async with open_store(options.url, namespace=options.namespace, archive=options.archive) as store:
        restorer = Restorer(store)
        sums = dict.fromkeys(Outcome, 0)
        async for done in restorer.restore(file):
            sums[done.outcome] += 1
            if done.outcome is Outcome.REFUSED:
                told["refusals"].append({"session": done.session_id, "reason": done.reason})
        told |= {outcome.name.lower(): count for outcome, count in sums.items()}
        told["seals_restored"] = restorer.seals
    return told


if __name__ == "__main__":
    sys.exit(main())
