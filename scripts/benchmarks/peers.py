"""Others beside it, where they are installed: one message, and the last 50 of a long history. For information."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from benchmarks.bench import Bench, answer, engine_on, raw
from benchmarks.filling import project_all
from benchmarks.measuring import Figure, Result, medians, ratios
from benchmarks.messages import Message
from benchmarks.serving import Server
from eventstore import open_store

LAST = 50
RAW = "redis-py"
WRITTEN, READ = "written", "read"


class Peer(msgspec.Struct, frozen=True):
    """Somebody's conversation memory: what adds a message to a session, and what gives its last 50."""

    add: Callable[[str, Message], Awaitable[Any]]
    last: Callable[[str], Awaitable[Any]]


Entering: TypeAlias = Callable[[Server], contextlib.AbstractAsyncContextManager[Peer]]


async def peers(bench: Bench) -> Result:
    """Measure everybody on one server, over TCP, which all of them can."""
    length = bench.size(5_000, 500)
    remarks: list[str] = []
    with bench.server(tcp=True) as server:
        async with contextlib.AsyncExitStack() as stack:
            sides: dict[str, Peer] = {}
            for name, enter in PEERS.items():
                try:
                    sides[name] = await stack.enter_async_context(enter(server))
                except ImportError:
                    remarks.append(f"{name}: not installed")
            for peer in sides.values():
                for message in bench.messages.take(length):
                    await peer.add(READ, message)
            async with open_store(server.url) as store:
                await project_all(store)
            writing = await medians(
                {name: _adding(peer, bench) for name, peer in sides.items()},
                repeats=bench.repeats,
                calls=bench.size(600, 150),
                after_repeat=bench.step,
            )
            reading = await medians(
                {name: _reading(peer) for name, peer in sides.items()}, repeats=bench.repeats, calls=20, block=5
            )
    others = [name for name in sides if name != RAW]
    return Result(
        [
            *(Figure(f"{name}, one message", "x XADD", ratios(writing[name], writing[RAW])) for name in others),
            *(
                Figure(f"{name}, last {LAST} of {length:,}", "x XREVRANGE", ratios(reading[name], reading[RAW]))
                for name in others
            ),
        ],
        remarks=remarks,
    )


def _adding(peer: Peer, bench: Bench) -> Callable[[], Awaitable[Any]]:
    messages = iter(bench.messages)
    return lambda: peer.add(WRITTEN, next(messages))


def _reading(peer: Peer) -> Callable[[], Awaitable[Any]]:
    return lambda: peer.last(READ)


@contextlib.asynccontextmanager
async def _raw(server: Server) -> AsyncIterator[Peer]:
    async with raw(server) as redis:

        async def last(session_id: str) -> list[Any]:
            entries = await answer(redis.xrevrange("raw-" + session_id, count=LAST))
            return [msgspec.json.decode(fields[b"e"]) for _, fields in reversed(entries)]

        yield Peer(lambda session_id, message: redis.xadd("raw-" + session_id, {"e": message.entry}), last)


@contextlib.asynccontextmanager
async def _ours(server: Server) -> AsyncIterator[Peer]:
    async with engine_on(server) as engine:
        yield Peer(
            lambda session_id, message: engine.add_conversation_message(session_id, **message.fields),
            lambda session_id: engine.get_conversation_history(session_id, limit=LAST),
        )


@contextlib.asynccontextmanager
async def _aiecs(server: Server) -> AsyncIterator[Peer]:
    """The ContextEngine whose API ours has. It takes its server from the environment."""
    module = importlib.import_module("aiecs.domain.context.context_engine")
    logging.getLogger("aiecs").setLevel(logging.ERROR)
    os.environ |= {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port)}
    engine = module.ContextEngine()
    await engine.initialize()
    try:
        yield Peer(
            lambda session_id, message: engine.add_conversation_message(
                session_id, message.fields["role"], _text(message), message.fields["metadata"]
            ),
            lambda session_id: engine.get_conversation_history(session_id, limit=LAST),
        )
    finally:
        await engine.close()


@contextlib.asynccontextmanager
async def _agents(server: Server) -> AsyncIterator[Peer]:
    """The session memory of the OpenAI Agents SDK. It has an object for each session."""
    module = importlib.import_module("agents.extensions.memory")
    sessions = {name: module.RedisSession.from_url(name, url=server.url) for name in (WRITTEN, READ)}
    try:
        yield Peer(
            lambda session_id, message: sessions[session_id].add_items(
                [{"role": message.fields["role"], "content": _text(message)}]
            ),
            lambda session_id: sessions[session_id].get_items(limit=LAST),
        )
    finally:
        for session in sessions.values():
            await session.close()


@contextlib.asynccontextmanager
async def _llama_index(server: Server) -> AsyncIterator[Peer]:
    """The chat store of LlamaIndex. It reads whole histories only."""
    store = importlib.import_module("llama_index.storage.chat_store.redis").RedisChatStore(redis_url=server.url)
    said = importlib.import_module("llama_index.core.base.llms.types").ChatMessage

    async def last(session_id: str) -> Any:
        return (await store.aget_messages(f"llama-{session_id}"))[-LAST:]

    yield Peer(
        lambda session_id, message: store.async_add_message(
            f"llama-{session_id}",
            said(role=message.fields["role"], content=_text(message), additional_kwargs=message.fields["metadata"]),
        ),
        last,
    )


def _text(message: Message) -> str:
    """Return the content as a text, which is what all of them take."""
    content = message.fields["content"]
    return content if isinstance(content, str) else "" if content is None else msgspec.json.encode(content).decode()


PEERS: dict[str, Entering] = {
    RAW: _raw,
    "contextengine": _ours,
    "aiecs ContextEngine": _aiecs,
    "openai-agents RedisSession": _agents,
    "llama-index RedisChatStore": _llama_index,
}
