"""List, show and retry parked sessions: those whose views a worker could not bring up to date.

A session is parked when one of its events cannot be folded, or when it was at hand each time its workers died. Nothing
of it is lost or skipped: its log grows on, and others are not held up. Once the cause is mended (an upgrade, mostly),
retry it.

Exit codes: 0; 1 if a session named is not parked, or still is after a retry; 2 if the store could not be opened.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

try:
    import msgspec
    import typer
    from command import Code, Script
    from options import LOCAL, Json, Namespace, Sessions, Url, store_of
    from printing import printable

    from eventstore import CorruptLog, EventStore
    from eventstore.store import DEFAULT_NAMESPACE
    from projections import Parked, Projector, open_views
except ImportError as missing:
    sys.exit(f"What scripts need is not installed here ({missing}). Run: pip install '.[scripts]'")

main = Script(__doc__)


@main.command
async def list_(*, url: Url = LOCAL, namespace: Namespace = DEFAULT_NAMESPACE, as_json: Json = False) -> int:
    """Tell which sessions are parked, since when and why."""
    async with store_of(url, namespace) as store:
        parked = await open_views(store).parked()
    if as_json:
        print(json.dumps([_told(each) for each in parked]))
    else:
        for each in parked:
            print(f"{_at(each)}  {printable(each.session_id)}  {printable(each.reason)}")
        print(f"{len(parked)} parked.", file=sys.stderr)
    return Code.DONE


@main.command
async def show(
    session: Annotated[str, typer.Argument(metavar="SESSION", help="which session")],
    *,
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> int:
    """Show one of them, with the event and the traceback."""
    async with store_of(url, namespace) as store:
        for each in await open_views(store).parked():
            if each.session_id == session:
                _print(each, await _entry(store, each), as_json=as_json)
                return Code.DONE
    print(f"{printable(session)} is not parked.", file=sys.stderr)
    return Code.WRONG


@main.command
async def retry(
    sessions: Sessions = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="all that are parked")] = False,
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> int:
    """Try to bring them up to date."""
    if bool(sessions) == every:
        raise typer.BadParameter("name sessions, or say --all")
    outcomes: list[dict[str, Any]] = []
    async with store_of(url, namespace) as store:
        views = open_views(store)
        projector = Projector(store, views)
        parked = [each.session_id for each in await views.parked()]
        for session_id in dict.fromkeys(sessions or parked):
            outcome, still = "not parked", None
            if session_id in parked:
                still = await projector.retry(session_id)
                outcome = "mended" if still is None else "still parked"
            outcomes.append({"session_id": session_id, "outcome": outcome, "reason": still and still.reason})
            if not as_json:
                print(printable(f"{session_id}: {outcome}{f': {still.reason}' if still else ''}"))
    if as_json:
        print(json.dumps(outcomes))
    return Code.DONE if all(each["outcome"] == "mended" for each in outcomes) else Code.WRONG


def _print(parked: Parked, event: str | None, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**_told(parked), "event": event}))
        return
    print(f"session  {printable(parked.session_id)}\nparked   {_at(parked)}\nversion  {parked.version or 'not known'}")
    print(f"reason   {printable(parked.reason)}\nevent    {printable(event or 'cannot be read')}\n")
    print("\n".join(map(printable, parked.traceback.splitlines())))


async def _entry(store: EventStore, parked: Parked) -> str | None:
    """Return the event that could not be folded, as it stands in the log; None if it is not known or not readable."""
    try:
        events = await store.read(parked.session_id, after=max(0, parked.version - 1), limit=1)
    except CorruptLog:
        return None
    found = [event for event in events if event.version == parked.version]
    return found[0].entry.decode() if found else None


def _told(parked: Parked) -> dict[str, Any]:
    return {**msgspec.structs.asdict(parked), "parked_at": _at(parked)}


def _at(parked: Parked) -> str:
    return datetime.fromtimestamp(parked.parked_ms / 1000, UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
