"""The options that these scripts share."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime

from eventstore import UnknownStoreUrl, open_store
from eventstore.archive.places import ARCHIVE_VARIABLE
from eventstore.opening import Opening
from eventstore.store import DEFAULT_NAMESPACE
from projections.replaying import Moment

URL = os.environ.get("CONTEXTENGINE_URL") or os.environ.get("REDIS_URL") or "redis://localhost:6379"


def add_store(parser: argparse._ActionsContainer) -> None:
    """Add where the store is, and for whom to print."""
    parser.add_argument(
        "--url", default=URL, help="as for ContextEngine (default: CONTEXTENGINE_URL, REDIS_URL, localhost)"
    )
    parser.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="the engine's namespace (default: %(default)s)")
    parser.add_argument(
        "--archive", metavar="URL", help=f"file:///directory with the archived logs (default: {ARCHIVE_VARIABLE})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for machines")


def store_of(options: argparse.Namespace) -> Opening:
    """Return the store that the options name.

    Raises:
        UnknownStoreUrl: It is one that no other process can see, or none.
    """
    if options.url.startswith("memory:"):
        raise UnknownStoreUrl("A script cannot see another process's memory: use redis:// or embedded:///directory.")
    return open_store(options.url, namespace=options.namespace, archive=options.archive)


def time_of(text: str) -> datetime:
    """Return a time in ISO 8601; without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} should be a time such as 2026-01-31T12:00:00") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def version_of(text: str) -> int:
    """Return a version."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} should be a version: a whole number from 0")
    return int(text)


def moment_of(text: str) -> Moment:
    """Return a moment: a version if it is a number, else a time; ``now`` is now."""
    if text == "now":
        return Moment()
    return Moment(version=int(text)) if text.isascii() and text.isdigit() else Moment(time=time_of(text))
