"""What a report tells, and that nothing of it can run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import (
    ContextDeleted,
    ContextSet,
    Event,
    HistoryCleared,
    HistoryCompacted,
    HistoryRewound,
    MessageAdded,
    SessionUpdated,
)
from eventstore.codec import decode, encode
from eventstore.events import RecordedEvent
from eventstore.ids import new_event_id
from projections.history import History, HistoryChange, fold
from projections.report import page, story
from projections.report.story import Block

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def log(*events: Event) -> list[RecordedEvent]:
    """Return events as they stand in a log."""
    return [decode("s", v, 1000 * v, encode(new_event_id(), event, None)) for v, event in enumerate(events, 1)]


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


def compacted(base: int, replaced: int, kept: Sequence[int] = ()) -> HistoryCompacted:
    """Return a compaction."""
    return HistoryCompacted(base, 1, 9, replaced, 0, replaced, "summarize", kept=list(kept), summary="in short")


def shape(blocks: Sequence[Block]) -> list[object]:
    """Return versions, and spans as a version and what is in them."""
    return [b["v"] if b["kind"] == "message" else (b["kind"], b["v"], shape(b["blocks"])) for b in blocks]


class TestConversation:
    def test_compactions_and_clears_hold_what_they_replaced(self) -> None:
        """A later compaction holds the earlier one; what was kept stays outside; a clear holds everything."""
        events = log(
            said("1"),
            said("2"),
            said("3"),
            compacted(0, 2, [2]),
            said("5"),
            said("6"),
            compacted(4, 2),
            said("8"),
            compacted(1, 1),
            HistoryCleared(),
            said("11"),
        )
        assert shape(story.conversation(events[:4])) == [("compaction", 4, [1, 3]), 2]
        assert shape(story.conversation(events[:9])) == [("compaction", 7, [("compaction", 4, [1, 3]), 2, 5]), 6, 8]
        assert shape(story.conversation(events)) == [
            ("cleared", 10, [("compaction", 7, [("compaction", 4, [1, 3]), 2, 5]), 6, 8]),
            11,
        ]

    @given(st.lists(st.sampled_from(["say", "clear"]) | st.tuples(st.integers(1, 4), st.integers(0, 2)), max_size=25))
    def test_what_is_outside_of_spans_is_the_history(self, steps: list[str | tuple[int, int]]) -> None:
        """Whatever was compacted or cleared, the open messages are those that an agent reads, and none is lost."""
        events: list[Event] = []
        for step in steps:
            history = fold(HistoryChange(), log(*events))
            here = [message["version"] for message in history.apply(History()).messages]
            if step == "say":
                events.append(said("x"))
            elif step == "clear":
                events.append(HistoryCleared())
            elif isinstance(step, tuple):
                replaced, kept = step
                events.append(compacted(history.rewritten, replaced, here[:kept]))
        recorded = log(*events)
        blocks = story.conversation(recorded)
        history = fold(HistoryChange(), recorded)
        open_ones = [block["v"] for block in blocks if block["kind"] == "message"]
        assert open_ones == [message["version"] for message in history.apply(History()).messages]

        def every(found: Sequence[Block]) -> list[int]:
            return [v for b in found for v in ([b["v"]] if b["kind"] == "message" else every(b["blocks"]))]

        assert sorted(every(blocks)) == [e.version for e in recorded if isinstance(e.data, MessageAdded)]


def test_metrics_and_contexts() -> None:
    """After each event the metrics are the fold's, and each context key has all its values."""
    told = story.tell(
        log(
            said("1"),
            SessionUpdated(requests=2, errors=1, processing_time=0.5),
            ContextSet("k", {"n": 2**70}),
            ContextDeleted("k"),
            compacted(0, 1),
        )
    )
    assert [point[2:7] for point in told["metrics"]] == [
        [1, 1, 1, 0, 0.0],
        [1, 1, 3, 1, 0.5],
        [1, 1, 3, 1, 0.5],
        [1, 1, 3, 1, 0.5],
        [1, 1, 3, 1, 0.5],
    ]
    (key,) = told["contexts"]
    assert [(change["v"], change.get("value")) for change in key["changes"]] == [
        (3, '{\n  "n": 1180591620717411303424\n}'),
        (4, None),
    ]
    many = story.tell(log(*[said("x")] * 3000))["metrics"]
    assert len(many) <= story.POINTS + 1
    assert many[-1][0] == 3000


class Scripts(HTMLParser):
    """Collects the elements of a page, and what is in its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.elements: list[str] = []
        self.policy = ""
        self._in = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        if tag == "script":
            self._in = True
            self.scripts.append("")
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"] or ""
        assert not {name for name, _ in attrs if name.startswith("on") or name in {"style", "src", "srcdoc"}}

    def handle_endtag(self, tag: str) -> None:
        self._in = False

    def handle_data(self, data: str) -> None:
        if self._in:
            self.scripts[-1] += data


@pytest.mark.guarantee("A8")
@given(texts | st.sampled_from(["</script><script>alert(1)</script>", "<!--<script>", "{{script}}", "]]>", "\u2028"]))
def test_nothing_that_was_recorded_becomes_markup(hostile: str) -> None:
    """Whatever a message or a title holds, the page has the same elements, its two scripts, and the text unchanged."""
    plain, parsed = Scripts(), Scripts()
    plain.feed(page.render("t", {"text": ""}))
    parsed.feed(page.render(hostile, {"text": hostile}))
    assert parsed.elements == plain.elements
    data, script = parsed.scripts
    assert json.loads(data) == {"text": hostile}
    assert "<" not in data
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert re.search(r"default-src 'none'.*script-src 'sha256-" + re.escape(digest), parsed.policy)


def test_the_script_writes_text_only() -> None:
    """The page's script has no way to turn text into markup or code, and asks no network."""
    script = page._file("page.js")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|fetch\(|XMLHttp|import\("
        r"|https?:(?!//www\.w3\.org)",
        script,
    )


def test_what_was_undone_is_not_what_an_agent_reads() -> None:
    """Messages that were undone are no part of the conversation, and later compactions take effect on what is left."""
    log = [
        MessageAdded("user", "a"),
        MessageAdded("user", "b"),
        HistoryRewound(to=1, removed=1, removed_bytes=1),
        MessageAdded("user", "c"),
        HistoryCompacted(base=3, first=1, last=1, replaced=1, replaced_bytes=1, stands_for=1, strategy="x"),
    ]
    events = [RecordedEvent("s", n, n, f"id-{n}", event, {}, b"") for n, event in enumerate(log, 1)]
    span, last = story.conversation(events)
    assert (span["kind"], [block["v"] for block in span["blocks"]], last["v"]) == ("compaction", [1], 4)
