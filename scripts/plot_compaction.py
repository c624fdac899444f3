"""Plot how long a history is, in messages and in tokens, while a conversation goes on: with compaction, and without.

The conversation is that of a file, its sessions one after the other, again and again until it is long enough.

Exit codes: 0; 2 if the input cannot be used.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

try:
    import anyio
    import matplotlib as mpl
    import typer
    from command import Code, Script
    from demonstration.input import EXAMPLES, BadInput, read
    from matplotlib import pyplot as plt

    from contextengine import CompressionConfig, ContextEngine
    from workers.compaction import estimate_tokens
    from workers.compaction.transcript import message_tokens
except ImportError as missing:
    sys.exit(f"Something is not installed yet ({missing}). Run: pip install '.[bench]'")

Points: TypeAlias = list[tuple[int, int]]
"""Messages and tokens of the history, after each message of the conversation."""


main = Script(__doc__)


@main.command
def plot(
    *,
    path: Annotated[
        Path,
        typer.Option("--input", metavar="FILE.jsonl", show_default=EXAMPLES.name, help="conversations"),
    ] = EXAMPLES,
    length: Annotated[int, typer.Option("--messages", min=1, metavar="N", help="how long it is to be")] = 1200,
    output: Annotated[Path, typer.Option(metavar="FILE", help="where to draw it")] = Path("docs/images/compaction.png"),
) -> int:
    """Run both, draw, and print what it comes to."""
    try:
        messages = _conversation(path, length)
    except BadInput as error:
        print(error, file=sys.stderr)
        return Code.STOPPED
    config = CompressionConfig(strategy="summarize", auto_compress_enabled=True)
    without = anyio.run(_grow, messages, None)
    compacted = anyio.run(_grow, messages, config)
    _draw(without, compacted, config, output)
    for name, points in (("without compaction", without), ("with compaction", compacted)):
        most = max(tokens for _, tokens in points)
        print(f"{name:20} {points[-1][0]:,} messages and {points[-1][1]:,} tokens at the end, {most:,} tokens at most")
    print(f"{output} shows it.")
    return Code.DONE


def _conversation(path: Path, length: int) -> list[Mapping[str, Any]]:
    messages = [message for conversation in read(path, None) for message in conversation.messages]
    return [messages[n % len(messages)] for n in range(length)]


async def _grow(messages: Sequence[Mapping[str, Any]], config: CompressionConfig | None) -> Points:
    """Add one message after the other, and compact where that is due."""
    points: Points = []
    async with ContextEngine("memory://", workers=False, compression_config=config) as engine:
        for message in messages:
            await engine.add_conversation_messages("s", [message])
            await engine.auto_compress_on_limit("s")
            history = await engine.get_conversation_history("s", limit=None)
            points.append((len(history), sum(message_tokens(each, estimate_tokens) for each in history)))
    return points


def _draw(without: Points, compacted: Points, config: CompressionConfig, output: Path) -> None:
    mpl.use("agg")
    figure, axes = plt.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    for place, (axis, what) in enumerate(zip(axes, ("messages", "tokens"), strict=True)):
        axis.plot([point[place] for point in without], color="tab:red", label="without compaction")
        axis.plot([point[place] for point in compacted], color="tab:blue", label="with compaction")
        axis.set_ylabel(f"{what} of the history")
        axis.grid(alpha=0.3)
    axes[0].axhline(config.auto_compress_threshold, color="grey", linestyle=":", label="threshold")
    axes[0].legend()
    axes[1].set_xlabel("messages of the conversation; every original stays in the log")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
