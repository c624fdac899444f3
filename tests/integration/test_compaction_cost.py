"""What a compaction costs: as much after a hundred others as after one."""

from __future__ import annotations

import msgspec
from support.servers import Server
from support.summarizers import Model
from support.transcripts import chat

from contextengine import CompressionConfig, ContextEngine
from eventstore import HistoryCompacted
from eventstore.redis.links import Links

KEPT = 5
AGED = 20
TIMES = 12


class Cost(msgspec.Struct):
    """Commands, bytes sent, and bytes received, as a server has counted them."""

    commands: int
    received: int
    sent: int


async def counted(links: Links) -> Cost:
    """Ask a server what it has counted."""
    lines = (await links.call("INFO", "stats")).decode().splitlines()
    stats = dict(line.split(":", 1) for line in lines if ":" in line)
    names = ("total_commands_processed", "total_net_output_bytes", "total_net_input_bytes")
    return Cost(*(int(stats[name]) for name in names))


async def test_a_compaction_costs_what_has_aged(server: Server) -> None:
    """Neither the prompt, nor the event, nor what goes to and from the server grows with what was compacted before."""
    model = Model()
    config = CompressionConfig("summarize", keep_recent=KEPT)
    links = Links.from_url(server.url, timeout=20)
    costs: list[Cost] = []
    async with ContextEngine(server.url, workers=False, compression_config=config, llm_client=model) as engine:
        for number in range(TIMES):
            await engine.add_conversation_messages("s", chat(AGED if number else AGED + KEPT, 1000 + number * 100))
            before = await counted(links)
            assert (await engine.compress_conversation("s"))["success"]
            after = await counted(links)
            costs.append(
                Cost(after.commands - before.commands, after.received - before.received, after.sent - before.sent)
            )
        assert engine._runtime is not None
        log = await engine._runtime.store.read("s")
    await links.aclose()
    events = [event for event in log if isinstance(event.data, HistoryCompacted)]
    assert len(events) == TIMES
    assert len(log) == TIMES + KEPT + TIMES * AGED
    assert [prompt.count("message <") for prompt in model.prompts] == [AGED] * TIMES
    assert max(len(event.entry) for event in events) <= len(events[0].entry) + 10  # versions get longer
    for name in Cost.__struct_fields__:  # of several, because the engine also asks for totals now and then
        early, late = (min(getattr(cost, name) for cost in some) for some in (costs[1:4], costs[-3:]))
        assert late <= early * 1.05, name
