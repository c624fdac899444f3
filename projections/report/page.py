"""The page: one HTML file that needs no network and runs nothing of what it shows.

What was recorded may hold anything. It stands in the page as JSON in a script element of a type that no browser runs,
with every ``<`` escaped; the page's own script puts it on the screen as text, never as markup; and the page's content
security policy allows that one script and that one style sheet, by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
from importlib.resources import files
from typing import Any

import msgspec

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render(title: str, story: dict[str, Any]) -> str:
    """Return the page.

    Args:
        title: What stands in the browser's tab.
        story: What `projections.report.story.tell` tells, with ``session``, ``namespace``, ``made_ms`` and
            ``verification`` besides.
    """
    style, script, frame = (_file(name) for name in ("page.css", "page.js", "page.html"))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    filled = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "data": inert(msgspec.json.encode(story).decode()),
        "script": script,
    }
    head, *parts = frame.split("{{")
    for part in parts:  # one pass: what was recorded is never looked at for places to fill
        name, rest = part.split("}}", 1)
        head += filled[name] + rest
    return head


def inert(json: str) -> str:
    """Return JSON that says the same, and that nothing in HTML takes for markup."""
    for character, escape in _ESCAPES.items():
        json = json.replace(character, escape)
    return json


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    return files("projections.report").joinpath(name).read_text(encoding="utf-8")
