"""The documentation: its examples run, its guarantees are cited, its public names exist."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import contextengine
import eventstore
import projections
from contextengine import ContextEngine, ContextEngineError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
EXAMPLES = [block for block in BLOCKS if "aiecs" not in block]  # `make test-aiecs` runs the others


def test_the_first_example_runs_and_remembers(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ten lines of the README run as they stand, and the second run remembers the first."""
    example = EXAMPLES[0].replace("/tmp/agent-memory", str(directory / "memory"))  # noqa: S108 - the README's own
    for runs in (1, 2):
        exec(compile(example, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102
        assert capsys.readouterr().out.count("My name is Ann.") == runs


def test_the_other_examples_run(redis_url: str, namespace: str) -> None:
    """The tours of the engine, of compaction and of the log run as they stand."""
    names: dict[str, Any] = dict(vars(contextengine))
    for example in EXAMPLES[1:]:
        exec(compile(example, "README.md", "exec"), names)  # noqa: S102

    async def run() -> None:
        async with ContextEngine(redis_url, namespace=namespace) as engine:
            await names["tour"](engine)
            await names["past"](engine)
        await names["long"](redis_url)
        await names["log"](redis_url)

    asyncio.run(run())


def test_every_guarantee_is_cited_by_a_test() -> None:
    """Each row of the table has a test that bears its mark, and no test cites a row that is not there."""
    rows = re.findall(r"^\| ([A-Z]\d+) \|", (ROOT / "docs" / "GUARANTEES.md").read_text(encoding="utf-8"), re.MULTILINE)
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    marks = re.findall(r"mark\.guarantee\(([^)]*)\)", tests)
    cited = {row for mark in marks for row in re.findall(r"\"([A-Z]\d+)\"", mark)}
    assert cited == set(rows)


def test_the_error_tree_in_the_docstring_is_the_real_one() -> None:
    """The drawing at the top of errors.py names every error, each below its parent."""
    classes = {
        name: value
        for name, value in vars(eventstore.errors).items()
        if inspect.isclass(value) and issubclass(value, ContextEngineError)
    }
    drawn: dict[str, str] = {}
    parents: list[str] = []
    for indent, name in re.findall(r"^([│├└─ ]*)([A-Z]\w+)", eventstore.errors.__doc__ or "", re.MULTILINE):
        if name in classes:
            depth = len(indent) // 4
            parents[depth:] = [name]
            drawn[name] = parents[depth - 1] if depth else "Exception"
    assert drawn == {name: cls.__bases__[0].__name__ for name, cls in classes.items()}


@pytest.mark.parametrize("package", [contextengine, eventstore, projections], ids=lambda package: package.__name__)
def test_public_names(package: Any) -> None:
    """What a package exports exists, is sorted, and every public thing has a docstring."""
    assert package.__all__ == sorted(package.__all__, key=lambda name: (not name.isupper(), name))
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__


@pytest.mark.parametrize(
    "error",
    [
        eventstore.UnknownSession("s"),
        eventstore.WrongExpectedVersion("s", 1, 2, []),
        eventstore.AppendOutcomeUnknown("s", ["id"], "why"),
        eventstore.DurabilityNotReached(
            "s", 1, ["id"], eventstore.Durability("fsynced"), eventstore.Durability("accepted"), "why"
        ),
        eventstore.CorruptLog("s", 1, "why"),
        eventstore.InvalidInput("why"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_can_be_pickled(error: ContextEngineError) -> None:
    """An error that comes from another process says and bears the same."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_every_error_is_exported() -> None:
    """Both the engine and the log export every error."""
    errors = {
        name
        for name, value in vars(eventstore.errors).items()
        if inspect.isclass(value) and value.__module__ == "eventstore.errors"
    }
    assert errors <= set(contextengine.__all__)
    assert errors <= set(eventstore.__all__)
