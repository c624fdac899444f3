"""List, show and retry parked sessions: those whose views a worker could not bring up to date.

A session is parked when one of its events cannot be folded, or when it was at hand each time its workers died. Nothing
of it is lost or skipped: its log grows on, and others are not held up. Once the cause is mended (an upgrade, mostly),
retry it.

Exit codes: 0; 1 if a session named is not parked, or still is after a retry; 2 if the store could not be opened.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

try:
    import msgspec
    from printing import printable

    from eventstore import ContextEngineError, CorruptLog, EventStore, UnknownStoreUrl, open_store
    from eventstore.store import DEFAULT_NAMESPACE
    from projections import Parked, Projector, open_views
except ImportError as missing:
    sys.exit(f"What scripts need is not installed here ({missing}). Run: pip install '.[scripts]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for, and return the exit code."""
    options = _options(arguments)
    try:
        return asyncio.run(_run(options))
    except (ContextEngineError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


async def _run(options: argparse.Namespace) -> int:
    if options.url.startswith("memory:"):
        raise UnknownStoreUrl("Another process's memory cannot be seen: use redis:// or embedded:///directory.")
    async with open_store(options.url, namespace=options.namespace) as store:
        parked = {each.session_id: each for each in await open_views(store).parked()}
        if options.action == "list":
            return _list(parked, as_json=options.json)
        if options.action == "show":
            return await _show(store, parked, options.session, as_json=options.json)
        return await _retry(store, parked, list(parked) if options.all else options.session, as_json=options.json)


def _list(parked: dict[str, Parked], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps([_told(each) for each in parked.values()]))
    else:
        for each in parked.values():
            print(f"{_at(each)}  {printable(each.session_id)}  {printable(each.reason)}")
        print(f"{len(parked)} parked.", file=sys.stderr)
    return 0


async def _show(store: EventStore, parked: dict[str, Parked], session_id: str, *, as_json: bool) -> int:
    each = parked.get(session_id)
    if each is None:
        print(f"{printable(session_id)} is not parked.", file=sys.stderr)
        return 1
    event = await _entry(store, each)
    if as_json:
        print(json.dumps({**_told(each), "event": event}))
        return 0
    print(f"session  {printable(each.session_id)}\nparked   {_at(each)}\nversion  {each.version or 'not known'}")
    print(f"reason   {printable(each.reason)}\nevent    {printable(event or 'cannot be read')}\n")
    print("\n".join(map(printable, each.traceback.splitlines())))
    return 0


async def _retry(store: EventStore, parked: dict[str, Parked], session_ids: Sequence[str], *, as_json: bool) -> int:
    projector = Projector(store, open_views(store))
    outcomes: list[dict[str, Any]] = []
    for session_id in dict.fromkeys(session_ids):
        outcome, still = "not parked", None
        if session_id in parked:
            still = await projector.retry(session_id)
            outcome = "mended" if still is None else "still parked"
        outcomes.append({"session_id": session_id, "outcome": outcome, "reason": still and still.reason})
        if not as_json:
            print(printable(f"{session_id}: {outcome}{f': {still.reason}' if still else ''}"))
    if as_json:
        print(json.dumps(outcomes))
    return 0 if all(outcome["outcome"] == "mended" for outcome in outcomes) else 1


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


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--url",
        default=os.environ.get("CONTEXTENGINE_URL") or os.environ.get("REDIS_URL") or "redis://localhost:6379",
        help="as for the workers (default: CONTEXTENGINE_URL, REDIS_URL, localhost)",
    )
    shared.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="the engine's namespace (default: %(default)s)")
    shared.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", parents=[shared], help="which sessions are parked, since when and why")
    actions.add_parser("show", parents=[shared], help="one of them, with the event and the traceback").add_argument(
        "session"
    )
    retry = actions.add_parser("retry", parents=[shared], help="try to bring them up to date")
    retry.add_argument("session", nargs="*")
    retry.add_argument("--all", action="store_true", help="all that are parked")
    options = parser.parse_args(arguments)
    if options.action == "retry" and bool(options.session) == options.all:
        retry.error("name sessions, or say --all")
    return options


if __name__ == "__main__":
    sys.exit(main())
