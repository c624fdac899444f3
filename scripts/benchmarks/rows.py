"""The rows of the table, in its order."""

from __future__ import annotations

from benchmarks import compacting, peers, projecting, reading, space, writing
from benchmarks.bench import Row

ROWS = [
    Row("one", "One message, sequential", "p50 at most 1.3 x a bare XADD", writing.one_message),
    Row("writers", "64 writers, own sessions", "at least 4 x XADD of 64 tasks", writing.writers_64),
    Row("session", "64 writers, one session", "at least 3 x, nothing lost, in order", writing.one_session),
    Row("many", "256 writers", "at least 0.4 of the server's limit", writing.writers_256),
    Row("bulk", "Bulk append, 100 events a call", "at least 3 x pipelined XADD x 100", writing.bulk),
    Row(
        "history",
        "Last 50 of 50 / 500 / 5,000 / 50,000",
        "within 1.15 x of each other, at most 1.2 x a decoded XREVRANGE 50",
        reading.history,
    ),
    Row("values", "Session, context value", "at most 1.3 x a bare HGETALL / HGET", reading.values),
    Row(
        "replay",
        "Replay with decode and fold",
        "at least 1.3 x an XRANGE COUNT 1000 loop that decodes nothing",
        reading.replay,
    ),
    Row("worker", "A projection worker", "projects at least as fast as one process appends", projecting.worker),
    Row(
        "visible",
        "Append to view visible, at 2,000 events/s",
        "p50 under 8, p99 under 50 round trips",
        projecting.visible,
    ),
    Row("lists", "A page of 100 sessions among 100,000", "within 1.5 x of the same among 1,000", reading.lists),
    Row(
        "memory",
        "Memory, 300-byte messages with 3 metadata fields",
        "at most 520 bytes a message after compaction to 50; 2,500 a small session",
        space.memory,
    ),
    Row("fsync", "appendfsync always, 64 writers", "at least 0.45 x of everysec", writing.fsync),
    Row("beside", "Appends beside a compaction worker", "not slower than without", compacting.beside),
    Row("again", "Compaction after earlier compactions", "costs the same however many there were", compacting.again),
    Row("peers", "Others", "", peers.peers),
]
