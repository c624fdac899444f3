"""The compactor: takes one history, decides what goes, has it summarized, and appends the one event that says so."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from eventstore import CompactionFailed, EventStore, InvalidInput, StoreRefused, StoreUnavailable
from eventstore.logs import get_logger
from projections import Projector, Queries, SessionState, ViewStore
from projections.history import Compaction
from workers.compaction.config import CompressionConfig
from workers.compaction.embeddings import embed
from workers.compaction.planning import Situation, compacted, may_be_due, plan
from workers.compaction.strategies import Plan, Vector, strategy_named
from workers.compaction.summarizer import Summary, summarize
from workers.compaction.transcript import Unit, text_of

log = get_logger("compaction")

MARGIN = 15.0
"""Seconds beyond a model's time for which a session is leased."""
POLL = 0.05
PAGE = 256
"""Sessions that are looked at together."""


class CompactionBusy(Exception):
    """Another compactor works on the session."""


@dataclasses.dataclass
class CompactionDefaults:
    """What holds for sessions without settings of their own. It may be changed while compactors use it.

    Attributes:
        config: When and how.
        client: What writes summaries: something with ``generate_text``, or an async function from a prompt to a text;
            None for the built-in summarizer.
    """

    config: CompressionConfig = dataclasses.field(default_factory=CompressionConfig)
    client: Any = None


class Compacted(msgspec.Struct, frozen=True):
    """What a compaction did, or found that there is nothing to do.

    Attributes:
        version: The version of its event; None if there was nothing to do.
        strategy: Who chose.
        messages_before: Messages of the history, a summary included.
        messages_after: And after.
        tokens_before: Tokens of the history, a summary included.
        tokens_after: And after.
        summarizer: Who wrote the summary; None if there is none.
        remark: What did not go as configured.
    """

    version: int | None
    strategy: str
    messages_before: int
    messages_after: int
    tokens_before: int
    tokens_after: int
    summarizer: str | None = None
    remark: str | None = None


class Compactor:
    """Compacts histories.

    Any number may work on the same session: a lease keeps the others from paying for the same summary, and the fold
    lets only one of several compactions of a history take effect. A compactor that dies leaves the history as it was.

    Args:
        store: The log.
        views: The views.
        defaults: What holds for sessions without settings of their own.
    """

    def __init__(self, store: EventStore, views: ViewStore, defaults: CompactionDefaults) -> None:
        """Take what it works on."""
        self.defaults = defaults
        self._store = store
        self._views = views
        self._projector = Projector(store, views)
        self.queries = Queries(store, views, self._projector)

    def config_of(self, state: SessionState, base: CompressionConfig | None = None) -> CompressionConfig:
        """Return what holds for a session: its own settings, where it has them, on top of the defaults or another base.

        Raises:
            InvalidInput: They do not fit together.
        """
        base = base or self.defaults.config
        return base.changed(state.compaction) if state.compaction else base

    async def page(self, cursor: str | None) -> tuple[list[str], str | None]:
        """Return some sessions, and where the next ones begin; None after the last ones."""
        page = await self.queries.sessions(limit=PAGE, cursor=cursor)
        return [session.session_id for session in page.sessions], page.cursor

    async def may_be_due(self, session_ids: Sequence[str]) -> list[str]:
        """Return which of these sessions may have reached a threshold, by what is known without reading histories."""
        found = await self.queries.sessions_at(session_ids)
        return [session.session_id for session in found if self._may_be_due(session.state)]

    async def compact_if_due(
        self, session_id: str, base: CompressionConfig | None = None, *, wait: bool = True
    ) -> Compacted | None:
        """Compact a session that has reached a threshold.

        Args:
            session_id: The session.
            base: What holds where the session has no settings of its own; None for the defaults.
            wait: Whether to wait for another compactor that works on it.

        Returns:
            What was done; None if nothing was due.

        Raises:
            CompactionBusy: Another compactor works on it, and this one was not to wait.
            CompactionFailed: It could not be done.
        """
        found = await self.queries.session(session_id)
        if found is None or not may_be_due(found.state, config := self.config_of(found.state, base)):
            return None
        async with self._lease(session_id, config, wait=wait):
            at = await self.queries.history_at(session_id)
            situation = Situation.of(at, self.config_of(at.state, base))
            return await self._compact(session_id, situation, asked=False) if situation.due else None

    async def compact(self, session_id: str, config: CompressionConfig | None = None) -> Compacted | None:
        """Compact a session because somebody asks for it.

        Args:
            session_id: The session.
            config: What holds this time, whatever else is configured.

        Returns:
            What was done, by another compactor if one was at it; None if the history is empty.

        Raises:
            CompactionFailed: It could not be done.
        """
        found = await self.queries.session(session_id)
        if found is None or not found.state.history_messages:
            return None
        chosen = config or self.config_of(found.state)
        async with self._lease(session_id, chosen, wait=True):
            at = await self.queries.history_at(session_id)
            if at.history.compaction is not None and at.history.compaction.version > found.version:
                return _done(at.history.compaction)
            return await self._compact(session_id, Situation.of(at, chosen), asked=True)

    def _may_be_due(self, state: SessionState) -> bool:
        try:
            return may_be_due(state, self.config_of(state))
        except InvalidInput:
            return True  # whoever tries to compact it will say why that cannot be

    @contextlib.asynccontextmanager
    async def _lease(self, session_id: str, config: CompressionConfig, *, wait: bool) -> AsyncIterator[None]:
        """Be the only one who compacts a session, for as long as models may take at most."""
        holder = uuid.uuid4().hex
        while not await self._views.lease(session_id, holder, 2 * config.compression_timeout + MARGIN):
            if not wait:
                raise CompactionBusy
            await asyncio.sleep(POLL)
        try:
            yield
        finally:
            with contextlib.suppress(StoreUnavailable, StoreRefused):  # the lease ends by itself
                await asyncio.shield(self._views.release(session_id, holder))

    async def _compact(self, session_id: str, situation: Situation, *, asked: bool) -> Compacted:
        config = situation.config
        strategy = strategy_named(config.strategy)
        if strategy.embeds(config):
            vector, remark = await self._vectors(situation)
            # Comparing many vectors takes long enough to be a nuisance to everybody else on this event loop.
            chosen = await asyncio.to_thread(plan, strategy, situation, vector, asked=asked)
        else:
            remark = None
            chosen = plan(strategy, situation, None, asked=asked)
        if not chosen.dropped and not chosen.summarized:
            counts = situation.messages, situation.tokens
            return Compacted(None, config.strategy, counts[0], counts[0], counts[1], counts[1], remark=remark)
        event = compacted(situation, chosen, await self._summary(situation, chosen), remark)
        try:
            appended = await self._store.append(session_id, event, meta={"actor": "compaction"})
        except InvalidInput as error:
            raise CompactionFailed(f"What came of it cannot be stored: {error}") from error
        await self._projector.project_if_permitted([session_id])
        now = await self.queries.session(session_id)
        if now is None or now.state.rewritten < appended.version:
            raise CompactionFailed(f"The history of session {session_id!r} was rewritten by others meanwhile.")
        done = _done(Compaction(appended.version, 0, event))
        log.info(
            "History compacted.", action="history_compacted", session_id=session_id, **msgspec.structs.asdict(done)
        )
        return done

    async def _summary(self, situation: Situation, chosen: Plan) -> Summary | None:
        """Summarize what goes into a summary, together with the earlier one; None if nothing does."""
        places = sorted(place for unit in chosen.summarized for place in unit.places)
        if not places:
            return None
        history = situation.at.history
        earlier = history.compaction.event.summary if history.compaction else None
        messages = [history.messages[place] for place in places]
        return await summarize(messages, earlier, config=situation.config, client=self.defaults.client)

    async def _vectors(self, situation: Situation) -> tuple[Callable[[Unit], Vector], str | None]:
        """Return the embeddings of all units that are compared, and what did not go as configured."""
        units = [*situation.parts.older, *situation.parts.recent]
        texts = ["\n".join(text_of(message) for message in unit.messages) for unit in units]
        vectors, remark = await embed(texts, config=situation.config, client=self.defaults.client)
        of_unit = {unit.places: vector for unit, vector in zip(units, vectors, strict=True)}
        return lambda unit: of_unit[unit.places], remark


def _done(compaction: Compaction) -> Compacted:
    event = compaction.event
    return Compacted(
        compaction.version,
        event.strategy,
        event.messages_before,
        event.messages_after,
        event.tokens_before,
        event.tokens_after,
        event.summarizer,
        event.remark,
    )
