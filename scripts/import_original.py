"""Import what the original ContextEngine (aiecs) keeps in Redis: sessions, conversations, checkpoints, task contexts.

The source is only read. What was imported bears its original times. An import that was killed, or met something that
it had to refuse, is simply run again: it does nothing twice. Stop the old application first: a session that changes
afterwards is refused, for it is not what was imported.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

try:
    from importing.copying import Importer
    from importing.reporting import Report, progress
    from importing.source import Source
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    from eventstore import ContextEngineError, UnknownStoreUrl, open_store
    from eventstore.codec import DEFAULT_MAX_EVENT_BYTES
    from eventstore.store import DEFAULT_NAMESPACE
except ImportError as missing:
    sys.exit(f"What scripts need is not installed here ({missing}). Run: pip install '.[scripts]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the import.

    Returns:
        0 if everything that the source holds is in the target; 1 if something was refused; 2 if the import could not
        begin, or had to stop; 130 after Ctrl-C.
    """
    options = _options(arguments)
    report = Report(dry_run=options.dry_run)
    try:
        asyncio.run(_run(options, report))
    except KeyboardInterrupt:
        print("\nStopped. Run it again: it goes on where it was.", file=sys.stderr)
        return 130
    except (ContextEngineError, RedisError, OSError) as error:
        report.stopped = f"{error}"
    print(report.as_json() if options.json else report.as_text())
    if report.stopped is not None:
        return 2
    return 0 if report.complete else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", metavar="URL", required=True, help="the Redis of the original")
    parser.add_argument("--to", dest="target", metavar="URL", required=True, help="as for ContextEngine(...)")
    parser.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="in the target (default: %(default)s)")
    parser.add_argument(
        "--max-event-bytes",
        type=int,
        default=DEFAULT_MAX_EVENT_BYTES,
        metavar="N",
        help="largest message or checkpoint, encoded (default: %(default)s); give your engines the same",
    )
    parser.add_argument("--dry-run", action="store_true", help="append nothing, and tell what would be imported")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args(arguments)


async def _run(options: argparse.Namespace, report: Report) -> None:
    try:
        client = Redis.from_url(options.source, decode_responses=False)
    except ValueError as error:
        raise UnknownStoreUrl(f"The URL of --from cannot be used: {error}") from None
    limit = options.max_event_bytes
    async with (
        client,
        open_store(options.target, namespace=options.namespace, max_event_bytes=limit) as target,
    ):
        importer = Importer(Source(client), target, dry_run=options.dry_run, max_event_bytes=limit)
        with progress() as show:
            async for outcome in importer.run():
                report.take(outcome)
                show(report.streams, importer.streams)


if __name__ == "__main__":
    sys.exit(main())
