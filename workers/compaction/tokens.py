"""How many tokens a text has: an estimate that needs nothing, and exact counters for those who install them."""

from __future__ import annotations

import importlib
import string
from collections.abc import Callable
from typing import Any, TypeAlias

from eventstore.errors import InvalidInput

TokenCounter: TypeAlias = Callable[[str], int]
"""Returns the tokens of a text: 0 for the empty one. Called from any thread."""

ENCODINGS = ("o200k_base", "cl100k_base")
"""The vocabularies that ``exact_counter`` knows: of GPT-4o and newer models, and of GPT-4 and GPT-3.5."""

_WORDS = (string.ascii_letters + string.whitespace).encode()
_ASCII = bytes(range(128))


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has, rather too many than too few.

    Five ASCII letters or spaces count as a token, and so do three bytes of UTF-8 beyond ASCII (a Chinese character);
    three digits or signs count as two. The usual rule, four bytes a token, finds a third too few in JSON, which has
    many signs, and that is where a limit is exceeded.

    Measured against the o200k vocabulary, as the ratio of the sums over many texts: an airline's chats 1.05, its tool
    results 1.07, a coding agent's session 1.06, a chat channel 1.02, source code 1.12, Chinese 1.3, Japanese 1.5, other
    scripts up to 3; but 0.95 for lists of nothing but numbers. Against cl100k the same, except for Chinese, Japanese
    and Korean (1.0), and German, Hindi and Arabic (0.8 to 0.9). One short text alone can be off by half.
    """
    encoded = text.encode("utf-8", "surrogatepass")
    beyond_ascii = len(encoded.translate(None, _ASCII))
    signs = len(encoded.translate(None, _WORDS)) - beyond_ascii
    words = len(encoded) - beyond_ascii - signs
    return -(-(3 * words + 10 * signs + 5 * beyond_ascii) // 15)


def exact_counter(encoding: str = "o200k_base") -> TokenCounter:
    """Return a counter of exact tokens, which downloads nothing: it has the vocabularies in the extra ``tokens``.

    What looks like a special token (``<|endoftext|>``) in a text is counted as the text that it is, because that is
    what it is in a message. The time is linear, whatever the text.

    Args:
        encoding: ``"o200k_base"`` or ``"cl100k_base"``.

    Raises:
        InvalidInput: There is no such encoding, or the extra is not installed.
    """
    if encoding not in ENCODINGS:
        raise InvalidInput(f"There is no encoding {encoding!r}: choose one of {', '.join(ENCODINGS)}.")
    try:
        vocabularies: Any = importlib.import_module("rs_bpe.bpe").openai
    except ImportError as missing:
        raise InvalidInput(
            "Exact token counts need the extra 'tokens': pip install 'contextengine[tokens]'. "
            "Without it, use estimate_tokens."
        ) from missing
    tokenizer = getattr(vocabularies, encoding)()

    def count(text: str) -> int:
        """Return the tokens of a text."""
        found: int = tokenizer.count(text)
        return found

    return count
