"""What it costs to keep each session's head in a hash, against asking the stream for its length (docs/adr/0001).

Run it with ``python tests/bench/append_heads.py``. It starts a server of its own and prints the time that the server
spends in one script call, in microseconds, as the median of interleaved rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from redis.asyncio import Redis
from support.servers import Server, binaries

from eventstore.redis.appender import APPEND

CALLS = 5000
ROUNDS = 7
SESSIONS = 20
ENTRY = (
    '["01a202cc-017f-705a-995b-01c8803def87",{"type":"MessageAdded","role":"user","content":"' + "x" * 300 + '"},{}]'
)

VARIANTS = {
    "heads in a hash (append.lua)": APPEND.text,
    "heads in a hash, minimal": """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head, version = redis.call('HGET', KEYS[1], ARGV[1]), 1
if head then
  local dash = string.find(head, '-', 1, true)
  version, now = tonumber(string.sub(head, 1, dash - 1)) + 1, math.max(now, tonumber(string.sub(head, dash + 1)))
end
local id = string.format('%.0f-%.0f', version, now)
redis.call('XADD', KEYS[4], id, 'e', ARGV[5])
redis.call('XADD', KEYS[2], '*', ARGV[1], version .. '/1')
redis.call('HSET', KEYS[1], ARGV[1], id)
return {version}
""",
    "XLEN, as in the prototype": """
local time = redis.call('TIME')
local ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local version = redis.call('XLEN', KEYS[4]) + 1
redis.call('XADD', KEYS[4], version .. '-' .. ms, 'e', ARGV[5])
redis.call('XADD', KEYS[2], '*', ARGV[1], version .. '/1')
return {version}
""",
    "XREVRANGE COUNT 1": """
local time = redis.call('TIME')
local ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local last = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
local version = last and tonumber(string.match(last[1], '^%d+')) + 1 or 1
redis.call('XADD', KEYS[4], version .. '-' .. ms, 'e', ARGV[5])
redis.call('XADD', KEYS[2], '*', ARGV[1], version .. '/1')
return {version}
""",
}


async def measure(client: Redis, text: str, prefix: str, sessions: int) -> float:
    """Return the server's microseconds per call."""
    sha = await client.script_load(text)
    await client.config_resetstat()
    pipeline = client.pipeline(transaction=False)
    for number in range(CALLS):
        session = f"{prefix}-{number % sessions}"
        keys = (f"{prefix}-heads", f"{prefix}-feed", f"{prefix}-tombstones", f"{prefix}-log-{session}")
        pipeline.execute_command("EVALSHA", sha, len(keys), *keys, session, "any", "", 1, ENTRY)
    await pipeline.execute()
    stats = await client.info("commandstats")
    return float(stats["cmdstat_evalsha"]["usec_per_call"])


async def main() -> None:
    """Measure every variant in turn, several times."""
    with tempfile.TemporaryDirectory(prefix="ce") as directory:
        server = Server(next(iter(binaries().values())), Path(directory))
        server.start()
        try:
            async with Redis.from_url(server.url) as client:
                found: dict[str, list[float]] = {name: [] for name in VARIANTS}
                for number in range(ROUNDS):
                    for name, text in VARIANTS.items():
                        found[name].append(await measure(client, text, f"{number}-{len(name)}", SESSIONS))
        finally:
            server.stop()
    for name, times in found.items():
        print(f"{name:32} {statistics.median(times):5.1f} µs   ({min(times):.1f} .. {max(times):.1f})")


if __name__ == "__main__":
    asyncio.run(main())
