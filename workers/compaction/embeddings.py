"""Vectors of texts for the strategies that compare them."""

from __future__ import annotations

import asyncio
import functools
import math
import re
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from eventstore.errors import CompactionFailed
from eventstore.logs import get_logger
from workers.compaction.config import CompressionConfig
from workers.compaction.summarizer import in_words

log = get_logger("compaction")

DIMENSIONS = 512
_WORD = re.compile(r"\w+")


async def embed(
    texts: list[str], *, config: CompressionConfig, client: Any
) -> tuple[Sequence[Sequence[float]], str | None]:
    """Return a vector for each text, and a remark where no model has made them.

    Args:
        texts: The texts.
        config: Its ``embeddings`` function is asked first; its timeout holds.
        client: An LLM client; asked if it has ``get_embeddings``.
    """
    remark = "no embeddings are at hand"
    ask = _how_to_ask(texts, config, client)
    if ask is not None:
        deadline = asyncio.timeout(config.compression_timeout)
        try:
            async with deadline:
                return _checked(await ask(), len(texts)), None
        except Exception as error:  # noqa: BLE001 - whatever a client raises, words can be compared instead
            late = f"did not come within {config.compression_timeout:g} s"
            remark = f"the embeddings {late if deadline.expired() else f'failed ({in_words(error)})'}"
        log.warning("Messages were compared without embeddings.", action="compared_by_words", reason=remark)
    return [by_words(text) for text in texts], f"{remark}: messages were compared by their words"


def _how_to_ask(texts: list[str], config: CompressionConfig, client: Any) -> Callable[[], Awaitable[Any]] | None:
    if config.embeddings is not None:
        return functools.partial(config.embeddings, texts)
    get: Callable[..., Awaitable[Any]] | None = getattr(client, "get_embeddings", None)
    return functools.partial(get, texts=texts, model=config.embedding_model) if callable(get) else None


def _checked(vectors: Any, count: int) -> list[list[float]]:
    """Return vectors as plain floats.

    Raises:
        CompactionFailed: They are not so many, or of several lengths.
    """
    found = [[float(part) for part in vector] for vector in vectors]
    if len(found) != count or len({len(vector) for vector in found}) > 1:
        raise CompactionFailed(f"{count} texts were to be embedded, and {len(found)} vectors came back")
    return found


def by_words(text: str) -> list[float]:
    """Return a vector of a text's words, which no model has seen: how often each occurs, hashed to a place.

    The hashing trick of Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (2009).
    """
    vector = [0.0] * DIMENSIONS
    for word in _WORD.findall(text.casefold()):
        digest = zlib.crc32(word.encode())
        vector[digest % DIMENSIONS] += 1.0 if digest & 0x80000000 else -1.0
    return [math.copysign(math.sqrt(abs(part)), part) for part in vector]
