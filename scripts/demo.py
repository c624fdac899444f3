"""Record a few dozen agent conversations, kill the server and the worker, start them again: nothing is missing.

Needs nothing that runs already: it starts a server and a worker in a directory of their own, and takes everything away
again at the end, after Ctrl-C too. With --dir the data stays, to look at.

Exit codes: 0 if nothing is missing; 1 if something is, or something went wrong; 2 if the input cannot be recorded; 128
and the signal's number after a signal.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

try:
    import anyio
    import typer
    from command import Code, Script
    from demonstration import DemoFailed, counted, showing
    from demonstration.comparing import Kept, read_all, require_originals, require_recorded, require_unchanged
    from demonstration.input import EXAMPLES, SESSIONS, BadInput, Conversation, read
    from demonstration.processes import Pair, running
    from demonstration.recording import Tally, record_all
    from rich.console import Console
    from stopping import until_signal

    from contextengine import CompressionConfig, ContextEngine, ContextEngineError
    from eventstore import open_store
    from eventstore.redis.keys import Keys
except ImportError as missing:
    sys.exit(f"The demo is not installed yet ({missing}). Run: make demo")

TALKING = 3.0
"""Seconds that the longest conversation takes on a terminal, so that there is something to watch."""
KEPT, SUMMARY = 6, 150
"""Messages that stay as they are, and tokens of the summary, when a history is made shorter."""
WIDTH = 100
"""Of the output, where no terminal says how wide it is."""

main = Script(__doc__)


@main.command
def demo(
    *,
    path: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="FILE.jsonl",
            show_default=EXAMPLES.name,
            help="your own conversations, one JSON object a line: conversations (session_id, messages), the messages "
            "of one conversation (role, content), or a chat log (author, content, channel)",
        ),
    ] = EXAMPLES,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIRECTORY", help="keep the data here (default: a temporary directory, deleted)"),
    ] = None,
    sessions: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="how many conversations to record: the first N of the file, repeated under other ids if it has fewer "
            f"(default: all of them, and at least {SESSIONS} unless they are long)",
        ),
    ] = None,
) -> int:
    """Run the demo."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH, highlight=False)
    try:
        conversations = read(path, sessions)
        _require_empty(directory)
    except BadInput as error:
        print(error, file=sys.stderr)
        return Code.STOPPED
    return anyio.run(until_signal, lambda: _reported(lambda: _demo(out, conversations, path, directory)))


def _require_empty(directory: Path | None) -> None:
    """Refuse a directory that holds something.

    Raises:
        BadInput: It does, or it is none.
    """
    try:
        if directory and directory.exists() and any(directory.iterdir()):
            raise BadInput(
                f"{directory} is not empty: give --dir a new directory, so that nothing of yours is touched."
            )
    except OSError as error:
        raise BadInput(f"{directory} cannot be used: {error.strerror}.") from error


async def _reported(run: Callable[[], Awaitable[None]]) -> int:
    """Run, and return the exit code, after saying what went wrong."""
    code = Code.WRONG
    try:
        await run()
        code = Code.DONE
    except* (DemoFailed, ContextEngineError) as errors:
        print(f"The demo failed: {_first_of(errors)}", file=sys.stderr)
    except* SystemExit:
        pass  # rich raises it when nobody reads the output any more
    return code


def _first_of(errors: BaseExceptionGroup[Exception]) -> Exception:
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def _demo(out: Console, conversations: list[Conversation], path: Path, wanted: Path | None) -> None:
    with _directory(wanted) as directory:
        showing.title(out)
        showing.headline(out, 1, "Start a server and a worker, each in a process of its own")
        async with running(directory, "worker-1") as pair:
            showing.started(out, pair)
            before, log = await _first_life(out, pair, conversations, path)
        showing.headline(out, 5, "Start them again on the same directory, and compare everything")
        async with running(directory, "worker-2") as pair:
            showing.started(out, pair)
            async with ContextEngine(pair.server.url, workers=False) as engine:
                after = await read_all(engine, [session.session_id for session in await engine.list_sessions()])
                require_unchanged(before, after)
                showing.nothing_missing(out, after)
                showing.headline(out, 6, "Make a history shorter, and read the originals nevertheless")
                await _compact(out, engine, showing.longest(after))
    showing.headline(out, 7, "What next")
    showing.what_next(out, log, wanted, path)


async def _compact(out: Console, engine: ContextEngine, kept: Kept) -> None:
    """Have the built-in summarizer make the longest history shorter, and look for every original behind it."""
    session_id = kept.session.session_id
    config = CompressionConfig(strategy="summarize", keep_recent=KEPT, summary_max_tokens=SUMMARY)
    report = await engine.compress_conversation(session_id, config_override=config)
    history = await engine.get_conversation_history(session_id, limit=None)
    originals = await engine.get_conversation_history(session_id, limit=None, include_compacted=True)
    require_originals(kept, originals)
    showing.compacted(out, session_id, report, history, originals)


def _directory(wanted: Path | None) -> AbstractContextManager[str]:
    """Give a directory for the data: the wanted one, which stays, or a temporary one, which does not."""
    if wanted is not None:
        return contextlib.nullcontext(str(wanted.absolute()))
    return tempfile.TemporaryDirectory(prefix="contextengine-demo-", ignore_cleanup_errors=True)


async def _first_life(
    out: Console, pair: Pair, conversations: list[Conversation], path: Path
) -> tuple[dict[str, Kept], str]:
    """Record, read everything back, show one session, kill. Return what there was, and the key of the log shown."""
    url = pair.server.url
    async with ContextEngine(url, workers=False) as engine, open_store(url) as store:
        showing.headline(out, 2, f"Record {counted(len(conversations), 'conversation')} at once")
        showing.source(out, conversations, path)
        tally = Tally.of(conversations)
        with showing.progress(out, tally):
            await record_all(engine, store, conversations, pair, tally, talking=TALKING if out.is_terminal else 0)
        kept = await read_all(engine, [conversation.session_id for conversation in conversations])
        require_recorded(conversations, kept)
        showing.headline(out, 3, "Read one of them back")
        shown = showing.most_telling(kept)
        await showing.session(out, store, shown)
        showing.headline(out, 4, "Kill both: kill -9, without warning")
        await pair.kill()
    showing.killed(out, pair)
    keys = Keys(store.namespace, store.partitions)
    return kept, keys.of_session(b"log", shown.session.session_id.encode()).decode()


if __name__ == "__main__":
    sys.exit(main())
