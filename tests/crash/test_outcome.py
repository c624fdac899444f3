"""What became of an append whose reply never came can be asked for, and the answer stays true."""

from __future__ import annotations

from typing import Any

import pytest
from support.servers import Server

from contextengine import AppendOutcomeUnknown, ContextEngine, InvalidInput
from eventstore import Appended, EventStore, MessageAdded


def said(text: str) -> MessageAdded:
    """Return a message of the user."""
    return MessageAdded("user", text)


@pytest.mark.guarantee("L8")
async def test_after_an_unknown_outcome(server: Server) -> None:
    """A server that stood still past the timeout tells afterwards whether the message is there, once and for all."""
    async with ContextEngine(server.url, workers=False, timeout=0.4) as engine:
        await engine.add_conversation_message("s", "user", "before")
        stored = 0
        for number in range(4):
            server.freeze()
            try:
                with pytest.raises(AppendOutcomeUnknown) as unknown:
                    await engine.add_conversation_message("s", "user", f"{number}")
            finally:
                server.thaw()
            outcome = await engine.outcome(unknown.value.session_id, unknown.value.event_ids)
            stored += outcome is not None
            await engine.add_conversation_message("t", "user", "whatever was on its way has arrived by now")
            assert await engine.outcome("s", unknown.value.event_ids) == outcome
            ids = [event.event_id for event in await engine._here().store.read("s")]
            assert (unknown.value.event_ids[0] in ids) is (outcome is not None)
            if outcome is not None:
                assert ids[outcome.version - 1] == unknown.value.event_ids[0]
        assert len(await engine.get_conversation_history("s", 0)) == 1 + stored


async def test_of_any_append(store: EventStore) -> None:
    """Events that are there are told with the version of the last; others, and sessions without any, with None."""
    first = await store.append("s", [said("a"), said("b")])
    await store.append("s", [said(f"{n}") for n in range(600)])
    assert await store.outcome("s", first.event_ids) == Appended("s", 2, first.event_ids)
    assert await store.outcome("s", ["nobody's"]) is None
    assert await store.outcome("nobody", first.event_ids) is None
    bad: list[Any] = [[], "text", None, 5, {}]
    for odd in bad:
        with pytest.raises(InvalidInput):
            await store.outcome("s", odd)
    with pytest.raises(InvalidInput):
        await store.outcome("", first.event_ids)
