"""Import what the original ContextEngine (aiecs) keeps in Redis: sessions, conversations, checkpoints, task contexts.

The source is only read. What was imported bears its original times. An import that was killed, or met something that
it had to refuse, is simply run again: it does nothing twice. Stop the old application first: a session that changes
afterwards is refused, for it is not what was imported.

Exit codes: 0 if everything that the source holds is in the target; 1 if something was refused; 2 if the import could
not begin, or had to stop; 130 after Ctrl-C.
"""

from __future__ import annotations

import sys
from typing import Annotated

try:
    import typer
    from command import Code, Script
    from importing.copying import Importer
    from importing.reporting import Report, progress
    from importing.source import Source
    from options import Json, Namespace
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    from eventstore import ContextEngineError, UnknownStoreUrl, open_store
    from eventstore.codec import DEFAULT_MAX_EVENT_BYTES
    from eventstore.store import DEFAULT_NAMESPACE
except ImportError as missing:
    sys.exit(f"What scripts need is not installed here ({missing}). Run: pip install '.[scripts]'")

main = Script(__doc__, interrupted="Run it again: it goes on where it was.")


@main.command
async def import_original(
    *,
    source: Annotated[str, typer.Option("--from", metavar="URL", help="the Redis of the original")],
    target: Annotated[str, typer.Option("--to", metavar="URL", help="as for ContextEngine(...)")],
    namespace: Namespace = DEFAULT_NAMESPACE,
    max_event_bytes: Annotated[
        int,
        typer.Option(metavar="N", help="largest message or checkpoint, encoded; give your engines the same"),
    ] = DEFAULT_MAX_EVENT_BYTES,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="append nothing, and tell what would be imported")] = False,
    as_json: Json = False,
) -> int:
    """Import, and report what has become of everything."""
    report = Report(dry_run=dry_run)
    try:
        async with (
            _client(source) as client,
            open_store(target, namespace=namespace, max_event_bytes=max_event_bytes) as store,
        ):
            importer = Importer(Source(client), store, dry_run=dry_run, max_event_bytes=max_event_bytes)
            with progress() as show:
                async for outcome in importer.run():
                    report.take(outcome)
                    show(report.streams, importer.streams)
    except (ContextEngineError, RedisError, OSError) as error:
        report.stopped = str(error)
    print(report.as_json() if as_json else report.as_text())
    if report.stopped is not None:
        return Code.STOPPED
    return Code.DONE if report.complete else Code.WRONG


def _client(url: str) -> Redis:
    """Return a client of the original's Redis.

    Raises:
        UnknownStoreUrl: The URL cannot be used.
    """
    try:
        return Redis.from_url(url, decode_responses=False)
    except ValueError as error:
        raise UnknownStoreUrl(f"The URL of --from cannot be used: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
