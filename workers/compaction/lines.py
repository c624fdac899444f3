"""The lines of a summary, not yet shortened: one for each thing that was said, called or answered.

``user: ...``, ``user ann: ...``, ``assistant -> get_flight(date: 2024-05-20)``, ``tool get_flight: {...}``. Messages
may be in OpenAI's form or made of Anthropic's content blocks; whatever else they hold is written as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from workers.compaction.facts import facts
from workers.compaction.fragments import MARK, NEW_LINE, Fragment, Node, is_json, prose, structure

Message: TypeAlias = Mapping[str, Any]
"""A message of a history: ``role``, ``content``; perhaps ``name``, ``tool_calls``, ``tool_call_id``."""

LONGEST = 64
"""Characters of a role or name."""
CALLS = " -> "


@dataclass(frozen=True, slots=True)
class Line:
    """A line: whose it is, how recent (0: of an earlier summary; 1: of the last message), and its tree."""

    role: str
    recency: float
    tree: Node


def lines_of(messages: Sequence[Message]) -> Iterator[Line]:
    """Give the lines of messages, in their order."""
    names: dict[str, str] = {}
    for number, message in enumerate(messages, 1):
        role = _word(message.get("role")) or "message"
        for tree in _trees(role, message, names):
            yield Line(role, number / len(messages), tree)


def _trees(role: str, message: Message, names: dict[str, str]) -> Iterator[Node]:
    """Give what a message says and calls.

    Args:
        role: Its role.
        message: The message.
        names: The tools that were called, by the call's id; gets those of this message.
    """
    several = message.get("tool_call_ids")
    answered = [message.get("tool_call_id"), *(several if isinstance(several, list) else ())]
    called = (names[call] for call in answered if isinstance(call, str) and call in names)
    yield from _content(role, _word(message.get("name")) or next(called, ""), message.get("content"), names)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        match call:
            case {"function": {"name": name, "arguments": arguments}}:
                yield _call(role, call.get("id"), name, arguments, names)
            case _:
                yield _call(role, None, "", call, names)


def _content(role: str, name: str, content: Any, names: dict[str, str]) -> Iterator[Node]:
    head = f"{role} {name}: " if name else f"{role}: "
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        if content not in (None, "", [], {}):
            yield _body(head, content)
        return
    for part in content:
        match part:
            case {"type": "tool_use", "name": called}:
                yield _call(role, part.get("id"), called, part.get("input"), names)
            case {"type": "tool_result", "content": result}:
                call = part.get("tool_use_id")
                yield from _content("tool", names.get(call, "") if isinstance(call, str) else "", result, names)
            case {"text": str(text)}:
                yield _body(head, text)
            case _:
                yield _body(head, part)


def _call(role: str, call: Any, name: Any, arguments: Any, names: dict[str, str]) -> Node:
    name = _word(name)
    if isinstance(call, str):
        names[call] = name
    text, head = _text(arguments), f"{role}{CALLS}{name}"
    if arguments is None or text.strip() in ("", "{}", "null"):
        tree: Node | None = prose(head, "", "()")
    else:
        tree = structure(head, text, ("(", ")")) if is_json(text) else None
    tree = tree or prose(head + "(", ")", text)
    tree.facts = facts(name)
    return tree


def _body(head: str, content: Any) -> Node:
    text = _text(content)
    tree = structure(head, text) if is_json(text) else None
    return tree or prose(head, "", text)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    try:
        return json.dumps(content, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(content)


def _word(value: Any) -> str:
    """Return a role or a name, which may be anything, as one word."""
    return re.sub(r"[\s:()]+", "_", str(value)[:LONGEST]) if value else ""


_LINE_ENDS = re.compile(r"\n(?!  )")
_LINE = re.compile(
    rf"(?P<call>[^\s:(]{{1,{LONGEST}}}+{CALLS}[^\s:(]{{0,{LONGEST}}}+)\((?P<arguments>.*)\)"
    rf"|(?P<head>[^\s:]{{1,{LONGEST}}}+(?: [^\s:]{{1,{LONGEST}}}+)?+: )(?P<said>.*)",
    re.DOTALL,
)


def lines_in(summary: str) -> Iterator[Line]:
    """Give the lines of an earlier summary; of any other text, too, as well as may be."""
    for line in _LINE_ENDS.split(summary):
        if line.strip():
            tree = _read(line)
            yield Line(re.split(r"[\s:]", line, maxsplit=1)[0], 0.0, tree)


def _read(line: str) -> Node:
    whole = line.removesuffix(" " + MARK)
    match = _LINE.fullmatch(whole)
    tree: Node | None = None
    if match and match["call"]:
        tree = structure(match["call"], "{" + match["arguments"] + "}", ("(", ")"))
    elif match and match["said"].startswith(("{", "[")):
        tree = structure(match["head"], match["said"])
    if tree is None:
        head = match["head"] if match and match["head"] else ""
        return prose(head, "", line[len(head) :].replace(NEW_LINE, "\n"), marked=True)
    if whole != line:
        tree.add(Fragment(""))
    return tree
