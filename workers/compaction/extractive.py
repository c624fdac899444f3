"""A summary made of the messages' own words, without a model: what bears the ids, numbers and names is kept.

Which fragments to keep is the budgeted maximum coverage problem: every fact counts once, however often it is said, and
the best known simple answer takes again and again what brings most for its bytes (Khuller, Moss and Naor, 1999; for
summaries, Lin and Bilmes, 2010). A heap holds what each fragment would bring; since that changes only when one of its
own facts is kept elsewhere, or its surroundings are, all of it costs n log n (Minoux' lazy greedy, 1978).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from workers.compaction.facts import WORD
from workers.compaction.fragments import MARK, Fragment, Node
from workers.compaction.lines import CALLS, Line, Message, lines_in, lines_of

ASKED = 1.5
"""How much more a fact weighs that a user said or a tool was called with: that one is in play."""
TOLD = 0.5
"""How much less one of the system's instructions does: they are rarely what a history is compacted for."""
WORDS_OF_USERS = 2.0
"""How much more a user's plain words weigh: they are the task."""
RECENCY = 1.0
"""How much more a fact of the last message weighs than one of the first."""
REPEATED, REPEATS = 0.25, 3
"""How much more a fact weighs for each further line that bears it, up to so many."""
ANYTHING = 0.02
"""What a fragment without a new fact brings: it is kept if there is room."""
FRAGMENT = 8
"""Bytes that a fragment is taken to be longer, in the choice: many scraps read worse than a few sentences."""

MARKED, SEPARATED, ENDED = len(f" {MARK}".encode()), len(", "), len("\n")


def extract(messages: Sequence[Message], budget: int, earlier: str = "") -> str:
    """Return the messages condensed to a budget; the same for the same arguments, on every machine.

    One line for each message or tool call of which something is kept, in their order; a line that goes on is indented
    by two spaces. ``…`` says that something was left out. Values are spelled as in the messages.

    Args:
        messages: Messages of a history, oldest first; any JSON in them.
        budget: Bytes in UTF-8 that the result has at most; where nothing fits, the result is empty.
        earlier: What this function returned for older messages. Its lines come first and compete for the budget.
    """
    lines = [*lines_in(earlier), *lines_of(messages)]
    for line in lines:
        _keep_all(line.tree)
    whole = _written(lines)
    if bytes_of(whole) <= budget:
        return whole
    for line in lines:
        _keep_all(line.tree, kept=False)
    _Choice(lines).spend(budget)
    return _written(lines)


def bytes_of(text: str) -> int:
    """Return the size of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class _Choice:
    """The fragments among which to choose, and what the facts weigh that none of the kept ones bears."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._weights = _weights(lines)
        self._fragments = [item for line in lines for item in _items(line.tree) if isinstance(item, Fragment)]
        self._numbers = {id(fragment): number for number, fragment in enumerate(self._fragments)}
        self._heap = [self._offer(fragment) for fragment in self._fragments if fragment.text]
        heapify(self._heap)

    def spend(self, budget: int) -> None:
        """Keep fragments, the best first, as long as the budget lasts."""
        budget += ENDED  # the last line has no end
        while self._heap:
            value, number = heappop(self._heap)
            fragment = self._fragments[-number]
            if fragment.kept:
                continue
            offer = self._offer(fragment)
            if offer[0] > value and self._heap and offer > self._heap[0]:
                heappush(self._heap, offer)
            elif (cost := _cost(fragment)) <= budget:
                budget -= cost
                for changed in self._keep(fragment):
                    heappush(self._heap, self._offer(changed))

    def _offer(self, fragment: Fragment) -> tuple[float, int]:
        """Return what a fragment brings for its bytes, negative, so that the best comes first; and the newest."""
        found = fragment.facts
        for node in _unopened(fragment):
            found = found | node.facts | (node.anchor.facts if node.anchor else {})
        gain = sum([self._weights[fact] for fact in found if fact in self._weights], ANYTHING)
        return -gain / (FRAGMENT + _cost(fragment)), -self._numbers[id(fragment)]

    def _keep(self, fragment: Fragment) -> Iterator[Fragment]:
        """Keep a fragment and what must stand around it; give the fragments that cost less from now on."""
        opened = list(_unopened(fragment))
        anchors = [node.anchor for node in opened if node.anchor]
        kept: list[Fragment | Node] = [fragment, *opened, *anchors]
        for item in kept:
            item.kept = True
            for fact in item.facts:
                self._weights.pop(fact, None)
        for node in opened:
            yield from _waiting(node.items)
        parent = fragment.parent
        if not opened and parent and parent.prose:
            yield from _waiting(parent.items[max(0, fragment.place - 1) : fragment.place + 2])


def _weights(lines: Sequence[Line]) -> dict[str, float]:
    """Return what every fact weighs: as much as where it weighs most, and more if many lines bear it."""
    weights: dict[str, float] = {}
    bearing: dict[str, tuple[int, int]] = {}
    for number, line in enumerate(lines):
        factor = (1 + RECENCY * line.recency) * (ASKED if CALLS in line.tree.head or line.role == "user" else 1.0)
        factor *= TOLD if line.role == "system" else 1.0
        words = WORDS_OF_USERS if line.role == "user" else 1.0
        for item in _items(line.tree):
            for fact, weight in item.facts.items():
                here = weight * factor * (words if weight <= WORD else 1.0)
                weights[fact] = max(here, weights.get(fact, 0.0))
                last, count = bearing.get(fact, (-1, -1))
                if last != number:
                    bearing[fact] = number, count + 1
    return {fact: weight * (1 + REPEATED * min(bearing[fact][1], REPEATS)) for fact, weight in weights.items()}


def _cost(fragment: Fragment) -> int:
    """Return the bytes that a fragment needs, with what must stand around it; if not exactly, then too many."""
    cost = bytes_of(fragment.lead) + bytes_of(fragment.text)
    parent = fragment.parent
    if parent and parent.prose:
        around = parent.items[max(0, fragment.place - 1) : fragment.place + 2]
        gaps_beside_it = len(around) - 1 - sum(item.kept for item in around)
        cost += MARKED * (gaps_beside_it - parent.kept)  # it lay in a gap itself, unless this opens the node
    for node in _unopened(fragment):
        cost += bytes_of(node.head) + bytes_of(node.tail)
        if node.parent:
            cost += SEPARATED
        else:
            cost += ENDED + (0 if node.prose else MARKED)
        if not node.prose:
            cost -= SEPARATED  # its first item has no lead
        if node.anchor and node.anchor is not fragment:
            cost += SEPARATED + bytes_of(node.anchor.text)
    return cost


def _unopened(fragment: Fragment) -> Iterator[Node]:
    """Give the nodes around a fragment of which nothing is kept so far."""
    node = fragment.parent
    while node and not node.kept:
        yield node
        node = node.parent


def _waiting(items: Sequence[Fragment | Node]) -> Iterator[Fragment]:
    for item in items:
        if isinstance(item, Fragment) and item.text and not item.kept:
            yield item


def _items(tree: Node) -> Iterator[Fragment | Node]:
    """Give a tree's nodes and fragments, in the order of the text."""
    waiting: list[Fragment | Node] = [tree]
    while waiting:
        item = waiting.pop()
        yield item
        if isinstance(item, Node):
            waiting.extend(reversed(item.items))


def _keep_all(tree: Node, *, kept: bool = True) -> None:
    for item in _items(tree):
        item.kept = kept and (isinstance(item, Node) or bool(item.text))


def _written(lines: Sequence[Line]) -> str:
    return "\n".join(_line(line.tree) for line in lines if line.tree.kept)


def _line(tree: Node) -> str:
    whole = tree.prose or all(item.kept or (item.parent and item.parent.prose) for item in _items(tree))
    return _text(tree) + ("" if whole else f" {MARK}")


def _text(node: Node) -> str:
    """Write what is kept of a node; not deeper than the trees are."""
    if node.prose:
        return node.head + _prose(node.items) + node.tail
    kept = (item if isinstance(item, Fragment) else _text(item) for item in node.items if item.kept)
    return node.head + ", ".join(item.text if isinstance(item, Fragment) else item for item in kept) + node.tail


def _prose(items: Sequence[Fragment | Node]) -> str:
    """Write sentences, and a mark for each gap."""
    written: list[str] = []
    for before, item in pairwise([None, *items]):
        if isinstance(item, Fragment) and item.kept:
            written += [item.lead if written else "", item.text]
        elif before is None or before.kept:
            written.append(f" {MARK}" if written else MARK)
    return "".join(written)
