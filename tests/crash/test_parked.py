"""`scripts/parked.py`: what a real worker has parked is listed, shown and retried, whatever was restarted since."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import parked as script
import pytest
from support.processes import Processes
from support.sabotaged_worker import FAIL
from support.servers import Server
from support.waiting import until

from eventstore import EventStore, MessageAdded, SessionUpdated, open_store
from projections import Projector, ViewStore, open_views
from projections.changes import ViewsChange

NAME = "poisoned \x1b[31m\n"
"""An id that would play tricks on a terminal."""


@pytest.fixture
def run(server: Server, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run the script, expect an exit code, and return what it told: JSON or text."""
    import anyio.to_thread

    async def run(*arguments: str, code: int = 0, as_json: bool = True) -> Any:
        words = [arguments[0], "--url", server.url, *(["--json"] if as_json else []), *arguments[1:]]
        assert await anyio.to_thread.run_sync(script.main, words) == code
        told = capsys.readouterr()
        return json.loads(told.out) if as_json and told.out else told.out

    return run


async def names_of_parked(views: ViewStore) -> list[str]:
    """Return the ids of the parked sessions."""
    return sorted(parked.session_id for parked in await views.parked())


@pytest.mark.guarantee("W2")
async def test_parked_sessions_outlive_everybody_and_are_retried(
    server: Server, processes: Processes, run: Callable[..., Any]
) -> None:
    """What a worker could not fold is told after all were killed; a retry with mended code takes it up."""
    worker = await processes.sabotaged_worker(server.url, "a")
    await worker.says("worker_started")
    async with open_store(server.url, timeout=20) as store:
        await store.append("mended", [MessageAdded("user", "a"), MessageAdded("user", FAIL)])
        await store.append(NAME, [MessageAdded("user", "a"), SessionUpdated(changes={"metadata": "no dict"})])

        async def both() -> bool:
            return await names_of_parked(open_views(store)) == ["mended", NAME]

        await until(both)
        before = sorted(await run("list"), key=lambda told: told["session_id"])
        await worker.killed()
        server.kill()
        server.start()
        await store.append("mended", MessageAdded("user", "while it was parked"))

        told = sorted(await run("list"), key=lambda told: told["session_id"])
        assert told == before
        assert [(each["session_id"], each["version"]) for each in told] == [("mended", 2), (NAME, 2)]
        assert FAIL in told[0]["reason"]
        assert "RuntimeError" in told[0]["traceback"]

        shown = await run("show", "mended")
        assert shown.pop("event") == (await store.read("mended"))[1].entry.decode()
        assert shown == told[0]
        await run("show", "nobody", code=1)
        text = await run("list", as_json=False) + await run("show", NAME, as_json=False)
        assert "\x1b" not in text
        assert "no dict" in text

        outcomes = await run("retry", "mended", NAME, "nobody", code=1)
        assert [each["outcome"] for each in outcomes] == ["mended", "still parked", "not parked"]
        assert await names_of_parked(open_views(store)) == [NAME]
        (snapshot,) = await open_views(store).read_sessions(["mended"])
        assert (snapshot.version, snapshot.tail) == (3, [])
        assert "still parked" in await run("retry", "--all", code=1, as_json=False)
        assert await names_of_parked(open_views(store)) == [NAME]


async def test_nothing_parked(server: Server, run: Callable[..., Any]) -> None:
    """Where nothing is parked, lists are empty and a retry of all has nothing to do."""
    await (await open_store(server.url)).aclose()
    assert await run("list") == []
    assert await run("retry", "--all") == []
    server.stop()


async def test_a_store_that_cannot_be_opened(capsys: pytest.CaptureFixture[str]) -> None:
    """A URL that nobody serves is told on standard error, with an exit code of its own."""
    import anyio.to_thread

    for url in ("unix:///nonexistent/socket", "memory://", "http://x"):
        assert await anyio.to_thread.run_sync(script.main, ["list", "--url", url]) == 2
        told = capsys.readouterr()
        assert not told.out
        assert told.err


@pytest.mark.parametrize("words", [["retry"], ["retry", "s", "--all"], ["show"], []])
def test_what_is_not_understood(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A retry names sessions or all, and everything else is a matter of usage."""
    assert script.main(words) == 2
    told = capsys.readouterr()
    assert not told.out
    assert told.err.startswith("Usage: ")


@pytest.mark.guarantee("W2")
async def test_a_retry_that_dies_leaves_the_session_parked(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session is not let go before it has been folded, so that one which kills whoever folds it stays parked."""
    views = open_views(store)
    projector = Projector(store, views)
    await store.append("s", MessageAdded("user", "a"))
    await projector.park("s", 0, "It was at hand when its worker died.")

    async def dies(changes: Sequence[ViewsChange]) -> list[bool]:
        if changes:
            raise SystemExit
        return []

    monkeypatch.setattr(views, "commit", dies)
    with pytest.raises(SystemExit):
        await projector.retry("s")
    monkeypatch.undo()
    assert await names_of_parked(views) == ["s"]
    assert await projector.retry("s") is None
    assert await names_of_parked(views) == []
