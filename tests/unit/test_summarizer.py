"""Summaries: by whatever client there is, in time, or by the built-in summarizer, which says so."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest
from support.transcripts import chat, history, said

from projections.history import Message
from workers.compaction import CompressionConfig, summarizer
from workers.compaction.embeddings import embed
from workers.compaction.summarizer import EXTRACTIVE, Summary, chunks, summarize


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summarizer, "PAUSE", 0)


class Answer:
    """What a client's ``generate_text`` returns."""

    def __init__(self, content: Any) -> None:
        self.content = content


class Client:
    """An LLM client in the form of aiecs, which notes what it was asked."""

    provider_name = "fake"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers) or [Answer("In short.")]
        self.prompts: list[str] = []
        self.messages: list[Any] = []
        self.lengths: list[int | None] = []

    async def generate_text(
        self,
        messages: list[Any],
        model: str | None = None,
        temperature: float = 0.7,
        max_tokens: int | None = None,
        context: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        self.messages += messages
        self.prompts += [message.content for message in messages]
        self.lengths.append(max_tokens)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Plain(Client):
    async def generate_text(self, messages: list[Any]) -> Any:  # type: ignore[override]
        return await super().generate_text(messages)


class Kwargs(Client):
    async def generate_text(self, messages: list[Any], **kwargs: Any) -> Any:  # type: ignore[override]
        return await super().generate_text(messages, max_tokens=kwargs["max_tokens"])


async def summary_by(
    client: Any, messages: list[Message] | None = None, earlier: str | None = None, **settings: Any
) -> Summary:
    """Have messages summarized."""
    messages = history(*chat(4)) if messages is None else messages
    return await summarize(messages, earlier, config=CompressionConfig(**settings), client=client)


class TestClients:
    @pytest.mark.parametrize("form", [Client, Plain, Kwargs])
    @pytest.mark.parametrize(
        "answer", [Answer(" In short.\n"), "In short.", {"content": "In short."}], ids=["object", "text", "dict"]
    )
    async def test_forms(self, form: type[Client], answer: Any) -> None:
        """Any ``generate_text`` is taken, with a length if it takes one; its answer is an object, a text or a dict."""
        client = form(answer)
        assert await summary_by(client, summary_max_tokens=77) == Summary("In short.", "fake")
        assert client.lengths == [None if form is Plain else 77]

    async def test_messages_can_be_read_by_attribute_and_by_key(self) -> None:
        """Clients read the prompt as they read other messages, optional fields included."""
        client = Client()
        await summary_by(client)
        (message,) = client.messages
        assert (message.role, message["role"]) == ("user", "user")
        assert message["content"] == message.get("content") == message.content
        assert (message.images, message.tool_calls, message.tool_call_id) == ([], None, None)
        assert (message.get("nonsense"), message.get("nonsense", 5)) == (None, 5)
        with pytest.raises(KeyError):
            message["nonsense"]

    async def test_a_plain_function(self) -> None:
        """An async function from a prompt to a text is a client too."""
        prompts = []

        async def shorten(prompt: str) -> str:
            prompts.append(prompt)
            return "In short."

        assert await summary_by(shorten) == Summary("In short.", "shorten")
        assert "message <0>" in prompts[0]

    async def test_nobody(self) -> None:
        """Without a client the built-in summarizer writes it, and nothing has gone wrong."""
        summary = await summary_by(None)
        assert (summary.summarizer, summary.remark) == (EXTRACTIVE, None)
        assert "message <3>" in summary.text

    async def test_the_model_is_named(self) -> None:
        """By its model, if it says which."""
        client = Client()
        client.model = "model-1"  # type: ignore[attr-defined]
        assert (await summary_by(client)).summarizer == "model-1"


class TestFailure:
    @pytest.mark.parametrize(
        "bad",
        [
            *(Answer(content) for content in ("", " \n", None, 5, b"bytes", ["text"])),
            *({}, {"content": None}, None, "", 5),
            *(ValueError("bad"), TimeoutError("theirs"), KeyError(), AttributeError("x"), RuntimeError("\ud800\0")),
        ],
        ids=lambda bad: repr(getattr(bad, "content", bad)),
    )
    async def test_tried_again(self, bad: Any) -> None:
        """A model that fails or answers nothing is asked three times, and not once more."""
        client = Client(bad, bad, Answer("In short."))
        assert await summary_by(client) == Summary("In short.", "fake")
        client = Client(bad)
        summary = await summary_by(client)
        assert len(client.prompts) == summarizer.TRIES == 3
        assert summary.summarizer == EXTRACTIVE
        assert "message <3>" in summary.text
        assert summary.remark is not None
        assert summary.remark.startswith("the model failed (")
        assert summary.remark.encode().decode() == summary.remark

    @pytest.mark.parametrize(
        ("client", "remark"),
        [(lambda prompt: "no coroutine", "TypeError"), (object(), "object has no generate_text"), (5, "int has no")],
        ids=["plain", "object", "number"],
    )
    async def test_what_is_no_client(self, client: Any, remark: str) -> None:
        """It costs nobody the summary."""
        summary = await summary_by(client)
        assert summary.summarizer == EXTRACTIVE
        assert remark in str(summary.remark)

    async def test_a_model_that_hangs(self) -> None:
        """After the timeout the built-in summarizer does it; the model's task is cancelled."""
        cancelled = asyncio.Event()

        async def hang(prompt: str) -> str:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return ""

        summary = await summary_by(hang, compression_timeout=0.02)
        assert (summary.summarizer, summary.remark) == (EXTRACTIVE, "the model did not answer within 0.02 s")
        assert cancelled.is_set()

    async def test_the_timeout_is_that_of_all_tries_and_chunks(self) -> None:
        """Many answers, each in time, may not take longer together."""
        asked = 0

        async def dawdle(prompt: str) -> str:
            nonlocal asked
            asked += 1
            with anyio.move_on_after(0.03):
                await anyio.sleep_forever()
            return "In short."

        settings: dict[str, Any] = {"compression_timeout": 0.1, "summary_window_tokens": 100, "token_counter": len}
        summary = await summary_by(dawdle, history(*chat(200)), **settings)
        assert summary.summarizer == EXTRACTIVE
        assert 1 <= asked <= 4

    async def test_a_client_that_was_cancelled(self) -> None:
        """A client whose own task was cancelled has failed, no more."""

        async def cancelled(prompt: str) -> str:
            raise asyncio.CancelledError

        summary = await summary_by(cancelled)
        assert summary.summarizer == EXTRACTIVE
        assert "CancelledError" in str(summary.remark)

    async def test_whoever_waits_can_be_cancelled(self) -> None:
        """Cancelling the compaction itself is no failure of the model."""
        asked = asyncio.Event()

        async def hang(prompt: str) -> str:
            asked.set()
            await asyncio.Event().wait()
            return ""

        task = asyncio.create_task(summary_by(hang))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_a_long_error_is_cut(self) -> None:
        """What is said of an error fits into a line."""
        summary = await summary_by(Client(ValueError("x" * 10_000)))
        assert len(str(summary.remark)) < 600


class TestAnswers:
    async def test_too_long(self) -> None:
        """A model that does not stop does not fill the history that it was to shorten; the summary says so."""
        summary = await summary_by(Client(Answer("many words " * 5000)), summary_max_tokens=100)
        assert len(summary.text.encode()) <= 100 * summarizer.BYTES_PER_TOKEN
        assert "was cut" in str(summary.remark)
        assert summary.summarizer == "fake"

    async def test_a_little_too_long(self) -> None:
        """A summary up to twice its length is taken as it is: models count otherwise."""
        text = "x" * 150
        summary = await summary_by(Client(Answer(text)), summary_max_tokens=100, token_counter=len)
        assert summary == Summary(text, "fake")

    async def test_signs_and_digits(self) -> None:
        """The built-in summarizer keeps to the length in tokens, of a text too that has few bytes to a token."""
        messages = history(*({"role": "user", "content": f"#{n}: {{[{n}]}}, ({n * 7919})"} for n in range(300)))
        config = CompressionConfig(summary_max_tokens=100)
        summary = await summarize(messages, None, config=config, client=None)
        assert 50 < config.token_counter(summary.text) <= 100

    async def test_it_holds_up_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the built-in summarizer is at it, others go on."""
        goes_on = threading.Event()

        def patient(*_: Any) -> str:
            assert goes_on.wait(10)
            return "done"

        monkeypatch.setattr(summarizer, "extract", patient)
        summary = asyncio.create_task(summary_by(None))
        asyncio.get_running_loop().call_soon(goes_on.set)
        assert (await summary).text == "done"

    async def test_half_a_character(self) -> None:
        """Half of a surrogate pair, which no log can hold, is replaced."""
        summary = await summary_by(Client(Answer("so \ud83d far")))
        assert summary.text == "so ? far"

    async def test_a_client_with_an_odd_name(self) -> None:
        """A name that no log can hold is replaced likewise."""
        client = Client()
        client.model = "half \ud83d"  # type: ignore[attr-defined]
        assert (await summary_by(client)).summarizer == "half ?"


class TestPrompts:
    async def test_the_default(self) -> None:
        """It holds every message with its role, calls included, the length, and nothing that was not replaced."""
        client = Client()
        messages = history(said("{braces} %s"), {**said("", "assistant"), "tool_calls": [{"id": "call-7"}]})
        await summary_by(client, messages, summary_max_tokens=321)
        (prompt,) = client.prompts
        for text in ("user: {braces} %s", "assistant: ", "call-7", "321 tokens"):
            assert text in prompt
        assert "{messages}" not in prompt

    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("Briefly:\n{messages}", "Briefly:\nSummary of what was said before:\nBefore.\n\nuser: words"),
            ("{summary}|{messages}|{max_tokens}|{{}}", "Before.|user: words|500|{}"),
        ],
    )
    async def test_templates(self, template: str, expected: str) -> None:
        """A template of the original works; one with a place for the earlier summary gets it there."""
        client = Client()
        await summary_by(client, history(said()), "Before.", summary_prompt_template=template)
        assert client.prompts == [expected]

    async def test_incremental(self) -> None:
        """The earlier summary is in the prompt, in place of what it stands for."""
        client = Client()
        await summary_by(client, history(*chat(10))[6:], "What was before.")
        (prompt,) = client.prompts
        assert prompt.index("What was before.") < prompt.index("message <6>")
        assert "message <5>" not in prompt


def words(count: int) -> list[Message]:
    """Return messages of various lengths, each with a number of its own."""
    return history(*(said(f"<{n}>" + "x" * (n * 37 % 150) + f"</{n}>") for n in range(count)))


class TestChunks:
    @pytest.mark.parametrize("window", [100, 101, 150, 1000, 10**6])
    def test_every_message_once_and_in_order(self, window: int) -> None:
        """What does not fit the window at once comes in pieces that do; nothing is left out, doubled or moved."""
        messages = words(50)
        texts = list(chunks(messages, window, len))
        assert all(len(text) <= window for text in texts)
        lines = "".join(f"user: {message['content']}" for message in messages)
        assert "".join(texts).replace("\n\n", "") == lines
        assert (len(texts) == 1) is (window == 10**6)

    def test_one_message_longer_than_the_window(self) -> None:
        """It comes in pieces."""
        (message,) = history(said("".join(f"<{n}>" for n in range(1000))))
        texts = list(chunks([message], 100, len))
        assert len(texts) > 30
        assert "".join(texts) == f"user: {message['content']}"

    def test_a_counter_that_always_finds_too_much(self) -> None:
        """It comes to an end, character by character."""
        assert "".join(chunks(history(said("abc")), 100, lambda text: 1000)).replace("\n\n", "") == "user: abc"

    def test_nothing(self) -> None:
        """No messages, no prompts."""
        assert list(chunks([], 100, len)) == []

    async def test_each_prompt_holds_the_summary_so_far(self) -> None:
        """Every piece is summarized together with what came before it; nothing is dropped from the middle."""
        prompts: list[str] = []

        async def shorten(prompt: str) -> str:
            prompts.append(prompt)
            return f"Summary {len(prompts)}."

        messages = words(30)
        summary = await summary_by(shorten, messages, "Summary 0.", summary_window_tokens=400, token_counter=len)
        assert len(prompts) > 5
        assert summary.text == f"Summary {len(prompts)}."
        for number, prompt in enumerate(prompts):
            assert f"Summary {number}." in prompt
        everything = "".join(prompts)
        found = [everything.index(message["content"]) for message in messages]
        assert found == sorted(found)
        assert all(everything.count(message["content"]) == 1 for message in messages)


class TestEmbeddings:
    """How vectors are asked for, and what happens when there are none."""

    async def embed(self, client: Any, **settings: Any) -> tuple[Any, str | None]:
        return await embed(["one", "two"], config=CompressionConfig(**settings), client=client)

    async def test_by_a_client(self) -> None:
        """``get_embeddings`` is asked once for all texts, with the configured model."""
        asked = []

        class WithEmbeddings:
            async def get_embeddings(self, texts: list[str], model: str | None = None) -> list[list[float]]:
                asked.append((texts, model))
                return [[1, 0], [0, 1]]

        assert await self.embed(WithEmbeddings(), embedding_model="m") == ([[1.0, 0.0], [0.0, 1.0]], None)
        assert asked == [(["one", "two"], "m")]

    async def test_by_a_function(self) -> None:
        """A function of the configuration is asked rather than the client."""

        async def embeddings(texts: list[str]) -> list[list[float]]:
            return [[float(len(text))] for text in texts]

        assert await self.embed(Client(), embeddings=embeddings) == ([[3.0], [3.0]], None)

    @pytest.mark.parametrize("client", [None, Client()], ids=["none", "without"])
    async def test_without_any(self, client: Any) -> None:
        """Words are compared instead, and that is said: equal texts are alike, others are not."""
        vectors, remark = await self.embed(client)
        assert vectors[0] != vectors[1]
        assert "no embeddings" in str(remark)
        assert (await self.embed(client))[0] == vectors

    @pytest.mark.parametrize(
        "answer", [None, [], [[1.0]], [[1.0], [1.0, 2.0]], [["x"], ["y"]], 5, ValueError("half \ud800")], ids=repr
    )
    async def test_that_fail(self, answer: Any) -> None:
        """Vectors that are missing, of several lengths or none are as good as none."""

        async def embeddings(texts: list[str]) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        vectors, remark = await self.embed(None, embeddings=embeddings)
        assert len(vectors) == 2
        assert "the embeddings failed (" in str(remark)
        assert str(remark).encode()

    async def test_that_hang(self) -> None:
        """They are waited for no longer than for a summary."""

        async def embeddings(texts: list[str]) -> Any:
            await asyncio.Event().wait()

        _, remark = await self.embed(None, embeddings=embeddings, compression_timeout=0.02)
        assert "did not come within 0.02 s" in str(remark)
