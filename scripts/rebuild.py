"""Build all views anew from the logs, beside those that live, and switch to them in one step. Nobody has to stop.

Writers, readers and workers go on. A rebuild that was interrupted is simply run again: it goes on where it was. The old
views stay until they are dropped, with --drop-old after the switch, or later with --drop-only. After a change of the
folds, run this with the new code first, then replace the old processes; both are right meanwhile.

Exit codes: 0 if the new views live (and the old ones are dropped, if that was asked for); 1 if they were not switched
to, because sessions cannot be folded that could be before; 2 if it could not begin, or had to stop; 130 after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import Annotated

try:
    import msgspec
    import printing
    import typer
    from command import Code, Script
    from options import LOCAL, Archive, Json, Namespace, Rest, Url, store_of

    from eventstore import ContextEngineError
    from eventstore.store import DEFAULT_NAMESPACE
    from projections import open_views, rebuilding
    from projections.rebuilding import Building
except ImportError as missing:
    sys.exit(f"What scripts need is not installed here ({missing}). Run: pip install '.[scripts]'")

main = Script(__doc__, interrupted="Run it again: it goes on where it was.")


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

    @property
    def switched(self) -> bool:
        """Whether the new views live."""
        return self.built is not None and self.built.phase == "switched"

    def print(self) -> None:
        """Print it for people."""
        if self.built is not None:
            built = self.built
            what = {"switched": "The new views live", "refused": "NOT SWITCHED"}.get(built.phase, "NOT FINISHED")
            print(f"{what}: {built.sessions:,} sessions, {built.events:,} events.")
            if built.unfoldable:
                printing.table(
                    ["cannot be folded", "version", "why"],
                    [(p.session_id, p.version, p.reason) for p in built.unfoldable],
                )
            elif built.phase == "refused":
                print("Somebody has dropped what was built. Run it again.")
        if self.dropped is not None:
            print(f"Views of old were dropped: of {self.dropped:,} sessions.")
        if self.stopped is not None:
            print(
                f"Stopped: {printing.shown(self.stopped)} Once that is mended, run it again: it goes on where it was."
            )


@main.command
async def rebuild(
    *,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="drop the old views once the new ones live")] = False,
    drop_only: Annotated[
        bool, typer.Option("--drop-only", help="build nothing; drop all views but those that live")
    ] = False,
    anew: Annotated[bool, typer.Option("--anew", help="do not go on with a rebuild that was interrupted")] = False,
    accept_parked: Annotated[
        bool, typer.Option("--accept-parked", help="switch even if sessions cannot be folded that could be before")
    ] = False,
    rest: Rest = 0.0,
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: Archive = None,
    as_json: Json = False,
) -> int:
    """Build the views, drop those of old, or both."""
    gc.freeze()
    done = Done()
    try:
        async with store_of(url, namespace, archive) as store:
            views = open_views(store)
            if not drop_only:
                building = rebuilding.rebuild(store, views, anew=anew, accept_parked=accept_parked, rest=rest)
                with printing.progress("events") as show:
                    async with contextlib.aclosing(building) as steps:
                        async for step in steps:
                            done.built = step
                            show(step.events, step.of_events)
            if drop_only or (drop_old and done.switched):
                done.dropped = await rebuilding.drop_old(store, views)
    except (ContextEngineError, OSError) as error:
        done.stopped = str(error)
    if as_json:
        print(printing.as_json(done))
    else:
        done.print()
    if done.stopped is not None:
        return Code.STOPPED
    return Code.DONE if drop_only or done.switched else Code.WRONG


if __name__ == "__main__":
    sys.exit(main())
