"""Texts and JSON taken apart: what can be kept or dropped by itself, and what must stand around it.

A line of a summary is a tree. Its leaves are fragments: a sentence, or a value of JSON with its key. Its inner nodes
are the brackets and keys around them. JSON is written nearly as YAML writes it within one line: ``{flight: HAT039,
seats: [14A, 14B]}``. Every value is spelled as it was in the JSON, without its quotes where it needs none; so what is
written can be taken apart again, and a summary be summarised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from workers.compaction.facts import ID, facts, facts_of_key

MARK = "\N{HORIZONTAL ELLIPSIS}"
"""Stands where something was left out."""
NEW_LINE = "\n  "
"""How a line of the summary goes on in the next line of text."""
LONGEST = 160
"""Characters of a fragment, about; what is longer is cut at spaces."""
SHORTEST = 12
"""Characters of a sentence; what is shorter (``1.``, ``Mr.``) belongs to the next."""
DEEPEST = 60
"""Levels of JSON that are taken apart; what is nested deeper is taken for a text."""
MOST = 4096
"""Fragments of a text, about, at most: a very long one is taken apart less finely."""
WIDEST = 16
"""Spaces of a line's indentation that are kept."""


@dataclass(slots=True, eq=False)
class Fragment:
    """A leaf, which is kept or dropped as a whole.

    Attributes:
        text: What is written; empty where an earlier summary left something out, which nobody can keep.
        lead: What stands before it where something of its node does, too, or a mark.
        facts: What it tells, and the weights.
    """

    text: str
    lead: str = ", "
    facts: dict[str, float] = field(default_factory=dict)
    parent: Node | None = None
    place: int = 0
    kept: bool = False


@dataclass(slots=True, eq=False)
class Node:
    """An inner node: what stands around its items, as soon as one of them is kept.

    Attributes:
        head: What stands before the items.
        tail: What stands after them.
        facts: What the head tells, and the weights.
        prose: Whether the items are those of a text: then a mark stands wherever some were left out.
        anchor: The item that tells what the others belong to; it is kept with any of them.
    """

    head: str
    tail: str = ""
    facts: dict[str, float] = field(default_factory=dict)
    prose: bool = False
    parent: Node | None = None
    place: int = 0
    kept: bool = False
    items: list[Fragment | Node] = field(default_factory=list)
    anchor: Fragment | None = None

    def add(self, item: Fragment | Node) -> None:
        """Put an item at the end."""
        item.parent, item.place = self, len(self.items)
        self.items.append(item)

    def add_or_join(self, leaf: Fragment, least: int) -> None:
        """Put a leaf at the end, or to the text of the leaf that is there if that has fewer characters than these."""
        last = self.items[-1] if self.items else None
        if isinstance(last, Fragment) and 0 < len(last.text) < least:
            last.text += leaf.lead + leaf.text
            last.facts |= leaf.facts
        else:
            self.add(leaf)


_LINE_ENDS = re.compile(r"[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")
_ESCAPED_LINE_ENDS = re.compile(r"(?<!\\)(?:\\r)?\\n")
_SENTENCE = re.compile(r"[.!?]{1,4}+[\"')\]]{0,4}+\s++(?=[^\sa-z(])|[\u3002\uff01\uff1f]++")


def prose(head: str, tail: str, text: str, *, escaped: bool = False, marked: bool = False) -> Node:
    """Return the tree of a text: its sentences, line by line.

    Args:
        head: What stands before it.
        tail: What stands after it.
        text: The text.
        escaped: Whether it is the inside of a string of JSON, where a line ends with an escape.
        marked: Whether a mark in it says that an earlier summary left something out.
    """
    node = Node(head, tail, prose=True)
    for line_number, line in enumerate((_ESCAPED_LINE_ENDS if escaped else _LINE_ENDS).split(text)):
        indentation = line[: min(len(line) - len(line.lstrip(" ")), WIDEST)]
        lead = (r"\n" if escaped else NEW_LINE) + indentation if line_number else ""
        for number, part in enumerate(line.split(MARK) if marked else (line,)):
            if number:
                node.add(Fragment("", " "))
                lead = lead or " "
            for start, piece in _pieces(part):
                spaced = " " if start and part[start - 1].isspace() else ""
                node.add_or_join(Fragment(piece, (lead or spaced) if node.items else ""), len(text) // MOST)
                lead = ""
    for item in node.items:
        if isinstance(item, Fragment):
            item.facts = facts(item.text)
    return node


def _pieces(line: str) -> Iterator[tuple[int, str]]:
    """Give the sentences of a line, and where they begin."""
    start = 0
    for match in _SENTENCE.finditer(line):
        if match.end() - start > SHORTEST:
            yield from _cut(line, start, match.end())
            start = match.end()
    yield from _cut(line, start, len(line))


def _cut(line: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    """Give a sentence; in pieces of about the same length if it is long; without spaces that say nothing."""
    pieces = max(1, -(-(end - start) // LONGEST))
    length = -(-(end - start) // pieces)
    while start < end:
        stop = min(end, start + length + 1)
        if stop < end:
            before, after = line.rfind(" ", start + length // 2, stop), line.find(" ", stop, stop + LONGEST)
            stop = before + 1 or after + 1 or stop
        if piece := " ".join(line[start:stop].split()):
            yield start, piece
        start = stop


def is_json(text: str) -> bool:
    """Tell whether a text is a JSON object or list."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


_TOKEN = re.compile(
    r"\s*+(?:\"(?P<key>(?:[^\"\\]++|\\.)*+)\"\s*+:|\"(?P<string>(?:[^\"\\]++|\\.)*+)\"|(?P<open>[{\[])|"
    r"(?P<close>[}\]])|(?P<comma>,)|(?P<word>[^\s,{}\[\]\"]++))",
    re.DOTALL,
)
_NEEDS_NO_QUOTES = re.compile(rf"[^\s,{{}}\[\]\"{MARK}]*+(?<!:)")
_CLOSING = {"{": "}", "[": "]"}


def structure(head: str, text: str, brackets: tuple[str, str] | None = None) -> Node | None:
    """Return the tree of a JSON object or list, or of one that a summary holds; None if it is neither, or empty.

    Args:
        head: What stands before it.
        text: The text.
        brackets: What is written for the outermost brackets; by default, what the text has.
    """
    text = text.strip()
    root: Node | None = None
    node: Node | None = None
    key, depth, position = "", 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or (node is None and (root or match.lastgroup != "open")):
            return None
        position, token = match.end(), match[match.lastgroup or 0]
        match match.lastgroup:
            case "open":
                depth += 1
                if depth > DEEPEST:
                    return None
                opening, closing = (brackets if brackets and root is None else None) or (token, _CLOSING[token])
                inner = Node(_label(key) + opening, closing, facts_of_key(key))
                if node is None:
                    inner.head = head + opening
                    root = inner
                else:
                    node.add(inner)
                node, key = inner, ""
            case "close" if node is not None:
                node, depth, key = _closed(node), depth - 1, ""
            case "key":
                key = _spelled(token)
            case "word" if token.endswith(":") and len(token) > 1:
                key = token[:-1]
            case "word" | "string" if node is not None:
                _value(node, key, token, quoted=match.lastgroup == "string", least=len(text) // MOST)
                key = ""
    return root if node is None and root and root.items else None


def _closed(node: Node) -> Node | None:
    """Return the node in which a node lies; an empty object or list becomes a value of that."""
    if node.parent and not node.items:
        node.parent.items.pop()
        node.parent.add(Fragment(node.head + node.tail))
    return node.parent


def _value(node: Node, key: str, value: str, *, quoted: bool, least: int) -> None:
    """Add a value to an object or list."""
    if quoted and len(value) > LONGEST:
        inner = prose(f'{_label(key)}"', '"', value, escaped=True, marked=True)
        inner.facts = facts_of_key(key)
        node.add(inner)
        return
    leaf = Fragment(
        _label(key) + (_spelled(value) if quoted else value), facts=facts(value, value=True) | facts_of_key(key)
    )
    node.add_or_join(leaf, least)
    if leaf.parent and node.head == "{" and (node.anchor is None or _heaviest(leaf) >= ID > _heaviest(node.anchor)):
        node.anchor = leaf


def _heaviest(leaf: Fragment) -> float:
    return max(leaf.facts.values(), default=0.0)


def _label(key: str) -> str:
    return f"{key}: " if key else ""


def _spelled(value: str) -> str:
    """Return a string of JSON in quotes if it needs them."""
    return value if value and _NEEDS_NO_QUOTES.fullmatch(value) else f'"{value}"'
