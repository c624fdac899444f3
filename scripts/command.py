"""The command line of a script: one command or several, how they are run, and what their exit codes mean.

Scripts have typer. `python -m workers` keeps to argparse: what is installed with the core stays small.
"""

from __future__ import annotations

import enum
import functools
import inspect
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TextIO, TypeVar

import anyio
import typer
from printing import printable

from eventstore import ContextEngineError

WIDTH = 120
Command = TypeVar("Command", bound=Callable[..., int] | Callable[..., Awaitable[int]])


class Code(enum.IntEnum):
    """Exit codes. Whatever is in doubt is not 0.

    Attributes:
        DONE: All was done, and all is well.
        WRONG: Something is not as it should be, or was not done.
        STOPPED: It could not begin, or had to stop: a bad option, a server or a file that cannot be reached.
        UNPROVED: Nothing is wrong, but nothing is proved either.
        INTERRUPTED: After Ctrl-C.
    """

    DONE = 0
    WRONG = 1
    STOPPED = 2
    UNPROVED = 3
    INTERRUPTED = 130


class Script:
    """A script's command line: call it with the arguments, and it returns the exit code.

    Help is plain text and an error is one line, on a terminal and in a pipe alike.

    Args:
        description: What it is for; an indented paragraph is shown as it stands.
        interrupted: What to tell after Ctrl-C.
    """

    def __init__(self, description: str | None, *, interrupted: str = "") -> None:
        """Describe it."""
        self._description = _described(description or "")
        self._interrupted = interrupted
        self._commands: list[Callable[..., int] | Callable[..., Awaitable[int]]] = []

    def command(self, function: Command) -> Command:
        """Make a function, async or not, a command that returns its exit code.

        The only command of a script is the script, and is called without its name. An error of ours stops a command:
        it is told in one line, or in one JSON object if the command has a parameter `as_json` and that is given.
        """
        self._commands.append(function)
        return function

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command that the arguments name, by default those of the process. Return the exit code."""
        app = typer.Typer(
            help=self._description,
            add_completion=False,
            rich_markup_mode=None,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
        )
        for function in self._commands:
            text = self._description if len(self._commands) == 1 else None
            app.command(function.__name__.rstrip("_"), help=text)(self._ending(function))
        try:
            typer.main.get_command(app)(arguments)
        except SystemExit as ended:
            return int(ended.code or 0)
        return Code.DONE

    def _ending(self, function: Callable[..., int] | Callable[..., Awaitable[int]]) -> Callable[..., None]:
        """Return the function as one that ends with its exit code."""

        @functools.wraps(function)
        def run(**given: Any) -> None:
            raise typer.Exit(self._run(functools.partial(function, **given), for_machines=given.get("as_json", False)))

        return run

    def _run(self, function: functools.partial[Any], *, for_machines: bool) -> int:
        try:
            code: int = anyio.run(function) if inspect.iscoroutinefunction(function.func) else function()
        except KeyboardInterrupt:
            print(f"\nStopped. {self._interrupted}".rstrip(), file=sys.stderr)
            return Code.INTERRUPTED
        except BrokenPipeError:  # who reads has enough: that is the business of typer
            raise
        except (ContextEngineError, OSError) as error:
            return stopped(error, for_machines=for_machines)
        return code


def stopped(
    error: Exception, *, for_machines: bool, told: Mapping[str, Any] | None = None, out: TextIO | None = None
) -> Code:
    """Tell why a command could not begin, or had to stop.

    Args:
        error: Why.
        for_machines: Whether to tell it as a JSON object on standard output, and not in a line on standard error.
        told: What else machines are told.
        out: Where machines read, if that is not standard output.
    """
    if for_machines:
        print(json.dumps({**(told or {}), "stopped": str(error)}), file=out)
    else:
        print(printable(str(error)), file=sys.stderr)
    return Code.STOPPED


def _described(description: str) -> str:
    """Return a description with a mark before each paragraph that is to stay as it stands."""
    paragraphs = description.strip().split("\n\n")
    return "\n\n".join(f"\b\n{each}" if "\n  " in f"\n{each}" else each for each in paragraphs)
