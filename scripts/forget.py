"""Forget sessions for good: erase them everywhere, and leave a signed tombstone of each, without content.

Logs, views, places in lists, counts, feed entries and archived files go. From the first moment a session reads as one
that never was, and takes no appends any more. What was interrupted is completed by running this again, or with
--complete. On a server with roles it needs the role `custodian`. Where logs are archived, name the archive: if it lacks
a session's file, nothing is done but with --without-archive, for files that are lost for good; it tells which.

A tombstone holds a hash of the session's id, how many events it had, and what --by and --reason say: for good, so let
them name no person. docs/OPERATIONS.md tells what no program can reach: backups, and the server's own files.

Exit codes: 0 if all of them are forgotten; 1 if one was not, because there is no such session, or because forks or
conversations of agents hold the same content (--relatives); 2 if it could not begin or had to stop: run it again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

try:
    import msgspec
    import printing
    import typer
    from auditing.options import Key, signer_of
    from command import Code, Script
    from options import LOCAL, Archive, Json, Namespace, Sessions, Url, store_of
    from printing import printable

    from eventstore import ContextEngineError, EventStore, SessionShared, UnknownSession
    from eventstore.proof.tombstones import Tombstone
    from eventstore.store import DEFAULT_NAMESPACE
    from projections import Projector, Queries, open_views
    from projections.forgetting.forgetter import Forgetter
except ImportError as missing:
    sys.exit(f"What an audit needs is not installed here ({missing}). Run: pip install '.[audit]'")

main = Script(__doc__)


@main.command
async def forget(
    sessions: Sessions = None,
    user: Annotated[list[str] | None, typer.Option(metavar="ID", help="all sessions of a user")] = None,
    relatives: Annotated[
        bool,
        typer.Option("--relatives", help="forget forks, and agents' conversations about a session, along with it"),
    ] = False,
    complete: Annotated[bool, typer.Option("--complete", help="complete what was begun and interrupted")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only tell which sessions would be forgotten")] = False,
    by: Annotated[
        str, typer.Option(metavar="WHO", help="who wants it, for the tombstone: no person's name", show_default=False)
    ] = "",
    reason: Annotated[
        str, typer.Option(metavar="WHY", help="why, for the tombstone: nothing about a person", show_default=False)
    ] = "",
    key: Key = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="sign nothing: verify.py will report the tombstones")
    ] = False,
    without_archive: Annotated[
        bool,
        typer.Option("--without-archive", help="go on where files are not in the archive, and tell which may be left"),
    ] = False,
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: Archive = None,
    as_json: Json = False,
) -> int:
    """Forget."""
    if not (sessions or user or complete):
        raise typer.BadParameter("name sessions, or --user, or --complete", param_hint="SESSION")
    told = Told()
    try:
        signer = None if dry_run or (unsigned and key is None) else signer_of(key)
        async with store_of(url, namespace, archive) as store:
            forgetter = Forgetter(store, signer, without_archive=without_archive)
            if complete and not dry_run:
                told.completed = await forgetter.complete()
            named = await _named(store, sessions or (), user or ())
            family = await _family(forgetter, named, told, along=relatives)
            if dry_run:
                await _only_tell(store, family, told)
            else:
                await _forget(forgetter, family, told, by=by, reason=reason)
                if relatives or user:  # one that was interrupted is not to be found any more by whose it was
                    told.completed += await forgetter.complete()
    except ContextEngineError as error:
        told.stopped = str(error)
    if as_json:
        print(printing.as_json(told))
    else:
        _print(told)
    return Code.STOPPED if told.stopped else Code.WRONG if told.unknown or told.shared else Code.DONE


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


async def _named(store: EventStore, sessions: Sequence[str], users: Sequence[str]) -> list[str]:
    """Return the sessions that are named, and those of users that are."""
    named = list(sessions)
    if users:
        views = open_views(store)
        queries = Queries(store, views, Projector(store, views))
        for user_id in users:
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


async def _only_tell(store: EventStore, family: Sequence[str], told: Told) -> None:
    told.would_forget = [each for each in family if await store.version(each)]
    told.unknown = [each for each in family if each not in told.would_forget and not await store.forgotten(each)]


async def _forget(forgetter: Forgetter, family: Sequence[str], told: Told, *, by: str, reason: str) -> None:
    with printing.progress("sessions") as show:
        for number, session_id in enumerate(reversed(family), 1):
            try:
                told.forgotten[session_id] = await forgetter.forget(session_id, by=by, reason=reason)
            except UnknownSession:
                told.unknown.append(session_id)
            show(number, len(family))


def _print(told: Told) -> None:
    if told.forgotten or told.completed:
        rows = [(session_id, stone.version, stone.session) for session_id, stone in told.forgotten.items()]
        rows += [("(completed)", stone.version, stone.session) for stone in told.completed]
        printing.table(["session", "events", "tombstone"], rows)
    elif not told.would_forget:
        print("No session was forgotten.")
    for name, stone in [*told.forgotten.items(), *((stone.session, stone) for stone in told.completed)]:
        for file in stone.files or ():
            print(printable(f"MAY HOLD CONTENT of {name}: {file or 'a file whose name cannot be read'}"))
    for session_id in told.would_forget:
        print(printable(f"would be forgotten: {session_id}"))
    for session_id in told.unknown:
        print(printable(f"unknown: {session_id}"))
    for session_id, others in told.shared.items():
        print(printable(f"left alone: {session_id}: the same content is in {', '.join(others)} (--relatives)"))
    if told.stopped:
        print(printable(told.stopped))


if __name__ == "__main__":
    sys.exit(main())
