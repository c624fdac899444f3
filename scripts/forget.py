"""Forget sessions for good: erase them everywhere, and leave a signed tombstone of each, without content.

Logs, views, places in lists, counts, feed entries and archived files go. From the first moment a session reads as one
that never was, and takes no appends any more. What was interrupted is completed by running this again, or with
--complete. On a server with roles it needs the role `custodian`; where logs are archived, name the archive.

A tombstone holds a hash of the session's id, how many events it had, and what --by and --reason say: for good, so let
them name no person. docs/OPERATIONS.md tells what no program can reach: backups, and the server's own files.

Exit codes: 0 if all of them are forgotten; 1 if one was not, because there is no such session, or because forks or
conversations of agents hold the same content (--relatives); 2 if it could not begin or had to stop: run it again.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

try:
    import anyio
    import msgspec
    from auditing import showing
    from auditing.options import parser, signer_of
    from printing import as_json, progress, table
    from replaying.options import store_of

    from eventstore import ContextEngineError, EventStore, SessionShared, UnknownSession
    from eventstore.proof.signing import Signer
    from eventstore.proof.tombstones import Tombstone
    from projections import Projector, Queries, open_views
    from projections.forgetting.forgetter import Forgetter
except ImportError as missing:
    sys.exit(f"What an audit needs is not installed here ({missing}). Run: pip install '.[audit]'")


class Told(msgspec.Struct):
    """What was done.

    Attributes:
        stopped: Why it could not begin, or had to stop.
        forgotten: The tombstones of the sessions that were named, by their ids.
        completed: Tombstones of sessions that somebody had begun to forget, completed now.
        would_forget: The sessions that would be forgotten, where it was only asked.
        unknown: Sessions that do not exist, and never did.
        shared: Sessions that were left alone, with those that hold the same content.
    """

    stopped: str | None = None
    forgotten: dict[str, Tombstone] = {}
    completed: list[Tombstone] = []
    would_forget: list[str] = []
    unknown: list[str] = []
    shared: dict[str, list[str]] = {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Forget.

    Returns:
        As the text above says.
    """
    options = _options(arguments)
    told = Told()
    try:
        anyio.run(_forget, options, told)
    except ContextEngineError as error:
        told.stopped = str(error)
    if options.json:
        print(as_json(told))
    else:
        _print(told)
    return 2 if told.stopped else 1 if told.unknown or told.shared else 0


def _options(arguments: Sequence[str] | None) -> Namespace:
    made = parser(__doc__)
    made.add_argument("sessions", nargs="*", metavar="SESSION", help="which sessions")
    made.add_argument("--user", action="append", default=[], metavar="ID", help="all sessions of a user")
    made.add_argument(
        "--relatives",
        action="store_true",
        help="forget forks, and agents' conversations about a session, along with it",
    )
    made.add_argument("--complete", action="store_true", help="complete what was begun and interrupted")
    made.add_argument("--dry-run", action="store_true", help="only tell which sessions would be forgotten")
    made.add_argument("--by", default="", metavar="WHO", help="who wants it, for the tombstone: no person's name")
    made.add_argument("--reason", default="", metavar="WHY", help="why, for the tombstone: nothing about a person")
    made.add_argument("--key", type=Path, metavar="FILE", help="the key that signs (default: CONTEXTENGINE_SEAL_KEY)")
    made.add_argument("--unsigned", action="store_true", help="sign nothing: verify.py will report the tombstones")
    options = made.parse_args(arguments)
    if not (options.sessions or options.user or options.complete):
        made.error("name sessions, or --user, or --complete")
    return options


async def _forget(options: Namespace, told: Told) -> None:
    signer: Signer | None = None
    if not options.dry_run and not (options.unsigned and options.key is None):
        signer = signer_of(options.key)
    async with store_of(options) as store:
        forgetter = Forgetter(store, signer)
        if options.complete and not options.dry_run:
            told.completed = await forgetter.complete()
        family = await _family(forgetter, await _named(store, options), told, along=options.relatives)
        if options.dry_run:
            told.would_forget = [each for each in family if await store.version(each)]
            told.unknown = [
                each for each in family if each not in told.would_forget and not await store.forgotten(each)
            ]
            return
        with progress("sessions") as show:
            for number, session_id in enumerate(reversed(family), 1):
                try:
                    told.forgotten[session_id] = await forgetter.forget(
                        session_id, by=options.by, reason=options.reason
                    )
                except UnknownSession:
                    told.unknown.append(session_id)
                show(number, len(family))
        if options.relatives:  # one that was interrupted is not to be found any more by what it descends from
            told.completed += await forgetter.complete()


async def _named(store: EventStore, options: Namespace) -> list[str]:
    """Return the sessions that the options name."""
    named = list(options.sessions)
    if options.user:
        views = open_views(store)
        queries = Queries(store, views, Projector(store, views))
        for user_id in options.user:
            named += [session.session_id for session in (await queries.sessions(user_id=user_id)).sessions]
    return list(dict.fromkeys(named))


async def _family(forgetter: Forgetter, named: Sequence[str], told: Told, *, along: bool) -> list[str]:
    """Return the sessions to forget, their relatives included; those that have some and may not are left alone."""
    left = list(named)
    while left:
        try:
            return await forgetter.family(left, along=along)
        except SessionShared as shared:
            told.shared[shared.session_id] = shared.others
            left.remove(shared.session_id)
    return []


def _print(told: Told) -> None:
    if told.forgotten or told.completed:
        rows = [(session_id, stone.version, stone.session) for session_id, stone in told.forgotten.items()]
        rows += [("(completed)", stone.version, stone.session) for stone in told.completed]
        table(["session", "events", "tombstone"], rows)
    for session_id in told.would_forget:
        print(showing.printable(f"would be forgotten: {session_id}"))
    for session_id in told.unknown:
        print(showing.printable(f"unknown: {session_id}"))
    for session_id, others in told.shared.items():
        print(showing.printable(f"left alone: {session_id}: the same content is in {', '.join(others)} (--relatives)"))
    if told.stopped:
        print(showing.printable(told.stopped))


if __name__ == "__main__":
    sys.exit(main())
