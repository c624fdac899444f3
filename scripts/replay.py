"""Replay sessions from the log: as they were at any version or time, what changed in between, and whether views drift.

  replay.py SESSION                          the session, its history and its context, as they are
  replay.py SESSION --at 2026-01-31T12:00    ... as they were then (--at-version 17: at that version)
  replay.py SESSION --diff 10 now            what changed between two versions or times
  replay.py --match 'user-*' --user ann      many at once, a line each (--full: all of each)
  replay.py --verify                         hold every view against the fold of its log, by session and field

It only reads, and may run beside a store that is in use.

Exit codes: 0 if all is well; 1 if a view drifts, or a session is parked, unknown or cannot be replayed; 2 if it could
not begin, or had to stop; 130 after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

try:
    import printing
    import typer
    from command import Code, Script
    from options import LOCAL, Archive, Json, Namespace, Sessions, Url, moment_of, store_of, time_of
    from replaying import verifying
    from replaying.choosing import Choice
    from replaying.telling import Teller, failure, print_difference, print_failures, teller_of

    from eventstore import EventStore
    from eventstore.feed import Pointer
    from eventstore.store import DEFAULT_NAMESPACE
    from projections import open_views
    from projections.past import Past
    from projections.replaying import Failed, Moment, difference, replay
except ImportError as missing:
    sys.exit(f"What scripts need is not installed here ({missing}). Run: pip install '.[scripts]'")

main = Script(__doc__)


@main.command
async def choose_and_replay(
    sessions: Sessions = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="all sessions (the default of --verify)")] = False,
    match: Annotated[
        str | None, typer.Option(metavar="GLOB", help="sessions whose ids match, such as 'user-*'")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="ID", help="sessions of this user")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=time_of, metavar="TIME", help="sessions that were active at this time or later"),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=time_of, metavar="TIME", help="sessions that had begun by this time")
    ] = None,
    at_version: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="as it was at this version of its log")
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(parser=time_of, metavar="TIME", help="as it was at this time (ISO 8601; UTC without a zone)"),
    ] = None,
    diff: Annotated[
        tuple[Moment, Moment] | None,
        typer.Option(parser=moment_of, metavar="MOMENT MOMENT", help="what changed between two versions or times"),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="compare the views with the log, each at its own version")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="print all of each session, however many there are")] = False,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="newest messages; 0: all of them")] = 50,
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: Archive = None,
    as_json: Json = False,
) -> int:
    """Choose sessions, and do with them what is asked for."""
    if sum((at_version is not None, at is not None, diff is not None, verify)) > 1:
        raise typer.BadParameter(
            "only one of them can be given", param_hint=["--at-version", "--at", "--diff", "--verify"]
        )
    choice = Choice(names=sessions or [], match=match, user=user, since=since, until=until)
    if choice.all and not (every or verify):
        raise typer.BadParameter("name sessions, or choose them with --match, --user, --since, --until or --all")
    gc.freeze()
    gc.disable()  # what is folded holds no cycles, and looking for them costs a fifth of the time
    async with store_of(url, namespace, archive) as store:
        heads, unknown = await choice.heads(store)
        if verify:
            return await _verify(store, choice, heads, unknown, as_json=as_json)
        if diff:
            return await _diff(store, choice, heads, unknown, diff, as_json=as_json)
        alone = len(choice.names) == len(heads) == 1
        teller = teller_of(for_machines=as_json, full=full or alone, limit=limit or None)
        return await _replay(store, choice, heads, unknown, Moment(at_version, at), teller)


async def _verify(
    store: EventStore, choice: Choice, heads: Sequence[Pointer], unknown: Sequence[Failed], *, as_json: bool
) -> int:
    with printing.progress("events") as show:
        verified = await verifying.verify(store, open_views(store), heads, choice, show)
    if as_json:
        print(printing.as_json({**verifying.as_dict(verified), "failures": [failure(each) for each in unknown]}))
    else:
        print_failures(unknown)
        verifying.print_verified(verified)
    return Code.DONE if verified.clean and not unknown else Code.WRONG


async def _diff(
    store: EventStore,
    choice: Choice,
    heads: Sequence[Pointer],
    unknown: Sequence[Failed],
    moments: tuple[Moment, Moment],
    *,
    as_json: bool,
) -> int:
    names = [head.session_id for head in heads]
    failures, told = list(unknown), []
    async with (
        contextlib.aclosing(replay(store, names, moments[0])) as befores,
        contextlib.aclosing(replay(store, names, moments[1])) as afters,
    ):
        async for before in befores:
            after = await anext(afters)
            if isinstance(before, Failed) or isinstance(after, Failed):
                failures += [each for each in (before, after) if isinstance(each, Failed)][:1]
            elif choice.fits(after.state):
                changed = difference(before, after)
                versions = {"from_version": before.version, "to_version": after.version}
                told.append({"session_id": after.session_id, **versions, **changed})
                if not as_json:
                    print_difference(after.session_id, changed)
    if as_json:
        print(printing.as_json({"sessions": told, "failures": [failure(each) for each in failures]}))
    else:
        print_failures(failures)
    return Code.WRONG if failures else Code.DONE


async def _replay(
    store: EventStore,
    choice: Choice,
    heads: Sequence[Pointer],
    unknown: Sequence[Failed],
    moment: Moment,
    teller: Teller,
) -> int:
    failures, too_short, done, total = list(unknown), 0, 0, sum(head.version for head in heads)
    names = [head.session_id for head in heads]
    with printing.progress("events") as show:
        async with contextlib.aclosing(replay(store, names, moment)) as sessions:
            for head in heads:
                session = await anext(sessions)
                done += head.version
                show(done, total)
                if isinstance(session, Past):
                    if choice.fits(session.state):
                        teller.tell(session)
                elif session.too_short and not choice.names:
                    too_short += 1
                else:
                    failures.append(session)
    teller.end(failures, too_short)
    return Code.WRONG if failures else Code.DONE


if __name__ == "__main__":
    sys.exit(main())
