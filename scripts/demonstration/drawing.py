"""How the demo draws values with rich: a history as a chat, facts as a table, a long text by its beginning."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demonstration import counted

SHOWN = 24
"""Messages that are shown of a history at most."""
LINES, LINE = 8, 90
"""What is shown of a message at most: lines, and characters a line on average."""
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
COLOURS = {"user": "cyan", "assistant": "green", "tool": "yellow", "system": "magenta"}


def chat(history: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out a history; the middle of a long one is left out."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="dim")
    table.add_column(justify="right")
    table.add_column(overflow="fold", ratio=1)
    half, left_out = SHOWN // 2, max(0, len(history) - SHOWN)
    for place, message in enumerate(history):
        if left_out and place == half:
            table.add_row("", "", Text(f"... {counted(left_out, 'message')} in between ...", style="dim"))
        if not half <= place < half + left_out:
            role = Text(printable(message["role"]), style=COLOURS.get(message["role"], "blue"))
            table.add_row(str(place + 1), role, _message(message))
    return table


def _message(message: Mapping[str, Any]) -> Text:
    said = []
    if message["content"] is not None:
        name = f"{printable(message['name'])}: " if "name" in message else ""
        lines = 2 if message["role"] in {"tool", "system"} else LINES
        said = [Text.assemble((name, "bold"), short(_readable(message["content"]), lines))]
    calls = [Text.assemble(("calls ", "dim"), short(_call(call), lines=2)) for call in message.get("tool_calls", ())]
    return Text("\n").join([*said, *calls])


def _readable(content: Any) -> Any:
    """Return a message's content; of a list of parts, the parts' texts."""
    if not isinstance(content, list):
        return content
    return "\n".join(
        part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else _json(part)
        for part in content
    )


def _call(call: Any) -> str:
    """Return a tool call the way one writes a function call; as JSON if it is not in the usual form."""
    try:
        name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
        return f"{name}({', '.join(f'{key}={_json(value)}' for key, value in arguments.items())})"
    except (LookupError, TypeError, ValueError, AttributeError):
        return _json(call)


def facts(named: Mapping[str, Any]) -> Table:
    """Lay out names and values; a value that is no text as JSON."""
    table = Table.grid(padding=(0, 2))
    for name, value in named.items():
        shown = value if isinstance(value, Text) else Text(printable(value))
        table.add_row(Text(printable(name), style="cyan"), shown)
    return table


def indented(content: RenderableType) -> Padding:
    """Draw something a little to the right."""
    return Padding(content, (0, 2), expand=False)


def panel(title: str, content: RenderableType) -> Panel:
    """Draw something in a box with a title."""
    heading = Text(printable(title), style="bold")
    return Panel(content, title=heading, title_align="left", border_style="dim", box=box.ROUNDED, padding=(0, 1))


def short(value: Any, lines: int) -> Text:
    """Return the beginning of a value, and say how much is left out."""
    text = printable(value).strip()
    begun = "\n".join(text.splitlines()[:lines])[: lines * LINE].rstrip()
    left_out = len(text) - len(begun)
    if left_out <= LINE:
        return Text(text)
    return Text.assemble(begun, (f" ... {left_out:,} more characters", "dim"))


def printable(value: Any) -> str:
    """Return a text, or another value as JSON; control characters, which could play tricks on a terminal, visible."""
    text = value if isinstance(value, str) else _json(value)
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\t", "  ").replace("\r\n", "\n"))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
