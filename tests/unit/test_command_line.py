"""The command line of scripts: help, errors, exit codes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import typer
from command import Code, Script
from options import LOCAL, Json, Url
from support.proofs import SCRIPTS, called, script

from eventstore import InvalidInput

HAVE_IT = sorted(path.name for path in SCRIPTS.glob("*.py") if "= Script(" in path.read_text(encoding="utf-8"))

DESCRIPTION = """Do this and that.

  this   is done
  that   is not
"""


def script_of(error: BaseException | None = None, commands: Sequence[str] = ("do",)) -> Script:
    """Return a script whose commands print the URL and end with 3, or raise."""
    made = Script(DESCRIPTION, interrupted="Run it again.")

    async def do(url: Url = LOCAL, as_json: Json = False) -> int:
        """Do it."""
        if error is not None:
            raise error
        typer.echo(f"{url} {as_json}")
        return Code.UNPROVED

    def let(url: Url = LOCAL) -> int:
        """Let it be."""
        typer.echo(url)
        return Code.DONE

    for each in (do, let):
        if each.__name__ in commands:
            made.command(each)
    return made


@pytest.mark.parametrize("name", HAVE_IT)
def test_every_script_helps_and_refuses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help tells what a script is for; an option that is none ends with 2 and is named in one line."""
    if name == "plot_compaction.py":
        pytest.importorskip("matplotlib")
    code, text = called(name, "--help")
    assert (code, "Usage: " in text, "--help" in text) == (0, True, True)
    assert called(name, "--no-such-option") == (2, "")
    complaint = [line for line in capsys.readouterr().err.splitlines() if "no-such-option" in line]
    assert complaint == ["Error: No such option: --no-such-option"]


def test_a_script_is_found_wanting_in_plain_words() -> None:
    """As a process of its own, too, bad input is told in one line, without a traceback."""
    done = script("verify.py", "--url", "nothing://")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("No store serves 'nothing'")
    assert len(done.stderr.splitlines()) == 1


def test_the_exit_code_is_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """What a command returns is returned; one that is alone is called without a name, others with it."""
    assert script_of()(["--url", "redis://x", "--json"]) == Code.UNPROVED
    both = script_of(commands=("do", "let"))
    assert (both(["do"]), both(["let"]), both([]), both(["other"])) == (3, 0, 2, 2)
    assert capsys.readouterr().out == f"redis://x True\n{LOCAL} False\n{LOCAL}\n"


def test_the_environment_names_the_store(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTEXTENGINE_URL comes before REDIS_URL, an empty one is none, and --url comes before both."""
    monkeypatch.setenv("REDIS_URL", "redis://second")
    monkeypatch.setenv("CONTEXTENGINE_URL", "")
    script_of()([])
    monkeypatch.setenv("CONTEXTENGINE_URL", "redis://first")
    script_of()([])
    script_of()(["--url", "redis://x"])
    assert capsys.readouterr().out == "redis://second False\nredis://first False\nredis://x False\n"


def test_an_error_of_ours_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """For people in a line on standard error, which plays no tricks; for machines as JSON on standard output."""
    wanting = script_of(InvalidInput("It is \x1b[31mred\udcff."))
    assert wanting([]) == wanting(["--json"]) == Code.STOPPED
    shown = capsys.readouterr()
    assert shown.err == "It is \\x1b[31mred\\udcff.\n"
    assert json.loads(shown.out) == {"stopped": "It is \x1b[31mred\udcff."}


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    """After Ctrl-C it says how to go on."""
    assert script_of(KeyboardInterrupt())([]) == Code.INTERRUPTED
    assert capsys.readouterr() == ("", "\nStopped. Run it again.\n")


def test_a_bug_is_no_exit_code() -> None:
    """What nobody has foreseen is not dressed up."""
    with pytest.raises(ZeroDivisionError):
        script_of(ZeroDivisionError())([])


def test_an_indented_paragraph_stays_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """A list in a description keeps its lines."""
    script_of()(["-h"])
    assert "\n    this   is done\n    that   is not\n" in capsys.readouterr().out
