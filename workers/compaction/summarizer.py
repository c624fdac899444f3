"""Summaries: by a model where there is one and it answers in time, else by the built-in summarizer, which says so."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from eventstore.errors import CompactionFailed
from eventstore.logs import get_logger
from projections.history import Message
from workers.compaction.config import CompressionConfig
from workers.compaction.extractive import extract
from workers.compaction.tokens import TokenCounter
from workers.compaction.transcript import text_of, tokens_of_text

log = get_logger("compaction")

EXTRACTIVE = "extractive"
TRIES = 3
PAUSE = 0.2
"""Seconds before the second try; each further one waits twice as long."""
BYTES_PER_TOKEN = 4
LONGEST_REMARK = 500
LONGEST = 2
"""A summary of so many times its length is cut."""

BETWEEN = "\n\n"
TEMPLATE = """\
Below is the older part of a conversation between a user and an assistant, who will go on with it. Only your summary \
of it will be left to them. Write it so that nothing is missed that may still matter: what the user wants and has said \
about themselves, what was decided and done, open questions, and every name, number, identifier, date, path and amount \
exactly as it stands. Leave out greetings and repetition. Write at most {max_tokens} tokens.

{messages}

Summary:"""


class Summary(msgspec.Struct, frozen=True):
    """A summary, who wrote it, and what did not go as configured."""

    text: str
    summarizer: str
    remark: str | None = None


class PromptMessage:
    """A message to a model, in the shape that LLM clients read by attribute or by key."""

    def __init__(self, role: str, content: str) -> None:
        """Take the text; everything else that such a message may have is empty."""
        self.role = role
        self.content = content
        self.images: list[Any] = []
        self.tool_calls = None
        self.tool_call_id = None
        self.cache_control = None
        self.thought_signature = None

    def __getitem__(self, name: str) -> Any:
        """Read it like a dict."""
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def get(self, name: str, default: Any = None) -> Any:
        """Read it like a dict."""
        return getattr(self, name, default)


async def summarize(
    messages: Sequence[Message], earlier: str | None, *, config: CompressionConfig, client: Any
) -> Summary:
    """Summarize messages, together with the summary of what came before them.

    Args:
        messages: The messages that have aged since the earlier summary, oldest first.
        earlier: The earlier summary.
        config: Its lengths, prompt, timeout.
        client: Something with ``generate_text``, or an async function from a prompt to a text; None for the built-in
            summarizer.
    """
    remark = None
    if client is not None and not can_write(client):
        remark = f"{type(client).__name__} has no generate_text"
    elif client is not None:
        deadline = asyncio.timeout(config.compression_timeout)
        try:
            async with deadline:
                text = await _by_model(messages, earlier, config, client)
            return await _cut(text, name_of(client), config)
        except (Exception, asyncio.CancelledError) as error:
            # Whatever a client raises must not cost the conversation its summary, even that its own task was cancelled.
            if isinstance(error, asyncio.CancelledError) and _cancelled():
                raise
            late = f"did not answer within {config.compression_timeout:g} s"
            remark = f"the model {late if deadline.expired() else f'failed ({in_words(error)})'}"
        log.warning("A summary was made without the model.", action="summary_without_model", reason=remark)
    return Summary(await _extracted(messages, earlier or "", config), EXTRACTIVE, remark)


async def _extracted(messages: Sequence[Message], earlier: str, config: CompressionConfig) -> str:
    """Have the built-in summarizer write a summary, in a thread: a second for each megabyte would hold up this loop.

    It knows bytes, and signs and digits have fewer of them to a token; so if it comes out too long, it is made again.
    """
    budget = config.summary_max_tokens * BYTES_PER_TOKEN
    while True:
        text = await asyncio.to_thread(extract, messages, budget, earlier)
        tokens = tokens_of_text(text, config.token_counter)
        if tokens <= config.summary_max_tokens or not budget:
            return text
        budget = budget * config.summary_max_tokens // (tokens + 1)


def _cancelled() -> bool:
    """Whether somebody cancels this task."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def in_words(error: BaseException) -> str:
    """Return an error as a text that a log can hold, whatever a client put into it."""
    return _storable(f"{type(error).__name__}: {error}"[:LONGEST_REMARK])


def _storable(text: str) -> str:
    """Replace half characters, which no log can hold."""
    return text.encode(errors="replace").decode()


def can_write(client: Any) -> bool:
    """Whether a client can be asked for a summary. One that only makes embeddings cannot."""
    return callable(client) or callable(getattr(client, "generate_text", None))


def name_of(client: Any) -> str:
    """Return what to call a client: its provider or model, else its own name."""
    for attribute in ("model", "model_name", "provider_name", "__name__"):
        name = getattr(client, attribute, None)
        if isinstance(name, str) and name:
            return _storable(name[:200])
    return type(client).__name__


async def _cut(text: str, name: str, config: CompressionConfig) -> Summary:
    """Keep a model that does not stop from filling the history that it was to shorten."""
    whole = _storable(text)
    tokens = tokens_of_text(whole, config.token_counter)
    if tokens <= LONGEST * config.summary_max_tokens:
        return Summary(whole, name)
    cut = await _extracted([], whole, config)
    return Summary(cut, name, f"the model's summary had {tokens} tokens, and was cut")


async def _by_model(messages: Sequence[Message], earlier: str | None, config: CompressionConfig, client: Any) -> str:
    """Feed the messages to the model, as much at a time as fits its window; each summary goes into the next prompt."""
    summary = earlier
    for chunk in chunks(messages, config.summary_window_tokens, config.token_counter):
        summary = await _ask(client, _prompt(chunk, summary, config), config)
    if not summary:
        raise CompactionFailed("there is nothing to summarize")
    return summary


def chunks(messages: Sequence[Message], window: int, counter: TokenCounter) -> Iterator[str]:
    """Give the messages as texts that each fit a window of tokens. What does not fit at once comes in pieces."""
    parts: list[str] = []
    size, between = 0, counter(BETWEEN)
    for line in (f"{message['role']}: {text_of(message)}" for message in messages):
        for piece in _pieces(line, window, counter):
            tokens = between + counter(piece)
            if parts and size + tokens > window:
                yield BETWEEN.join(parts)
                parts, size = [], 0
            size += tokens if parts else tokens - between
            parts.append(piece)
    if parts:
        yield BETWEEN.join(parts)


def _pieces(text: str, window: int, counter: TokenCounter) -> Iterator[str]:
    """Cut a text so that each piece fits. Halving needs few counts, and cuts no worse than any other way."""
    if len(text) <= 1 or counter(text) <= window:
        yield text
        return
    middle = len(text) // 2
    yield from _pieces(text[:middle], window, counter)
    yield from _pieces(text[middle:], window, counter)


def _prompt(chunk: str, summary: str | None, config: CompressionConfig) -> str:
    template = config.summary_prompt_template or TEMPLATE
    if summary and "{summary}" not in template:
        chunk = f"Summary of what was said before:\n{summary}\n\n{chunk}"
    return template.format(messages=chunk, summary=summary or "", max_tokens=config.summary_max_tokens)


async def _ask(client: Any, prompt: str, config: CompressionConfig) -> str:
    """Ask a model for a text, three times at most.

    Raises:
        Exception: Whatever it raised the third time; `CompactionFailed` if it answered, but no text.
    """
    for attempt in range(1, TRIES + 1):
        try:
            text = _text(await _generate(client, prompt, config.summary_max_tokens))
        except Exception as error:
            if attempt == TRIES:
                raise
            log.info("A model failed, and is asked again.", action="summary_retried", reason=in_words(error))
            await asyncio.sleep(PAUSE * 2 ** (attempt - 1))
        else:
            return text
    raise AssertionError  # pragma: no cover - the last try returns or raises


async def _generate(client: Any, prompt: str, max_tokens: int) -> Any:
    generate: Callable[..., Any] | None = getattr(client, "generate_text", None)
    if generate is None:
        return await client(prompt)
    messages = [PromptMessage("user", prompt)]
    return await (generate(messages, max_tokens=max_tokens) if _takes_length(generate) else generate(messages))


def _takes_length(generate: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(generate).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(parameter.name == "max_tokens" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _text(answer: Any) -> str:
    """Return the text of a model's answer.

    Raises:
        CompactionFailed: There is none.
    """
    content = answer if isinstance(answer, str) else getattr(answer, "content", None)
    if content is None and isinstance(answer, dict):
        content = answer.get("content")
    if not isinstance(content, str) or not content.strip():
        raise CompactionFailed(f"the model's answer holds no text: {answer!r:.200}")
    return content.strip()
