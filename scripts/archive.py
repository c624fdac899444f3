"""Move the logs of sessions that have ended out of Redis into files, and back.

  run       archive every session that has ended and to which nothing was appended for --idle; or those that are named
  list      which sessions are archived, in which files, and whether these are there
  restore   bring sessions back, so that they need the archive no more

A file is the export of one session, packed: `import.py --check` and `zstdcat` read it, too. It is read back and
compared before anything leaves Redis. Readers, writers and workers go on meanwhile; give them the archive first
(archive=, --archive, or CONTEXTENGINE_ARCHIVE): without it they can tell the state of an archived session, and no more.
A run that was interrupted is simply run again. On a server with roles it needs the role `custodian`.

Exit codes: 0; 1 if a session was not done that should have been, or a file is missing; 2 if it could not begin or had
to stop; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

try:
    import msgspec
    from printing import as_json, printable, progress, table
    from replaying.options import add_store, store_of

    from eventstore import ContextEngineError, CorruptLog, EventStore, UnknownSession
    from projections import open_views
    from projections.archiving import Archivist, Filed, Outcome, Swept
except ImportError as missing:
    sys.exit(f"What an archive needs is not installed here ({missing}). Run: pip install '.[audit]'")

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_REST = 100.0


class Done(msgspec.Struct):
    """What was done.

    Attributes:
        stopped: Why it could not begin, or had to stop.
        sessions: Sessions that were archived, or brought back.
        entry_bytes: The bytes of their entries, as far as they were archived now.
        file_bytes: The bytes of their files.
        not_done: Sessions that were not done, and should have been.
        swept: What stands in the archive beside what logs tell of.
    """

    stopped: str | None = None
    sessions: int = 0
    entry_bytes: int = 0
    file_bytes: int = 0
    not_done: list[Filed] = []
    swept: Swept | None = None

    def note(self, filed: Filed) -> None:
        """Count a session."""
        if filed.outcome in (Outcome.ARCHIVED, Outcome.RESTORED, Outcome.PRESENT):
            self.sessions += filed.outcome is not Outcome.PRESENT
            self.entry_bytes += filed.entry_bytes
            self.file_bytes += filed.file_bytes if filed.outcome is not Outcome.PRESENT else 0
        else:
            self.not_done.append(filed)

    @property
    def clean(self) -> bool:
        """Whether there is no doubt."""
        return not self.not_done and not (self.swept and self.swept.missing)

    def print(self, what: str) -> None:
        """Print it for people."""
        sizes = f", {self.entry_bytes:,} bytes of entries in" if self.entry_bytes else ","
        print(f"{what} {self.sessions:,} sessions{sizes} {self.file_bytes:,} bytes of files.")
        if self.swept is not None:
            print(f"Leftovers: {len(self.swept.deleted):,} deleted, {len(self.swept.left):,} too young to be.")
            for session_id, file in self.swept.missing:
                print(printable(f"MISSING: {file}, the log of {session_id}"))
        if self.not_done:
            table(["not done", "why"], [(f.session_id, f.reason or f.outcome.value) for f in self.not_done])
        if self.stopped is not None:
            print(printable(f"Stopped: {self.stopped} Once that is mended, run it again: it goes on where it was."))


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for, and return the exit code."""
    options, done = _options(arguments), Done()
    try:
        return asyncio.run(_do(options, done))
    except KeyboardInterrupt:
        print("\nStopped. Run it again: it goes on where it was.", file=sys.stderr)
        return 130
    except (ContextEngineError, OSError) as error:
        done.stopped = f"{error}"
    if options.json:
        print(as_json(done))
    else:
        done.print("Did")
    return 2


async def _do(options: argparse.Namespace, done: Done) -> int:
    async with store_of(options) as store:
        archivist = Archivist(store, open_views(store), sealed=options.action == "run" and options.require_sealed)
        if options.action == "list":
            return await _list(store, archivist, options)
        if options.action == "restore":
            await _each(options, done, options.session, archivist.restore)
        else:
            due = options.session or [session_id async for session_id in archivist.due(options.idle)]
            if options.dry_run:
                print(as_json({"due": due}) if options.json else "\n".join(map(printable, due)))
                return 0
            await _each(options, done, due, lambda session_id: archivist.archive(session_id, options.idle))
            if not options.session:  # what went on meanwhile was not asked for by name, and is for the next run
                done.not_done = [f for f in done.not_done if f.outcome not in (Outcome.GONE_ON, Outcome.NOT_DUE)]
            done.swept = await archivist.sweep()
    if options.json:
        print(as_json(done))
    else:
        done.print("Brought back" if options.action == "restore" else "Archived")
    return 0 if done.clean else 1


async def _each(
    options: argparse.Namespace, done: Done, session_ids: Sequence[str], do: Callable[[str], Awaitable[Filed]]
) -> None:
    """Do something to sessions one after the other, with rests. One that is damaged does not stop the others."""
    loop = asyncio.get_running_loop()
    with progress("sessions") as show:
        for number, session_id in enumerate(dict.fromkeys(session_ids), 1):
            began = loop.time()
            try:
                done.note(await do(session_id))
            except (CorruptLog, UnknownSession) as error:
                done.note(Filed(session_id, Outcome.REFUSED, reason=str(error)))
            show(number, len(session_ids))
            await asyncio.sleep(options.rest * (loop.time() - began))


async def _list(store: EventStore, archivist: Archivist, options: argparse.Namespace) -> int:
    found = [each async for each in archivist.archived()]
    assert store.archive is not None  # noqa: S101 - for mypy: the archivist has seen to it
    there = set(await store.archive.names(f"log-{store.namespace}-"))
    missing = [session_id for session_id, archived in found if archived.file not in there]
    if options.json:
        told = [
            {"session_id": session_id, **msgspec.structs.asdict(archived), "there": archived.file in there}
            for session_id, archived in found
        ]
        print(as_json({"sessions": told, "missing": len(missing)}))
    else:
        rows = [
            (
                session_id,
                a.version,
                f"{a.size:,}",
                _time(a.begun_ms),
                a.file if a.file in there else f"MISSING {a.file}",
            )
            for session_id, a in found
        ]
        table(["session", "to version", "bytes", "archived", "file"], rows)
        print(f"{len(found):,} archived, {len(missing):,} missing.", file=sys.stderr)
    return 1 if missing else 0


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")


def _idle(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} should be a time such as 30d, 12h, 45m or 90s")
    return timedelta(seconds=int(found[1]) * UNITS[found[2] or "s"])


def _rest(text: str) -> float:
    rest = float(text)
    if not 0 <= rest <= LONGEST_REST:
        raise argparse.ArgumentTypeError(f"{text!r} should be from 0 to {LONGEST_REST:g}")
    return rest


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    shared = argparse.ArgumentParser(add_help=False)
    add_store(shared)
    shared.add_argument(
        "--rest",
        type=_rest,
        default=1.0,
        metavar="SECONDS",
        help="pause so long for each second of work, for the sake of others (default: %(default)g)",
    )
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", parents=[shared], help="archive sessions")
    run.add_argument("session", nargs="*", metavar="SESSION", help="which (default: all that are due)")
    run.add_argument(
        "--idle",
        type=_idle,
        default=timedelta(days=30),
        metavar="TIME",
        help="leave those alone to which something was appended within 30d, 12h, 45m, 90s ... (default: 30d)",
    )
    run.add_argument(
        "--require-sealed", action="store_true", help="leave those alone that have not been sealed up to their end"
    )
    run.add_argument("--dry-run", action="store_true", help="print which sessions are due, and do nothing")
    actions.add_parser("list", parents=[shared], help="which sessions are archived")
    restore = actions.add_parser("restore", parents=[shared], help="bring sessions back")
    restore.add_argument("session", nargs="+", metavar="SESSION", help="which")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
