"""The options that scripts share, and the values that they name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from eventstore import UnknownStoreUrl, open_store
from eventstore.archive.places import ARCHIVE_VARIABLE
from eventstore.opening import Opening
from projections.replaying import Moment

LOCAL = "redis://localhost:6379"


def store_of(url: str, namespace: str, archive: str | None = None, *, create: bool = False) -> Opening:
    """Return the store that the options name. By default a namespace that does not exist is an error.

    Raises:
        UnknownStoreUrl: It is one that no other process can see, or none.
    """
    if url.startswith("memory:"):
        raise UnknownStoreUrl("A script cannot see another process's memory: use redis:// or embedded:///directory.")
    return open_store(url, namespace=namespace, archive=archive, create=create)


def time_of(text: str) -> datetime:
    """Return a time in ISO 8601; without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} should be a time such as 2026-01-31T12:00:00") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def moment_of(text: str) -> Moment:
    """Return a moment: a version if it is a number, else a time; ``now`` is now."""
    if text == "now":
        return Moment()
    return Moment(version=int(text)) if text.isascii() and text.isdigit() else Moment(time=time_of(text))


Url = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar=["CONTEXTENGINE_URL", "REDIS_URL"],
        help="redis://, rediss://, unix:// or embedded:///directory, as for ContextEngine",
    ),
]
"""Where the store is; by default LOCAL."""

Namespace = Annotated[str, typer.Option(metavar="NAME", help="the engine's namespace")]
"""Of which namespace; by default DEFAULT_NAMESPACE."""

Archive = Annotated[
    str | None,
    typer.Option(metavar="URL", help=f"file:///directory with the archived logs (default: {ARCHIVE_VARIABLE})"),
]
"""Where the archived logs are."""

Json = Annotated[bool, typer.Option("--json", help="print one JSON object for machines")]
"""For whom to print; its parameter is `as_json`."""

Sessions = Annotated[list[str] | None, typer.Argument(metavar="SESSION", help="which sessions", show_default=False)]
"""Which sessions."""

Rest = Annotated[
    float,
    typer.Option(
        min=0,
        max=100,
        metavar="SECONDS",
        help="pause so long for each second of work, for the sake of others",
    ),
]
"""How much of the time to leave to others."""
