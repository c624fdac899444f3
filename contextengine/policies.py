"""The compression policies of agents, as far as they concern a conversation's memory."""

from __future__ import annotations

from typing import Any

from workers.compaction import CompressionConfig

RESERVED = 20_000
"""Tokens of a window that agents keep free for the answer; their policy's threshold is what is left of the window."""
NEVER = 10**9
"""A threshold of messages that none reaches: a policy counts tokens."""


def policed(config: CompressionConfig, policy: Any) -> CompressionConfig:
    """Return what holds under an agent's policy.

    A policy is any object with ``enabled``, ``context_window_tokens``, ``buffer_tokens``, ``preserve_recent``,
    ``summary_role`` and ``auto_compact_threshold_tokens``. Agents with default settings set one whose threshold comes
    out below 0: such a threshold would compact every history at every turn, and does not count.
    """
    threshold = _threshold(policy) if getattr(policy, "enabled", False) is True else None
    if threshold is None or threshold <= 0:
        return config
    settings: dict[str, Any] = {"auto_compress_token_threshold": threshold}
    if not config.auto_compress_enabled:
        settings |= {
            "auto_compress_enabled": True,
            "auto_compress_threshold": NEVER,
            "strategy": "summarize",
            "keep_recent": _whole(policy, "preserve_recent") or config.keep_recent,
        }
    role = getattr(policy, "summary_role", None)
    return config.changed(settings | ({"summary_role": role} if isinstance(role, str) and role else {}))


def _threshold(policy: Any) -> int | None:
    given = _whole(policy, "auto_compact_threshold_tokens")
    if given is not None:
        return given
    window, buffer = _whole(policy, "context_window_tokens"), _whole(policy, "buffer_tokens")
    return None if window is None else window - RESERVED - (buffer or 0)


def _whole(policy: Any, name: str) -> int | None:
    value = getattr(policy, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
