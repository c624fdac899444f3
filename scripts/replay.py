"""Replay sessions from the log: as they were at any version or time, what changed in between, and whether views drift.

  replay.py SESSION                          the session, its history and its context, as they are
  replay.py SESSION --at 2026-01-31T12:00    ... as they were then (--at-version 17: at that version)
  replay.py SESSION --diff 10 now            what changed between two versions or times
  replay.py --match 'user-*' --user ann      many at once, a line each (--full: all of each)
  replay.py --verify                         hold every view against the fold of its log, by session and field

It only reads, and may run beside a store that is in use.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fnmatch
import gc
import sys
from collections.abc import Sequence

try:
    from printing import as_json, progress, shown
    from replaying.options import add_store, moment_of, store_of, time_of, version_of
    from replaying.telling import failure, print_difference, print_failures, teller_of
    from replaying.verifying import as_dict, print_verified, verify

    from eventstore import ContextEngineError, EventStore
    from eventstore.feed import Pointer
    from projections import SessionState, open_views
    from projections.past import Past, milliseconds
    from projections.replaying import Failed, Moment, difference, replay
except ImportError as missing:
    sys.exit(f"What scripts need is not installed here ({missing}). Run: pip install '.[scripts]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay.

    Returns:
        0 if all is well; 1 if a view drifts, a session is parked, unknown or cannot be replayed; 2 if it could not
        begin, or had to stop; 130 after Ctrl-C.
    """
    options = _options(arguments)
    gc.freeze()
    gc.disable()  # what is folded holds no cycles, and looking for them costs a fifth of the time
    try:
        return asyncio.run(_run(options))
    except KeyboardInterrupt:
        return 130
    except (ContextEngineError, OSError) as error:
        print(as_json({"stopped": f"{error}"}) if options.json else f"Stopped: {shown(f'{error}')}")
        return 2


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_argument_group("which sessions")
    which.add_argument("sessions", nargs="*", metavar="SESSION", help="session ids")
    which.add_argument("--all", action="store_true", help="all sessions (the default of --verify)")
    which.add_argument("--match", metavar="GLOB", help="sessions whose ids match, such as 'user-*'")
    which.add_argument("--user", help="sessions of this user")
    which.add_argument("--since", type=time_of, metavar="TIME", help="sessions that were active at this time or later")
    which.add_argument("--until", type=time_of, metavar="TIME", help="sessions that had begun by this time")
    when = parser.add_argument_group("to which moment").add_mutually_exclusive_group()
    when.add_argument("--at-version", type=version_of, metavar="N", help="as it was at this version of its log")
    when.add_argument(
        "--at", type=time_of, metavar="TIME", help="as it was at this time (ISO 8601; UTC without a zone)"
    )
    when.add_argument(
        "--diff", nargs=2, type=moment_of, metavar="MOMENT", help="what changed between two versions or times"
    )
    when.add_argument("--verify", action="store_true", help="compare the views with the log, each at its own version")
    how = parser.add_argument_group("how")
    how.add_argument("--full", action="store_true", help="print all of each session, however many there are")
    how.add_argument("--limit", type=version_of, default=50, metavar="N", help="newest messages (default: 50; 0: all)")
    add_store(how)
    options = parser.parse_args(arguments)
    if not (options.sessions or options.all or options.match or options.user or options.since or options.until):
        if not options.verify:
            parser.error("name sessions, or choose them with --match, --user, --since, --until or --all")
        options.all = True
    return options


async def _run(options: argparse.Namespace) -> int:
    async with store_of(options) as store:
        heads = await _heads(store, options)
        unknown = [Failed(head.session_id, "There is no such session.") for head in heads if not head.version]
        heads = [head for head in heads if head.version]
        if options.verify:
            return await _verify(store, heads, unknown, options)
        if options.diff:
            return await _diff(store, heads, unknown, options)
        return await _replay(store, heads, unknown, options)


async def _heads(store: EventStore, options: argparse.Namespace) -> list[Pointer]:
    """Return the sessions that are chosen by their ids, with the versions of their logs: 0 of one that is not there."""
    if options.sessions:
        names = list(dict.fromkeys(options.sessions))
        versions = await asyncio.gather(*map(store.version, names))
        return [Pointer(name, version, version) for name, version in zip(names, versions, strict=True)]
    pattern = options.match or "*"
    return sorted([head async for head in store.heads() if fnmatch.fnmatchcase(head.session_id, pattern)])


def _wanted(options: argparse.Namespace, state: SessionState) -> bool:
    """Whether a session is chosen by what it is."""
    return (
        options.user in (None, state.user_id)
        and (options.since is None or state.active_ms >= milliseconds(options.since))
        and (options.until is None or 0 < state.created_ms <= milliseconds(options.until))
    )


async def _verify(
    store: EventStore, heads: Sequence[Pointer], unknown: Sequence[Failed], options: argparse.Namespace
) -> int:
    with progress("events") as show:
        everything = options.all and not (options.user or options.since or options.until or options.match)
        verified = await verify(
            store,
            open_views(store),
            heads,
            show,
            wanted=lambda state: _wanted(options, state),
            everything=everything and not options.sessions,
        )
    if options.json:
        print(as_json({**as_dict(verified), "failures": [failure(each) for each in unknown]}))
    else:
        print_failures(unknown)
        print_verified(verified)
    return 0 if verified.clean and not unknown else 1


async def _diff(
    store: EventStore, heads: Sequence[Pointer], unknown: Sequence[Failed], options: argparse.Namespace
) -> int:
    names = [head.session_id for head in heads]
    failures, told = list(unknown), []
    async with (
        contextlib.aclosing(replay(store, names, options.diff[0])) as befores,
        contextlib.aclosing(replay(store, names, options.diff[1])) as afters,
    ):
        async for before in befores:
            after = await anext(afters)
            if isinstance(before, Failed) or isinstance(after, Failed):
                failures += [each for each in (before, after) if isinstance(each, Failed)][:1]
            elif _wanted(options, after.state):
                changed = difference(before, after)
                versions = {"from_version": before.version, "to_version": after.version}
                told.append({"session_id": after.session_id, **versions, **changed})
                if not options.json:
                    print_difference(after.session_id, changed)
    if options.json:
        print(as_json({"sessions": told, "failures": [failure(each) for each in failures]}))
    else:
        print_failures(failures)
    return 1 if failures else 0


async def _replay(
    store: EventStore, heads: Sequence[Pointer], unknown: Sequence[Failed], options: argparse.Namespace
) -> int:
    failures, too_short, done, total = list(unknown), 0, 0, sum(head.version for head in heads)
    teller = teller_of(for_machines=options.json, full=options.full or len(options.sessions) == len(heads) == 1)
    names, moment = [head.session_id for head in heads], Moment(options.at_version, options.at)
    with progress("events") as show:
        async with contextlib.aclosing(replay(store, names, moment)) as sessions:
            for head in heads:
                session = await anext(sessions)
                done += head.version
                show(done, total)
                if isinstance(session, Past):
                    if _wanted(options, session.state):
                        teller.tell(session, options.limit or None)
                elif session.too_short and not options.sessions:
                    too_short += 1
                else:
                    failures.append(session)
    teller.end(failures, too_short)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
