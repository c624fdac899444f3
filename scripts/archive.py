"""Move the logs of sessions that have ended out of Redis into files, and back.

  run       archive every session that has ended and to which nothing was appended for --idle; or those that are named
  list      which sessions are archived, in which files, and whether these are there and as long as they were
  restore   bring sessions back, so that they need the archive no more

A file is the export of one session, packed: `import.py --check` and `zstdcat` read it, too. It is read back and
compared before anything leaves Redis. Readers, writers and workers go on meanwhile; give them the archive first
(archive=, --archive, or CONTEXTENGINE_ARCHIVE): without it they can tell the state of an archived session, and no more.
A run that was interrupted is simply run again. On a server with roles it needs the role `custodian`.

Exit codes: 0; 1 if a session was not done that should have been, or a file is missing or of another length;
2 if it could not begin or had to stop; 130 after Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

try:
    import msgspec
    import printing
    import typer
    from command import Code, Script
    from options import LOCAL, Archive, Json, Namespace, Rest, Url, store_of
    from printing import printable

    from eventstore import ContextEngineError, CorruptLog, UnknownSession
    from eventstore.archive.places import size_of
    from eventstore.rawlog import Archived
    from eventstore.store import DEFAULT_NAMESPACE
    from projections import open_views
    from projections.archiving import Archivist, Filed, Outcome, Swept
except ImportError as missing:
    sys.exit(f"What an archive needs is not installed here ({missing}). Run: pip install '.[audit]'")

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

main = Script(__doc__, interrupted="Run it again: it goes on where it was.")


def _idle(given: str | timedelta) -> timedelta:
    """Return a time that is given in seconds, minutes, hours or days."""
    if isinstance(given, timedelta):  # the default
        return given
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", given)
    if not found:
        raise typer.BadParameter(f"{given!r} should be a time such as 30d, 12h, 45m or 90s")
    return timedelta(seconds=int(found[1]) * UNITS[found[2] or "s"])


@main.command
async def run(
    session: Annotated[
        list[str] | None,
        typer.Argument(metavar="SESSION", help="which (default: all that are due)", show_default=False),
    ] = None,
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: Archive = None,
    idle: Annotated[
        timedelta,
        typer.Option(
            parser=_idle,
            metavar="TIME",
            help="leave those alone to which something was appended within 30d, 12h, 45m, 90s ...",
            show_default="30d",
        ),
    ] = timedelta(days=30),
    require_sealed: Annotated[
        bool,
        typer.Option("--require-sealed", help="leave those alone that have not been sealed up to their end"),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print which sessions are due, and do nothing")] = False,
    rest: Rest = 1.0,
    as_json: Json = False,
) -> int:
    """Archive sessions."""
    done = Done()
    with done.noting_what_stops():
        async with store_of(url, namespace, archive) as store:
            archivist = Archivist(store, open_views(store), sealed=require_sealed)
            due = session or [session_id async for session_id in archivist.due(idle)]
            if dry_run:
                print(printing.as_json({"due": due}) if as_json else "\n".join(map(printable, due)))
                return Code.DONE
            await _each(due, lambda session_id: archivist.archive(session_id, idle), done, rest)
            if not session:  # what went on meanwhile was not asked for by name, and is for the next run
                done.not_done = [f for f in done.not_done if f.outcome not in (Outcome.GONE_ON, Outcome.NOT_DUE)]
            done.swept = await archivist.sweep()
    return done.tell("Archived", as_json=as_json)


@main.command
async def restore(
    session: Annotated[list[str], typer.Argument(metavar="SESSION", help="which")],
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: Archive = None,
    rest: Rest = 1.0,
    as_json: Json = False,
) -> int:
    """Bring sessions back."""
    done = Done()
    with done.noting_what_stops():
        async with store_of(url, namespace, archive) as store:
            await _each(session, Archivist(store, open_views(store)).restore, done, rest)
    return done.tell("Brought back", as_json=as_json)


@main.command
async def list_(
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: Archive = None,
    as_json: Json = False,
) -> int:
    """List which sessions are archived."""
    async with store_of(url, namespace, archive) as store:
        found = [each async for each in Archivist(store, open_views(store)).archived()]
        assert store.archive is not None  # noqa: S101 - for mypy: the archivist has seen to it
        names = set(await store.archive.names(f"log-{store.namespace}-"))
        files = {archived.file for _, archived in found} & names
        sizes = {file: await size_of(store.archive, file) for file in files}
    missing = sum(sizes.get(archived.file) is None for _, archived in found)
    wrong = sum(sizes.get(archived.file) != archived.size for _, archived in found)
    if as_json:
        told = [
            {"session_id": session_id, **msgspec.structs.asdict(archived), "there": size is not None, "found": size}
            for session_id, archived in found
            for size in (sizes.get(archived.file),)
        ]
        print(printing.as_json({"sessions": told, "missing": missing}))
    else:
        rows = [
            (
                session_id,
                a.version,
                f"{a.size:,}",
                datetime.fromtimestamp(a.begun_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds"),
                _found(a, sizes.get(a.file)),
            )
            for session_id, a in found
        ]
        printing.table(["session", "to version", "bytes", "archived", "file"], rows)
        print(f"{len(found):,} archived, {missing:,} missing, {wrong - missing:,} damaged.", file=sys.stderr)
    return Code.WRONG if wrong else Code.DONE


def _found(archived: Archived, size: int | None) -> str:
    """Return the name of a file, and what is wrong with it, given its size now."""
    if size is None:
        return f"MISSING {archived.file}"
    return archived.file if size == archived.size else f"DAMAGED, {size:,} bytes: {archived.file}"


async def _each(session_ids: Sequence[str], do: Callable[[str], Awaitable[Filed]], done: Done, rest: float) -> None:
    """Do something to sessions one after the other, with rests. One that is damaged does not stop the others."""
    loop = asyncio.get_running_loop()
    with printing.progress("sessions") as show:
        for number, session_id in enumerate(dict.fromkeys(session_ids), 1):
            began = loop.time()
            try:
                done.note(await do(session_id))
            except (CorruptLog, UnknownSession) as error:
                done.note(Filed(session_id, Outcome.REFUSED, reason=str(error)))
            show(number, len(session_ids))
            await asyncio.sleep(rest * (loop.time() - began))


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

    @contextlib.contextmanager
    def noting_what_stops(self) -> Iterator[None]:
        """Note why what is done within could not begin, or had to stop."""
        try:
            yield
        except (ContextEngineError, OSError) as error:
            self.stopped = str(error)

    def tell(self, what: str, *, as_json: bool) -> Code:
        """Print it for machines or for people. Return the exit code."""
        if as_json:
            print(printing.as_json(self))
        else:
            self._print(what)
        return Code.STOPPED if self.stopped is not None else Code.DONE if self.clean else Code.WRONG

    def _print(self, what: str) -> None:
        sizes = f", {self.entry_bytes:,} bytes of entries in" if self.entry_bytes else ","
        print(f"{what} {self.sessions:,} sessions{sizes} {self.file_bytes:,} bytes of files.")
        if self.swept is not None:
            print(f"Leftovers: {len(self.swept.deleted):,} deleted, {len(self.swept.left):,} too young to be.")
            for session_id, file in self.swept.missing:
                print(printable(f"MISSING: {file}, the log of {session_id}"))
        if self.not_done:
            printing.table(["not done", "why"], [(f.session_id, f.reason or f.outcome.value) for f in self.not_done])
        if self.stopped is not None:
            print(printable(f"Stopped: {self.stopped} Once that is mended, run it again: it goes on where it was."))


if __name__ == "__main__":
    sys.exit(main())
