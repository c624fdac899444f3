"""`ContextEngine`: the front door."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from redis.asyncio import Redis, RedisCluster

from contextengine.agents import Agents
from contextengine.checkpoints import Checkpoints
from contextengine.compression import Compression, defaults_of
from contextengine.contexts import Contexts
from contextengine.forgetting import Forgets
from contextengine.forks import Forks
from contextengine.metrics import Metrics
from contextengine.monitoring import Monitoring
from contextengine.runtime import Runtime
from eventstore.archive.places import Archive, open_archive
from eventstore.codec import DEFAULT_MAX_EVENT_BYTES
from eventstore.durability import ACCEPTED, Durability
from eventstore.errors import InvalidInput
from eventstore.opening import DEFAULT_TIMEOUT
from eventstore.store import DEFAULT_NAMESPACE
from workers.compaction import CompressionConfig

REFUSED = {
    "permanent_backend": "the log keeps everything; export it, or follow it with subscribe().",
    "hook_executor": "compactions are events in the log; follow them with subscribe().",
    "progress_emitter": "compactions are events in the log; follow them with subscribe().",
}
"""Arguments of the original that this engine cannot honour, and what to do instead."""


class ContextEngine(Agents, Compression, Contexts, Checkpoints, Forks, Forgets, Metrics, Monitoring):
    """Conversation memory for agents: every change is an event in the session's log, every answer a fold of it.

    Use it with ``async with``, or await `initialize` and `close`. One engine serves any number of tasks, and more than
    one event loop.

    Args:
        url: What `eventstore.open_store` takes: ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://``,
            ``rediss+cluster://``, ``redis+sentinel://``, ``rediss+sentinel://``, ``embedded:///directory`` or
            ``memory://``. Without it and a client: ``CONTEXTENGINE_URL``, else ``REDIS_URL``, else localhost, and
            memory if that does not answer.
        redis_client: A ``redis.asyncio.Redis`` (of a ``Sentinel.master_for``, too) or ``RedisCluster`` client whose
            settings are to be used.
        namespace: Engines of different namespaces on one server know nothing of each other.
        partitions: Fixed when the namespace is made; leave it out to take what it has.
        fallback: ``memory`` or ``error``: what happens if the server does not answer when the engine is initialized.
        workers: Whether views are kept up to date inside this process. Set False where ``python -m workers`` runs.
        timeout: Seconds for which a call waits for the server, reconnecting included.
        max_event_bytes: The largest message or value, encoded, that is accepted.
        archive: Where the logs of archived sessions lie: ``file:///directory``, or an
            `eventstore.archive.places.Archive`; by default what ``CONTEXTENGINE_ARCHIVE`` names. They are read as if
            they had never left Redis; without it they raise `SessionArchived`.
        durability: What has to have happened to an event before a call that writes it returns: ``accepted`` (it is in
            the server's memory), ``fsynced``, ``replicated`` or ``replicated:<replicas>``; see `Durability`.
        compression_config: When histories are compacted, and how. By default they are not, unless somebody asks.
        llm_client: What writes summaries: something with ``generate_text`` (and ``get_embeddings``, if you like), or an
            async function from a prompt to a text. Without it the built-in summarizer does.
        compression_policy: An agent's policy; see `contextengine.policies`.
        compress_on_append: True is short for a `compression_config` with ``auto_compress_enabled``.
        compression_summary_role: ``system`` or ``user``: the role of the message that holds a summary.
        use_existing_redis: Taken for the sake of those who pass it to the original, where it has no effect either: an
            engine always has connections of its own.
        permanent_backend: Refused: the log itself is the permanent record.
        hook_executor: Refused: compactions are events, and can be followed with a subscription.
        progress_emitter: Refused, likewise.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        redis_client: Redis | RedisCluster | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        partitions: int | None = None,
        fallback: str | None = None,
        workers: bool = True,
        timeout: float = DEFAULT_TIMEOUT,
        max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
        archive: Archive | str | None = None,
        durability: str = ACCEPTED,
        compression_config: CompressionConfig | None = None,
        llm_client: Any = None,
        compression_policy: Any = None,
        compress_on_append: bool = False,
        compression_summary_role: str | None = None,
        use_existing_redis: bool = True,
        permanent_backend: None = None,
        hook_executor: None = None,
        progress_emitter: None = None,
    ) -> None:
        """Keep the settings; nothing is connected before `initialize`.

        Raises:
            InvalidInput: Both a URL and a client were given, or the client is none; or another argument cannot be
                honoured.
        """
        if url is not None and redis_client is not None:
            raise InvalidInput("Give ContextEngine a URL or a redis_client, not both.")
        if redis_client is not None and not isinstance(redis_client, Redis | RedisCluster):
            raise InvalidInput(
                f"redis_client must be a redis.asyncio.Redis or RedisCluster, not {type(redis_client).__name__}."
            )
        for name, given in (
            ("permanent_backend", permanent_backend),
            ("hook_executor", hook_executor),
            ("progress_emitter", progress_emitter),
        ):
            if given is not None:
                raise InvalidInput(f"{name} is not supported: {REFUSED[name]}")
        self.use_existing_redis = use_existing_redis
        self.compress_on_append = compress_on_append
        self.compression_policy = compression_policy
        self._compaction = defaults_of(
            compression_config, llm_client, enabled=compress_on_append, role=compression_summary_role
        )
        self._target = url if redis_client is None else redis_client
        self._fallback = fallback
        self._workers = workers
        self._options: dict[str, Any] = {
            "namespace": namespace,
            "partitions": partitions,
            "timeout": timeout,
            "max_event_bytes": max_event_bytes,
            "archive": open_archive(archive),
            "durability": Durability(durability),
        }
        self._runtime: Runtime | None = None
        self._changing = asyncio.Lock()

    async def initialize(self) -> bool:
        """Connect. Does nothing on an open engine.

        Returns:
            True.

        Raises:
            StoreUnavailable: The server does not answer, and the fallback is ``error``.
            ServerUnfit: The server's version or settings would lose events, or cannot reach the durability.
            PartitionCountMismatch: The namespace was made with another partition count.
            InvalidInput: A setting cannot be accepted.
        """
        async with self._changing:
            if self._runtime is None:
                self._runtime = await Runtime.open(
                    self._target, self._compaction, fallback=self._fallback, workers=self._workers, **self._options
                )
        return True

    async def close(self) -> None:
        """Let the worker finish and disconnect. Does nothing on a closed engine.

        It goes on to the end even if whoever awaits it is cancelled.
        """
        await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        async with self._changing:
            runtime, self._runtime = self._runtime, None
            if runtime is not None:
                await runtime.close()

    async def __aenter__(self) -> Self:
        """Connect."""
        await self.initialize()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Disconnect."""
        await self.close()
