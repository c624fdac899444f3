"""The engine's compaction: when histories are made shorter, and how to see what was before."""

from __future__ import annotations

import time
from typing import Any

from contextengine.conversations import Conversations
from contextengine.formatting import check_format
from contextengine.policies import policed
from contextengine.values import Message
from eventstore import (
    CompactionConfigured,
    CompactionFailed,
    HistoryCompacted,
    InvalidInput,
)
from eventstore.errors import shown
from eventstore.logs import get_logger
from eventstore.store import check_number
from workers.compaction import Compacted, CompactionBusy, CompactionDefaults, CompressionConfig
from workers.compaction.config import CALLABLES
from workers.compaction.strategies import known_strategies

log = get_logger("engine")

ROLES = ("system", "user")


class Compression(Conversations):
    """Compaction: the older part of a history gives place to a summary. The log keeps every original.

    Attributes:
        compression_policy: The policy of the agents that use this engine, which they set themselves where nobody else
            has. `compress_on_append_if_needed` keeps to it; see `contextengine.policies`.
    """

    compression_policy: Any = None
    _compaction: CompactionDefaults

    @property
    def compression_config(self) -> CompressionConfig:
        """What holds for sessions without settings of their own. It can be replaced.

        Raises:
            InvalidInput: It is replaced by something that is none.
        """
        return self._compaction.config

    @compression_config.setter
    def compression_config(self, config: CompressionConfig) -> None:
        self._compaction.config = _config(config, "compression_config")
        if config.auto_compress_enabled and self._runtime is not None:
            self._runtime.compact_in_background()

    @property
    def llm_client(self) -> Any:
        """What writes summaries: an LLM client or an async function; None for the built-in summarizer."""
        return self._compaction.client

    @llm_client.setter
    def llm_client(self, client: Any) -> None:
        self._compaction.client = _client(client)

    async def compress_conversation(
        self, session_id: str, strategy: str | None = None, config_override: CompressionConfig | None = None
    ) -> dict[str, Any]:
        """Compact a history now.

        Args:
            session_id: The session.
            strategy: A strategy for this time.
            config_override: A configuration for this time.

        Returns:
            ``success``, ``strategy``, ``original_count``, ``compressed_count`` (messages, the summary included),
            ``compression_ratio`` (the share that went), ``tokens_before``, ``tokens_after``, ``tokens_saved``,
            ``summarizer``, ``remark`` (what did not go as configured), ``version`` (of the event, None if there was
            nothing to do), ``time_taken`` (seconds). If it could not be done, ``success`` is False and ``error`` says
            why; the history is as it was.

        Raises:
            InvalidInput: An argument cannot be accepted.
            StoreUnavailable: The server does not answer.
        """
        began = time.perf_counter()
        config = await self._config_for(session_id, strategy, config_override)
        try:
            done = await self._here().compactor.compact(session_id, config)
        except CompactionFailed as error:
            return _failure(str(error), config.strategy, began)
        if done is None:
            return _failure("No messages to compress", config.strategy, began) | {
                "original_count": 0,
                "compressed_count": 0,
            }
        return _report(done, began)

    async def auto_compress_on_limit(self, session_id: str) -> dict[str, Any] | None:
        """Compact a history if it has reached a threshold and `auto_compress_enabled` holds for it.

        Nobody has to call this: the compaction worker does the same by itself.

        Returns:
            As `compress_conversation`; None if nothing was due.

        Raises:
            InvalidInput: The session id cannot be accepted.
            StoreUnavailable: The server does not answer.
        """
        began = time.perf_counter()
        try:
            done = await self._here().compactor.compact_if_due(session_id)
        except CompactionFailed as error:
            return _failure(str(error), self.compression_config.strategy, began)
        return None if done is None or done.version is None else _report(done, began)

    async def compress_on_append_if_needed(
        self, session_id: str, *, strategy: str | tuple[str, ...] | None = None
    ) -> dict[str, Any] | None:
        """Compact a history if it has reached a threshold: what agents call after each task. It never raises.

        Args:
            session_id: The session.
            strategy: One of our strategies for this time. Names that are none of ours (agents pass the steps of their
                own prompt compaction) leave the configured one.

        Returns:
            As `compress_conversation`; None if nothing was due, or somebody else is compacting it.
        """
        began = time.perf_counter()
        try:
            return await self._compress_if_needed(session_id, strategy)
        except CompactionBusy:  # an agent does not wait for what another is doing
            return None
        except Exception as error:  # noqa: BLE001 - an exception here would fail the agent's task, which is done
            log.warning(
                "A history was not compacted after an append.",
                action="compaction_failed",
                session_id=session_id,
                error=f"{type(error).__name__}: {error}",
            )
            named = strategy if isinstance(strategy, str) else shown(strategy)
            return _failure(f"{type(error).__name__}: {error}", named, began)

    async def get_compressed_context(
        self,
        session_id: str,
        format: str = "messages",  # noqa: A002 - the name that users know
        compress_first: bool = False,
    ) -> Any:
        """Return the current history, the summary first if it has one, in a shape that prompts take.

        Args:
            session_id: The session.
            format: ``messages``, ``string`` or ``dict``, as in `format_conversation_history`.
            compress_first: Whether to compact it before.

        Raises:
            InvalidInput: An argument cannot be accepted.
            CompactionFailed: It could not be compacted.
        """
        check_format(format)
        if compress_first:
            await self._here().compactor.compact(session_id, await self._config_for(session_id, None, None))
        return await self.format_conversation_history(session_id, format, limit=None)

    async def configure_compression(self, session_id: str, **settings: Any) -> bool:
        """Give a session settings of its own for its compaction, in place of any earlier ones.

        Args:
            session_id: The session. One that does not exist begins with it.
            settings: Fields of `CompressionConfig`, but for the functions. None at all: back to the engine's.

        Returns:
            True.

        Raises:
            InvalidInput: A setting cannot be accepted.
        """
        functions = settings.keys() & CALLABLES
        if functions:
            raise InvalidInput(
                f"A session cannot have its own {', '.join(sorted(functions))}: a log holds no function."
            )
        self.compression_config.changed(settings)
        runtime = self._here()
        await runtime.append(session_id, CompactionConfigured(settings))
        runtime.compact_in_background()
        runtime.keep_working()
        return True

    async def expand_summary(self, session_id: str, version: int) -> list[Message]:
        """Return the originals behind a summary, oldest first.

        Args:
            session_id: The session.
            version: The ``version`` of the summary's message, or of any compaction in the session's log.

        Raises:
            InvalidInput: There is no compaction at that version.
            CorruptLog: An entry cannot be read.
        """
        check_number("version", version)
        store = self._here().store
        events = await store.read(session_id, after=max(0, version - 1), until=version)
        event = events[0].data if events and version else None
        if not isinstance(event, HistoryCompacted):
            raise InvalidInput(f"There is no compaction at version {version} of session {session_id!r}.")
        before = await self._past(session_id, version - 1, None, originals=True)
        kept = set(event.kept)
        return [
            Message(message)
            for message in before.originals or ()
            if event.first <= message["version"] <= event.last and message["version"] not in kept
        ]

    async def _compress_if_needed(
        self, session_id: str, strategy: str | tuple[str, ...] | None
    ) -> dict[str, Any] | None:
        began = time.perf_counter()
        config = policed(self.compression_config, self.compression_policy)
        wanted = (strategy,) if isinstance(strategy, str) else strategy or ()
        if ours := [name for name in wanted if name in known_strategies()]:
            config = config.changed({"strategy": ours[0]})
        done = await self._here().compactor.compact_if_due(session_id, config, wait=False)
        return None if done is None or done.version is None else _report(done, began)

    async def _config_for(
        self, session_id: str, strategy: str | None, override: CompressionConfig | None
    ) -> CompressionConfig:
        """Return what holds this time: what was given, else the session's own settings, else the engine's."""
        if override is not None:
            config = _config(override, "config_override")
        else:
            session = await self._here().queries.session(session_id)
            config = self._here().compactor.config_of(session.state) if session else self.compression_config
        return config if strategy is None else config.changed({"strategy": strategy})


def defaults_of(
    config: CompressionConfig | None, client: Any, *, enabled: bool, role: str | None
) -> CompactionDefaults:
    """Return what an engine was told about compaction.

    Raises:
        InvalidInput: An argument cannot be accepted, or they contradict each other.
    """
    chosen = CompressionConfig() if config is None else _config(config, "compression_config")
    if enabled:
        chosen = chosen.changed({"auto_compress_enabled": True})
    if role is not None:
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidInput(f"compression_summary_role must be one of {', '.join(ROLES)}, not {shown(role)}.")
        chosen = chosen.changed({"summary_role": role})
    return CompactionDefaults(chosen, _client(client))


def _config(config: object, name: str) -> CompressionConfig:
    if not isinstance(config, CompressionConfig):
        raise InvalidInput(f"{name} must be a contextengine.CompressionConfig, not {type(config).__name__}.")
    return config


def _client(client: Any) -> Any:
    abilities = (client, *(getattr(client, name, None) for name in ("generate_text", "get_embeddings")))
    if client is not None and not any(map(callable, abilities)):
        raise InvalidInput(
            f"llm_client must have generate_text or get_embeddings, or be an async function from a prompt to a text, "
            f"which {type(client).__name__} is not."
        )
    return client


def _report(done: Compacted, began: float) -> dict[str, Any]:
    return {
        "success": True,
        "strategy": done.strategy,
        "original_count": done.messages_before,
        "compressed_count": done.messages_after,
        "compression_ratio": 1 - done.messages_after / done.messages_before if done.messages_before else 0.0,
        "tokens_before": done.tokens_before,
        "tokens_after": done.tokens_after,
        "tokens_saved": done.tokens_before - done.tokens_after,
        "summarizer": done.summarizer,
        "remark": done.remark,
        "version": done.version,
        "time_taken": time.perf_counter() - began,
    }


def _failure(error: str, strategy: str, began: float) -> dict[str, Any]:
    return {"success": False, "error": error, "strategy": strategy, "time_taken": time.perf_counter() - began}
