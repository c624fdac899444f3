"""The report in a real browser: it draws, filters, opens, obeys the keyboard, and runs nothing that it shows."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.proofs import SIGNER

from eventstore import ContextSet, Event, HistoryCompacted, MessageAdded, SessionStarted, SessionUpdated, open_store
from eventstore.proof.signing import Keyring
from projections.report import page, story
from projections.report.proof import verification
from projections.sealing.sealer import Sealer
from projections.sealing.verifier import Verifier

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium")

expect = playwright.expect
HOSTILE = (
    "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
    "<a href='javascript:window.ran=3'>x</a>"
)
EVENTS = 5000


def log() -> list[Event]:
    """Return a long session with something of everything, hostile messages among it."""
    events: list[Event] = [SessionStarted("ann", {"plan": HOSTILE})]
    rewritten, since = 0, 0
    while len(events) < EVENTS - 2:
        n = len(events)
        if since >= 100:
            events.append(HistoryCompacted(rewritten, 1, n, 90, 0, 90, "summarize", summary=f"{HOSTILE} until {n}"))
            rewritten, since = n + 1, since - 90
        elif n % 5 == 0:
            events.append(SessionUpdated(requests=1, processing_time=0.25, errors=int(n % 50 == 0)))
        elif n % 31 == 0:
            events.append(ContextSet("cart", {"items": [n], "note": HOSTILE}))
        else:
            role = "user" if n % 2 else "assistant"
            events.append(MessageAdded(role, f"message number {n}"))
            since += 1
    call = {"id": "call_1", "type": "function", "function": {"name": HOSTILE, "arguments": json.dumps({"x": HOSTILE})}}
    return [*events, MessageAdded("assistant", None, tool_calls=[call]), MessageAdded("user", HOSTILE, name=HOSTILE)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a session of 5,000 events, all of them sealed."""

    async def make() -> str:
        async with open_store("memory://") as store:
            events = log()
            for start in range(0, EVENTS, 1000):
                await store.append("s", events[start : start + 1000], meta={"actor": "tests"})
            await Sealer(store, SIGNER).seal()
            checked = await verification(store, Verifier(store, Keyring([SIGNER.public])), "s")
            told = story.tell(await story.read(store, "s"))
            frame = {"session": f"s {HOSTILE}", "namespace": "tests", "made_ms": 1}
            return page.render(f"s {HOSTILE}", {**frame, "verification": checked, **told})

    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(asyncio.run(make()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(report: Path) -> Iterator[Any]:
    """A headless Chromium; after the report, for Playwright takes the thread's event loop."""
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Any]:
    """The report, opened. In the end nothing must have been said on the console, asked of a network, or run."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.on("request", lambda request: said.append(request.url) if request.url != report.as_uri() else None)
    tab.goto(report.as_uri())
    yield tab
    assert tab.evaluate("window.ran") is None
    assert tab.locator("img, iframe, object, embed, a[href^='javascript']").count() == 0
    assert said == []
    context.close()


def rows(tab: Any) -> Any:
    """Return the events that are shown."""
    return tab.locator("#events > li")


@pytest.mark.guarantee("A8")
class TestReport:
    def test_it_draws(self, opened: Any, tmp_path: Path) -> None:
        """The proof, six plots, the conversation, the context and the first events are there, light and dark."""
        assert opened.locator(".banner.good").inner_text().startswith("Proved")
        assert opened.locator("#session").inner_text() == f"s {HOSTILE}"
        assert opened.locator("#plots svg .curve").count() == 6
        assert opened.locator("#count").inner_text() == "5,000 events"
        assert rows(opened).count() == 200
        assert opened.locator("#talk > .message").count() > 10
        assert opened.locator("#talk .text").last.inner_text() == HOSTILE
        for scheme in ("light", "dark"):
            opened.emulate_media(color_scheme=scheme)
            picture = opened.screenshot(path=tmp_path / f"{scheme}.png")
            assert len(picture) > 20_000

    def test_filters(self, opened: Any) -> None:
        """Types, a search and a range of versions narrow the timeline down together, and a reset shows all again."""
        opened.locator("#types button[data-type=MessageAdded]").click()
        assert opened.locator("#types button[data-type=MessageAdded]").get_attribute("aria-pressed") == "false"
        assert "MessageAdded" not in opened.locator("#events .type").all_inner_texts()
        opened.locator("#reset").click()
        opened.locator("#search").fill("message number 4711")
        assert opened.locator("#count").inner_text() == "1 of 5,000 events"
        opened.locator("#search").fill("")
        opened.locator("#from").fill("10")
        opened.locator("#to").fill("14")
        assert opened.locator("#events .v").all_inner_texts() == ["10", "11", "12", "13", "14"]
        opened.locator("#reset").click()
        opened.locator("#more").click()
        assert rows(opened).count() == 400

    def test_opening(self, opened: Any) -> None:
        """An event opens to its entry, a compaction to its originals and an earlier one, a value to its past."""
        rows(opened).nth(0).locator("summary").click()
        assert '"type": "SessionStarted"' in rows(opened).nth(0).locator("pre").inner_text()
        span = opened.locator("#talk > .spanned")
        assert span.count() == 1
        span.locator("> summary").click(position={"x": 10, "y": 10})
        inside = span.locator("> .inside")
        expect(inside.locator("> .message")).to_have_count(90)
        expect(inside.locator("> .spanned")).to_have_count(1)
        inside.locator("> .spanned > summary").click(position={"x": 10, "y": 10})
        expect(inside.locator("> .spanned > .inside > .message")).to_have_count(90)
        opened.locator("#values details summary").click()
        expect(opened.locator("#values details pre")).to_have_count(120)
        opened.locator("#seals summary").click()
        expect(opened.locator("#seals tbody tr")).to_have_count(1)

    def test_keys(self, opened: Any) -> None:
        """The slash goes to the search, j and k walk along the events, Enter opens, a message leads to its event."""
        opened.keyboard.press("/")
        opened.keyboard.type("SessionUpdated")
        opened.keyboard.press("Escape")
        for key in ("j", "j", "k", "Enter"):
            opened.keyboard.press(key)
        expect(rows(opened).nth(0).locator("details[open]")).to_have_count(1)
        opened.locator("#talk > .message .who a").last.click()
        assert opened.evaluate("document.activeElement.querySelector('.v').textContent") == str(EVENTS)

    def test_plots_follow_the_pointer(self, opened: Any) -> None:
        """The pointer reads a value off, and the axis changes from versions to times."""
        plot = opened.locator("#plots .plot").first
        before = plot.locator("h3 span").inner_text()
        plot.locator("svg").hover()
        assert " at v" in plot.locator("h3 span").inner_text()
        opened.locator("#by-time").click()
        assert opened.locator("#by-time").get_attribute("aria-pressed") == "true"
        assert opened.locator("#plots .plot").first.locator("h3 span").inner_text() == before
