"""Build all views anew from the logs, beside those that live, and switch to them in one step. Nobody has to stop.

Writers, readers and workers go on. A rebuild that was interrupted is simply run again: it goes on where it was. The old
views stay until they are dropped, with --drop-old after the switch, or later with --drop-only. After a change of the
folds, run this with the new code first, then replace the old processes; both are right meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import sys
from collections.abc import Sequence

try:
    import msgspec
    from printing import as_json, progress, shown, table
    from replaying.options import add_store, store_of

    from eventstore import ContextEngineError, EventStore
    from projections import ViewStore, open_views
    from projections.rebuilding import Building, drop_old, rebuild
except ImportError as missing:
    sys.exit(f"What scripts need is not installed here ({missing}). Run: pip install '.[scripts]'")

LONGEST_REST = 100.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild.

    Returns:
        0 if the new views live (and the old ones are dropped, if that was asked for); 1 if they were not switched to,
        because sessions cannot be folded that could be before; 2 if it could not begin, or had to stop; 130 after
        Ctrl-C.
    """
    options = _options(arguments)
    gc.freeze()
    done = Done()
    try:
        asyncio.run(_run(options, done))
    except KeyboardInterrupt:
        print("\nStopped. Run it again: it goes on where it was.", file=sys.stderr)
        return 130
    except (ContextEngineError, OSError) as error:
        done.stopped = f"{error}"
    if options.json:
        print(as_json(done))
    else:
        done.print()
    if done.stopped is not None:
        return 2
    return 0 if options.drop_only or (done.built is not None and done.built.phase == "switched") else 1


class Done(msgspec.Struct):
    """What was done.

    Attributes:
        built: The last that was heard of the rebuild; None if nothing was built.
        dropped: Of how many sessions old views were dropped; None if that was not asked for.
        stopped: Why it could not begin, or had to stop.
    """

    built: Building | None = None
    dropped: int | None = None
    stopped: str | None = None

    def print(self) -> None:
        """Print it for people."""
        if self.built is not None:
            built = self.built
            what = {"switched": "The new views live", "refused": "NOT SWITCHED"}.get(built.phase, "NOT FINISHED")
            print(f"{what}: {built.sessions:,} sessions, {built.events:,} events.")
            if built.unfoldable:
                table(
                    ["cannot be folded", "version", "why"],
                    [(p.session_id, p.version, p.reason) for p in built.unfoldable],
                )
            elif built.phase == "refused":
                print("Somebody has dropped what was built. Run it again.")
        if self.dropped is not None:
            print(f"Views of old were dropped: of {self.dropped:,} sessions.")
        if self.stopped is not None:
            print(f"Stopped: {shown(self.stopped)} Once that is mended, run it again: it goes on where it was.")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drop-old", action="store_true", help="drop the old views once the new ones live")
    parser.add_argument("--drop-only", action="store_true", help="build nothing; drop all views but those that live")
    parser.add_argument("--anew", action="store_true", help="do not go on with a rebuild that was interrupted")
    parser.add_argument(
        "--accept-parked", action="store_true", help="switch even if sessions cannot be folded that could be before"
    )
    parser.add_argument(
        "--rest",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="pause so long for each second of work, for the sake of others (default: %(default)g)",
    )
    add_store(parser)
    options = parser.parse_args(arguments)
    if not 0 <= options.rest <= LONGEST_REST:
        parser.error(f"--rest must be from 0 to {LONGEST_REST:g}")
    return options


async def _run(options: argparse.Namespace, done: Done) -> None:
    async with store_of(options) as store:
        views = open_views(store)
        if not options.drop_only:
            await _build(store, views, options, done)
        if options.drop_only or (options.drop_old and done.built is not None and done.built.phase == "switched"):
            done.dropped = await drop_old(store, views)


async def _build(store: EventStore, views: ViewStore, options: argparse.Namespace, done: Done) -> None:
    with progress("events") as show:
        building = rebuild(store, views, anew=options.anew, accept_parked=options.accept_parked, rest=options.rest)
        async with contextlib.aclosing(building) as steps:
            async for step in steps:
                done.built = step
                show(step.events, step.of_events)


if __name__ == "__main__":
    sys.exit(main())
