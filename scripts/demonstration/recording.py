"""How the demo records: all conversations at once, each as an agent would, while the worker follows."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import anyio
import msgspec

from contextengine import ContextEngine
from demonstration import DemoFailed, counted
from demonstration.input import Conversation, Message
from demonstration.processes import PATIENCE, POLL, Pair
from eventstore import EventStore
from projections import open_views

AT_ONCE = 200
"""Sessions that are recorded, or read, at the same time."""
AT_A_TIME = 25
"""Messages of a turn: a chat log is one long turn, and should come in pieces."""
ANSWERS = frozenset({"assistant", "tool", "function"})


class Tally(msgspec.Struct):
    """How far the recording and the worker have come."""

    sessions: int
    events: int
    recorded: int = 0
    appended: int = 0
    projected: int = 0
    lag: int = 0
    largest_lag: int = 0

    @classmethod
    def of(cls, conversations: list[Conversation]) -> Tally:
        """Begin at 0 of what is to be recorded."""
        return cls(len(conversations), sum(events(each, number) for number, each in enumerate(conversations)))

    def look(self, projected: int) -> None:
        """Note how many events the worker has projected by now."""
        self.projected = projected
        self.lag = max(0, self.appended - projected)
        self.largest_lag = max(self.largest_lag, self.lag)


async def record_all(
    engine: ContextEngine,
    store: EventStore,
    conversations: list[Conversation],
    pair: Pair,
    tally: Tally,
    *,
    talking: float,
) -> None:
    """Record all conversations at once, and wait until the worker has projected every event.

    Args:
        engine: What records them.
        store: The log that it writes.
        conversations: What is to be recorded.
        pair: The server and the worker that it uses.
        tally: What is kept up to date meanwhile.
        talking: Seconds that the longest conversation takes.

    Raises:
        DemoFailed: The worker has died or stands still, or the events are not as many as they should be.
    """
    pace = talking / max(1, *(_length(conversation.messages) for conversation in conversations))
    at_once = anyio.CapacityLimiter(AT_ONCE)

    async def record(number: int, conversation: Conversation) -> None:
        async with at_once:
            await _record(engine, conversation, number, tally, pace)
        tally.recorded += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_follow_worker, store, tally, pair)
        for number, conversation in enumerate(conversations):
            tasks.start_soon(record, number, conversation)
    if not tally.events == tally.appended == tally.projected:
        raise DemoFailed(
            f"{tally.events} events were to be recorded, {tally.appended} were, and {tally.projected} are projected."
        )


async def _record(engine: ContextEngine, conversation: Conversation, number: int, tally: Tally, pace: float) -> None:
    """Record one conversation as an agent would: what it is told, what it answers, what it learnt, what it cost."""
    session_id = conversation.session_id
    learnt = iter(conversation.context.items())
    asked, asked_at = 0, time.monotonic()
    await engine.create_session(session_id, conversation.user_id, conversation.metadata)
    tally.appended += 1
    for said in _turns(conversation.messages):
        await anyio.sleep(pace * _length(said))
        await engine.add_conversation_messages(session_id, said)
        tally.appended += len(said)
        if new := requests(said):
            asked, asked_at = asked + new, time.monotonic()
            continue
        await _count_requests(engine, session_id, asked, time.monotonic() - asked_at, tally)
        asked = 0
        await _learn(engine, session_id, itertools.islice(learnt, 1), tally)
    await _count_requests(engine, session_id, asked, 0, tally)
    await _learn(engine, session_id, learnt, tally)
    if ends(number):
        await engine.end_session(session_id)
        tally.appended += 1


async def _count_requests(engine: ContextEngine, session_id: str, asked: int, seconds: float, tally: Tally) -> None:
    """Count the user's messages and the time that answering them took; at once, for no one waits for another."""

    async def count() -> None:
        await engine.update_session(session_id, increment_requests=True, add_processing_time=seconds / asked)

    async with anyio.create_task_group() as tasks:
        for _ in range(asked):
            tasks.start_soon(count)
    tally.appended += asked


async def _learn(engine: ContextEngine, session_id: str, learnt: Iterator[tuple[str, Any]], tally: Tally) -> None:
    for key, value in learnt:
        await engine.set_context(session_id, key, value)
        tally.appended += 1


def _turns(messages: list[Message]) -> Iterator[list[Message]]:
    """Give the messages by turns: what the agent is told, then all that it does to answer."""
    for _, turn in itertools.groupby(messages, lambda message: message["role"] in ANSWERS):
        said = list(turn)
        for start in range(0, len(said), AT_A_TIME):
            yield said[start : start + AT_A_TIME]


def _length(messages: Iterable[Message]) -> int:
    return sum(len(str(message["content"])) for message in messages)


async def _follow_worker(store: EventStore, tally: Tally, pair: Pair) -> None:
    """Look how many events the worker has projected, until it is all of them."""
    views = open_views(store)
    moved = time.monotonic()
    while tally.recorded < tally.sessions or tally.projected < tally.appended:
        pair.check_worker()
        projected = (await views.totals()).events
        if projected != tally.projected or tally.recorded < tally.sessions:
            moved = time.monotonic()
        tally.look(projected)
        if time.monotonic() > moved + PATIENCE:
            raise DemoFailed(f"The worker stands still, {counted(tally.lag, 'event')} behind.")
        await anyio.sleep(POLL)


def events(conversation: Conversation, number: int) -> int:
    """Return how many events a conversation makes."""
    messages = conversation.messages
    return 1 + len(messages) + requests(messages) + len(conversation.context) + ends(number)


def requests(messages: Iterable[Message]) -> int:
    """Return how many messages are a user's."""
    return sum(message["role"] == "user" for message in messages)


def ends(number: int) -> bool:
    """Say whether a conversation ends in the demo; the others stay open."""
    return number % 3 == 0
