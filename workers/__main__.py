"""``python -m workers``: projection workers, or compaction workers, in a process of their own."""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import anyio
import structlog

from eventstore import ContextEngineError, NotPermitted, UnknownStoreUrl, open_store
from eventstore.logs import get_logger
from eventstore.store import DEFAULT_NAMESPACE, EventStore
from projections import open_views
from workers.compaction import CompactionDefaults, CompactionWorker, Compactor, CompressionConfig
from workers.compaction.summarizer import can_write
from workers.following import CLAIM_AFTER, FeedWorker, default_name
from workers.projection import ProjectionWorker

log = get_logger("worker")

DESCRIPTION = """\
Keep the views of a contextengine namespace up to date: read which sessions changed, fold their new events, commit.

Run as many of these as you like, on as many machines as you like: they share the work, and one that dies is replaced by
the others. None of them is needed for correct answers (a reader folds what no worker has folded yet); they make reads
cheap and lists fresh. Log lines are JSON on standard output. SIGTERM or SIGINT: finish what is in hand, then leave.

With --compaction, make long histories shorter instead: the older part of a history that has reached a threshold gives
place to a summary. The log keeps every original.
"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m workers", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--url",
        default=os.environ.get("CONTEXTENGINE_URL") or os.environ.get("REDIS_URL") or "redis://localhost:6379",
        help="redis://, rediss://, unix://, redis+cluster://, redis+sentinel:// or embedded:///directory "
        "(default: CONTEXTENGINE_URL, REDIS_URL, localhost)",
    )
    parser.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="the engine's namespace (default: %(default)s)")
    parser.add_argument("--name", help="this worker's name, unique among its group (default: host and process id)")
    parser.add_argument(
        "--claim-after",
        type=_seconds,
        default=CLAIM_AFTER,
        metavar="SECONDS",
        help="take over what another worker has not finished for so long (default: %(default)g)",
    )
    parser.add_argument(
        "--drain",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="after SIGTERM, give up unfinished work after so long; others take it over (default: %(default)g)",
    )
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    _add_compaction(parser.add_argument_group("compaction"))
    return parser.parse_args(arguments)


def _add_compaction(group: argparse._ArgumentGroup) -> None:
    defaults = CompressionConfig()
    group.add_argument("--compaction", action="store_true", help="compact histories instead of projecting")
    group.add_argument(
        "--strategy", default="summarize", help="truncate, summarize, semantic or hybrid (default: %(default)s)"
    )
    group.add_argument(
        "--threshold",
        type=int,
        default=defaults.auto_compress_threshold,
        metavar="MESSAGES",
        help="compact a history that has reached so many messages (default: %(default)s)",
    )
    group.add_argument(
        "--target", type=int, metavar="MESSAGES", help="to so many at most (default: half of it, 50 at most)"
    )
    group.add_argument(
        "--token-threshold", type=int, metavar="TOKENS", help="compact one that has reached so many tokens, too"
    )
    group.add_argument(
        "--keep-recent",
        type=int,
        default=defaults.keep_recent,
        metavar="MESSAGES",
        help="leave so many of the newest as they are (default: %(default)s)",
    )
    group.add_argument(
        "--timeout",
        type=_seconds,
        default=defaults.compression_timeout,
        metavar="SECONDS",
        help="after so long a model's summary gives place to the built-in summarizer's (default: %(default)g)",
    )
    group.add_argument(
        "--summarizer",
        type=_imported,
        metavar="MODULE:NAME",
        help="an LLM client with generate_text, or an async function from a prompt to a text; "
        "without it the built-in summarizer writes the summaries",
    )


def _imported(text: str) -> Any:
    """Return what stands in a module under a name."""
    module, _, name = text.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} should be MODULE:NAME ({error})") from None
    if isinstance(found, type) or not can_write(found):
        raise argparse.ArgumentTypeError(f"{text!r} is neither an LLM client nor an async function")
    return found


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError("must be a number of seconds from 0")
    return seconds


def configure_logging(level: str) -> None:
    """Write log lines as JSON to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler])


def refuse_memory(url: str) -> None:
    """Refuse a store that no other process can see.

    Raises:
        UnknownStoreUrl: The URL is ``memory://``.
    """
    if url.startswith("memory:"):
        raise UnknownStoreUrl("A worker cannot see another process's memory: use redis:// or embedded:///directory.")


async def serve(options: argparse.Namespace) -> None:
    """Run a worker until a signal asks it to leave."""
    refuse_memory(options.url)
    async with open_store(options.url, namespace=options.namespace) as store:
        await _serve(store, options)


async def _serve(store: EventStore, options: argparse.Namespace) -> None:
    worker = _worker(store, options)
    refused: list[NotPermitted] = []
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:

            async def work() -> None:
                try:
                    await worker.run()
                except NotPermitted as error:
                    refused.append(error)
                tasks.cancel_scope.cancel()

            tasks.start_soon(work)
            async for signum in signals:
                log.info("Draining.", action="worker_draining", signal=signal.Signals(signum).name)
                tasks.cancel_scope.deadline = anyio.current_time() + options.drain
                await worker.stop()
    if refused:
        raise refused[0]


def _worker(store: EventStore, options: argparse.Namespace) -> FeedWorker:
    name, views = options.name or default_name(), open_views(store)
    if not options.compaction:
        return ProjectionWorker(store, views, name=name, claim_after=options.claim_after)
    config = CompressionConfig(
        strategy=options.strategy,
        keep_recent=options.keep_recent,
        auto_compress_enabled=True,
        auto_compress_threshold=options.threshold,
        auto_compress_target=options.target,
        auto_compress_token_threshold=options.token_threshold,
        compression_timeout=options.timeout,
    )
    compactor = Compactor(store, views, CompactionDefaults(config, options.summarizer))
    return CompactionWorker(store, compactor, name=name, claim_after=options.claim_after)


def main() -> int:
    """Run, and return the exit code: 0 after a signal, 1 if the store could not be opened, or may not be worked on."""
    options = parse()
    configure_logging(options.log_level)
    try:
        anyio.run(serve, options)
    except ContextEngineError as error:
        log.error("Cannot work.", action="worker_failed", error=f"{type(error).__name__}: {error}")  # noqa: TRY400
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
