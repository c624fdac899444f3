"""What in a text is worth keeping: its ids, numbers, names and words, each with a weight.

A fact is a token as the text spells it. Its weight says how much is lost once no line bears it any more: an agent that
has forgotten an order's number or a file's path cannot guess it, while a word of a sentence can be missed.
"""

from __future__ import annotations

import re

ID = 4.0
"""Letters with digits, paths, addresses."""
NUMBER = 2.0
"""Numbers of three digits and more, amounts, dates, times."""
NAME = 1.5
"""What begins with a capital, is written in capitals, or joins words with underscores."""
VALUE = 1.0
"""A plain word that is a value of JSON."""
SHORT = 0.2
"""Numbers of one or two digits."""
WORD = 0.1
OTHER = 0.01
"""Short words, which are mostly grammar, and what is too long for anybody to repeat: keys, encoded images."""

SHORT_NUMBER, SHORT_WORD, LONGEST = 2, 3, 80
"""Characters, at most; an address (``https://...``) may be longer."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Scripts that put no spaces between words: an id in the midst of them is a token of its own."""
_TOKEN = re.compile(rf"[^\W{_UNSPACED}]++(?:[-.:/@#+&=?%~]++[^\W{_UNSPACED}]++)*+|[{_UNSPACED}]++")
_ENDS_SENTENCE = frozenset(".!?:\n\u3002\uff01\uff1f\"'([{*#>")


def facts(text: str, *, value: bool = False) -> dict[str, float]:
    """Return the tokens of a text and their weights.

    Args:
        text: A sentence, a line, a value; any text.
        value: Whether it is a value of JSON, so that its plain words are data.
    """
    found: dict[str, float] = {}
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token not in found:
            found[token] = _weight(token, value=value, first=value or not _begins_sentence(text, match.start()))
    return found


def facts_of_key(key: str) -> dict[str, float]:
    """Return what a key of JSON tells: ids that are used as keys, but not the names of fields."""
    if len(key) > LONGEST:
        return {}
    return {token: weight for token, weight in facts(key, value=True).items() if not token.islower() or weight >= ID}


def _weight(token: str, *, value: bool, first: bool) -> float:
    """Weigh a token.

    Args:
        token: The token.
        value: Whether plain words are data here.
        first: Whether a capital at its beginning makes it a name.
    """
    if len(token) > LONGEST and "://" not in token[:LONGEST]:
        return OTHER
    if any(map(str.isdecimal, token)):
        of_a_number = NUMBER if len(token) > SHORT_NUMBER else SHORT
        return ID if any(map(str.isalpha, token)) else of_a_number
    if any(sign in token for sign in "/@.#"):
        return ID
    if "_" in token or (len(token) > 1 and token.isupper()) or (first and token[0].isupper()):
        return NAME
    of_a_word = WORD if len(token) > SHORT_WORD else OTHER
    return VALUE if value else of_a_word


def _begins_sentence(text: str, start: int) -> bool:
    before = text[max(0, start - SHORT_WORD) : start].rstrip(" ")
    return not before or before[-1] in _ENDS_SENTENCE
