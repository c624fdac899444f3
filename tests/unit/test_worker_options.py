"""The command line of ``python -m workers``, as far as it concerns compaction."""

from __future__ import annotations

import pytest

from workers.__main__ import parse


def test_a_model_is_imported() -> None:
    """``--summarizer`` names what a module holds: a client or a function."""
    options = parse(["--compaction", "--summarizer", "support.summarizers:answers", "--timeout", "7.5"])
    assert options.summarizer.__name__ == "answers"
    assert options.timeout == 7.5
    assert parse([]).summarizer is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "support",
        "support:",
        ":x",
        "support.summarizers:nobody",
        "no.such.module:x",
        "os:sep",
        "support.summarizers:Model",
    ],
)
def test_what_is_no_model(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is refused before the worker starts: a name that is wrong, a thing that is none, a class."""
    with pytest.raises(SystemExit):
        parse(["--compaction", "--summarizer", name])
    assert "--summarizer" in capsys.readouterr().err
