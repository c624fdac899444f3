"""What the demo takes for a conversation, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from contextengine import ContextEngine

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from demonstration.input import BadInput, Conversation, parse, repeated  # noqa: E402 - it lies among the scripts

HELLO = {"role": "user", "content": "Hello"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"ref": "K7"}'}}


def jsonl(*lines: Any) -> bytes:
    """Return values as JSON lines."""
    return "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()


def conversation(session_id: str) -> Conversation:
    """Return a short conversation."""
    return Conversation(session_id, [dict(HELLO, metadata={})])


class TestConversations:
    def test_a_line_may_be_a_whole_conversation(self) -> None:
        """A line with messages is one session, with its user, metadata and context."""
        line = {
            "session_id": "s",
            "user_id": "u",
            "metadata": {"channel": "app"},
            "context": {"seat": "aisle"},
            "messages": [HELLO, {"role": "assistant", "content": "Hi", "metadata": {"model": "m"}}],
        }
        assert parse(jsonl(line, {**line, "session_id": "t"}), "file")[0] == Conversation(
            "s",
            [dict(HELLO, metadata={}), {"role": "assistant", "content": "Hi", "metadata": {"model": "m"}}],
            "u",
            {"channel": "app"},
            {"seat": "aisle"},
        )

    def test_other_keys_of_a_conversation_are_its_metadata(self) -> None:
        """What the demo does not know about a conversation is kept, and its own metadata comes first."""
        line = {"session_id": "s", "messages": [], "reward": 0.5, "trial": 1, "metadata": {"trial": 2}}
        assert parse(jsonl(line), "file") == [Conversation("s", [], None, {"reward": 0.5, "trial": 2})]

    def test_a_conversation_without_an_id_is_named_after_its_line(self) -> None:
        """Conversations that bear no session id get one that no other line has."""
        found = parse(jsonl({"messages": [HELLO]}, {"messages": [HELLO]}), "file")
        assert [each.session_id for each in found] == ["file-1", "file-2"]

    def test_names_may_be_whole_numbers(self) -> None:
        """Ids that are numbers in the file become texts."""
        (found,) = parse(jsonl({"session_id": 7, "user_id": 8, "messages": []}), "file")
        assert (found.session_id, found.user_id) == ("7", "8")

    def test_the_examples_can_be_read(self) -> None:
        """The conversations that come with the demo have users, contexts and tool calls."""
        examples = parse((SCRIPTS / "conversations.jsonl").read_bytes(), "conversations")
        assert all(each.user_id and each.context and each.messages for each in examples)
        assert any("tool_calls" in message for each in examples for message in each.messages)


class TestMessages:
    def test_a_file_of_messages_is_one_session(self) -> None:
        """Lines that are messages make one session, named after the file, in their order."""
        lines = [{"role": "user", "content": str(number)} for number in range(30)]
        (found,) = parse(jsonl(*lines), "file")
        assert found.session_id == "file"
        assert [message["content"] for message in found.messages] == [line["content"] for line in lines]

    def test_unknown_keys_of_a_message_are_its_metadata(self) -> None:
        """What a message bears besides its own fields is kept."""
        (found,) = parse(jsonl({**HELLO, "message_type": "action", "metadata": {"tokens": 3}}), "file")
        assert found.messages == [{**HELLO, "metadata": {"message_type": "action", "tokens": 3}}]

    def test_tool_calls_and_their_results_survive(self) -> None:
        """Null content, tool calls, tool messages and lists of parts come through unchanged."""
        lines: list[dict[str, Any]] = [
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": '{"a": "\u0001"}', "tool_call_id": "c1", "name": "look_up"},
            {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {}}]},
        ]
        (found,) = parse(jsonl(*lines), "file")
        assert found.messages == [{**line, "metadata": {}} for line in lines]

    def test_content_may_be_left_out_beside_tool_calls(self) -> None:
        """An assistant's message that only calls tools has null content."""
        (found,) = parse(jsonl({"role": "assistant", "tool_calls": [CALL]}), "file")
        assert found.messages == [{"role": "assistant", "content": None, "tool_calls": [CALL], "metadata": {}}]


class TestChatLogs:
    def test_every_channel_is_a_session(self) -> None:
        """Chat lines become messages of users with names; the rest of a line is metadata."""
        lines = [
            {"channel": "a", "ts": "2019-09-04T22:44:46Z", "author": "ann", "content": "one"},
            {"channel": "b", "author": "bob", "content": "two"},
            {"channel": "a", "author": "bob", "content": "three", "metadata": {"edited": True}},
        ]
        assert parse(jsonl(*lines), "file") == [
            Conversation(
                "a",
                [
                    {"role": "user", "content": "one", "name": "ann", "metadata": {"ts": "2019-09-04T22:44:46Z"}},
                    {"role": "user", "content": "three", "name": "bob", "metadata": {"edited": True}},
                ],
            ),
            Conversation("b", [{"role": "user", "content": "two", "name": "bob", "metadata": {}}]),
        ]

    @pytest.mark.parametrize("author", ["author", "user", "name"])
    @pytest.mark.parametrize("text", ["content", "text"])
    def test_the_usual_names_are_known(self, author: str, text: str) -> None:
        """Who wrote and what may be called as in the usual exports; without channels the file is one session."""
        (found,) = parse(jsonl({author: "ann", text: "hi", "ts": 1}), "file")
        assert found == Conversation("file", [{"role": "user", "content": "hi", "name": "ann", "metadata": {"ts": 1}}])

    def test_the_second_name_of_an_author_is_kept(self) -> None:
        """A line that names its author twice loses neither name."""
        (found,) = parse(jsonl({"author": "ann", "name": "Ann A.", "text": "hi"}), "file")
        assert found.messages == [{"role": "user", "content": "hi", "name": "ann", "metadata": {"name": "Ann A."}}]


class TestLines:
    @pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\u0085", "\x7f"])
    def test_only_a_newline_ends_a_line(self, odd: str) -> None:
        """Characters that Python takes for line ends may stand inside a JSON string."""
        (found,) = parse(jsonl({"role": "user", "content": f"a{odd}b"}), "file")
        assert found.messages[0]["content"] == f"a{odd}b"

    def test_what_windows_writes_is_read(self) -> None:
        """A byte order mark, carriage returns and empty lines do no harm."""
        content = b"\xef\xbb\xbf" + jsonl(HELLO) + b"\r\n\r\n" + jsonl(HELLO) + b"\r\n"
        assert len(parse(content, "file")[0].messages) == 2

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"hello", "not JSON: Expecting value at column 1"),
            (b'{"role": "user"', "not JSON"),
            (b'{"role": "user", "content": "\xff"}', "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"[]", "neither a conversation"),
            (b"17", "neither a conversation"),
            (b"{}", "neither a conversation"),
            (b'{"level": "info", "event": "started"}', "neither a conversation"),
            (b'{"role": "admin"}', "neither a conversation"),
            (b'{"author": "ann"}', "neither a conversation"),
            (b'{"author": null, "text": "hi"}', '"author" must be a text'),
            (b'{"author": "ann", "text": "hi", "channel": {}}', '"channel" must be a text'),
            (b'{"role": "", "content": "hi"}', '"role" must be a text'),
            (b'{"role": "user", "content": "hi", "metadata": []}', '"metadata" must be an object'),
            (b'{"role": "user", "content": "hi", "name": 5}', "cannot be stored"),
            (b'{"role": "user", "content": NaN}', "cannot be stored"),
            (b'{"role": "user", "content": 1e400}', "cannot be stored"),
            (b'{"role": "user", "content": "\\ud800"}', "cannot be stored"),
            (b'{"role": "user", "content": "' + b"x" * 1024 * 1024 + b'"}', "over the limit"),
            (b'{"messages": {}}', '"messages" must be a list'),
            (b'{"messages": [{"role": "user", "content": "hi"}, "hi"]}', "message 2: it must be an object"),
            (b'{"messages": [{"role": "user", "content": NaN}]}', "message 1: A MessageAdded cannot be stored"),
            (b'{"messages": [], "session_id": ""}', '"session_id" must be a text'),
            (b'{"messages": [], "session_id": "a\\u0000"}', "NUL"),
            (b'{"messages": [], "user_id": []}', '"user_id" must be a text'),
            (b'{"messages": [], "context": []}', '"context" must be an object'),
            (b'{"messages": [], "context": {"": 1}}', "context key must not be empty"),
            (b'{"messages": [], "context": {"a": NaN}}', "A ContextSet cannot be stored"),
            (b'{"messages": [], "metadata": {"a": NaN}}', "A SessionStarted cannot be stored"),
            (b'{"messages": [], "session_id": "first"}', "an earlier line is the session 'first' already"),
        ],
        ids=lambda value: value[:40] if isinstance(value, bytes) else "",
    )
    def test_a_bad_line_is_named(self, line: bytes, reason: str) -> None:
        """A line that cannot be recorded is refused by its number, with the reason, before anything is recorded."""
        first = jsonl({"session_id": "first", "messages": []})
        with pytest.raises(BadInput, match=r"^line 3: ") as caught:
            parse(first + b"\n\n" + line + b"\n" + first, "file")
        assert reason in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
    def test_an_empty_file_is_refused(self, content: bytes) -> None:
        """A file without a conversation is an error, not a demo of nothing."""
        with pytest.raises(BadInput, match="no conversation"):
            parse(content, "file")


class TestRepeated:
    def test_fewer_are_repeated_under_other_ids(self) -> None:
        """Too few conversations come again and again, each time as other sessions."""
        found = repeated([conversation("a"), conversation("b")], 5)
        assert [each.session_id for each in found] == ["a", "b", "a~2", "b~2", "a~3"]
        assert all(each.messages == found[0].messages for each in found)

    def test_more_are_cut(self) -> None:
        """Of too many conversations the first are taken."""
        assert [each.session_id for each in repeated([conversation("a"), conversation("b")], 1)] == ["a"]

    def test_a_copy_never_takes_an_id_of_the_file(self) -> None:
        """An id that the file uses itself is not given to a copy."""
        found = repeated([conversation("a"), conversation("a~2")], 6)
        assert len({each.session_id for each in found}) == 6


async def test_what_is_read_is_what_the_engine_gives_back() -> None:
    """A conversation that was accepted can be recorded, and comes back from the engine as it was read."""
    lines = [
        {"role": "assistant", "content": None, "tool_calls": [CALL], "message_type": "action"},
        {"role": "tool", "content": "\u0000\u2028\U0001f469", "tool_call_id": "c1", "name": "look_up"},
        {"author": "ann", "text": ["a", {"b": 2**70}], "ts": -0.5},
    ]
    (found,) = parse(jsonl(*lines), "file")
    async with ContextEngine("memory://", workers=False) as engine:
        await engine.add_conversation_messages("s", found.messages)
        history = await engine.get_conversation_history("s", limit=None)
    measured = {"timestamp", "version"}
    assert [{k: v for k, v in message.items() if k not in measured} for message in history] == found.messages
