"""The judgement of the crash tests can be hard: whatever is done to a log shows, as what it is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from support.judgement import NOWHERE, Entry, Judgement, Told, judged
from support.ledger import Ledger

from eventstore import open_store

HONEST = [
    Entry("s", version, 1000 + version, f"id-{version}", f"{writer} {version}")
    for version, writer in enumerate("abcabc", 1)
]
ACKNOWLEDGED = [Told("s", ["id-1"], 1), Told("s", ["id-2", "id-3"], 3), Told("s", ["id-6"], 6)]
UNKNOWN = [Told("s", ["id-4", "id-5"], None), Told("s", ["id-never", "id-neither"], None)]


def verdict(
    log: list[Entry], unknown: list[Told] = UNKNOWN, refused: str = "c 0", head: int | None = None
) -> Judgement:
    """Judge a log that stands in for the honest one."""
    return judged(log, {"s": len(log) if head is None else head}, ACKNOWLEDGED, unknown, [refused])


def renumbered(log: list[Entry]) -> list[Entry]:
    """Return entries with versions and times as the store would have given them."""
    return [entry._replace(version=version, recorded_ms=version) for version, entry in enumerate(log, 1)]


def test_an_honest_log() -> None:
    """Where nothing is wrong nothing is found, and everything is counted."""
    judgement = verdict(HONEST)
    assert judgement.faults == []
    assert (judgement.acknowledged, judgement.found) == (4, 4)
    assert (judgement.unknown, judgement.unknown_there) == (2, 1)
    assert sum(judgement.figures.values()) == 4 + 4 + 2 + 1


BROKEN: dict[str, tuple[Callable[[], Judgement], dict[str, int]]] = {
    "the last event is lost": (lambda: verdict(HONEST[:-1]), {"lost": 1}),
    "an event in the middle is lost": (
        lambda: verdict([*HONEST[:2], *HONEST[3:]], head=6),
        {"lost": 1, "torn": 1, "out_of_order": 4},
    ),
    "everything is lost": (lambda: judged([], {}, ACKNOWLEDGED, UNKNOWN, []), {"lost": 4}),
    "an append was sent twice": (lambda: verdict(renumbered([*HONEST, HONEST[-1]])), {"doubled": 1}),
    "an append was sent twice, under new ids": (
        lambda: verdict(renumbered([*HONEST, HONEST[-1]._replace(event_id="id-new")])),
        {"doubled": 1, "untold": 1},
    ),
    "what is unknown was sent twice": (
        lambda: verdict(renumbered([*HONEST[:5], HONEST[4], HONEST[5]])),
        {"doubled": 1, "out_of_order": 1},
    ),
    "two events have changed places": (
        lambda: verdict(renumbered([HONEST[1], HONEST[0], *HONEST[2:]])),
        {"out_of_order": 2},
    ),
    "a writer's later event stands first": (
        lambda: verdict([*HONEST[:3], HONEST[3]._replace(text="a 0"), *HONEST[4:]]),
        {"out_of_order": 1},
    ),
    "a version is missing": (
        lambda: verdict([*HONEST[:5], HONEST[5]._replace(version=7)], head=7),
        {"out_of_order": 3},
    ),
    "the time goes back": (
        lambda: verdict([*HONEST[:5], HONEST[5]._replace(recorded_ms=1)]),
        {"out_of_order": 1},
    ),
    "the head is behind": (lambda: verdict(HONEST, head=5), {"out_of_order": 1}),
    "it stands in another session": (
        lambda: judged(
            [*HONEST[:-1], HONEST[-1]._replace(session_id="t", version=1)],
            {"s": 5, "t": 1}, ACKNOWLEDGED, UNKNOWN, [],
        ),
        {"out_of_order": 1},
    ),
    "an unknown append is there in part": (
        lambda: verdict(renumbered([*HONEST[:4], HONEST[5]])),
        {"torn": 1, "out_of_order": 1},
    ),
    "an event that nobody wrote": (
        lambda: verdict([*HONEST, Entry("s", 7, 1007, "id-7", "d 1")]),
        {"untold": 1},
    ),
    "what was refused is there": (lambda: verdict(HONEST, refused="a 4"), {"untold": 1}),
    "outcome() says it is there, and it is not": (
        lambda: verdict(HONEST, [UNKNOWN[0], UNKNOWN[1]._replace(version=8)]),
        {"lost": 1},
    ),
    "outcome() says it is not there, and it is": (
        lambda: verdict(HONEST, [UNKNOWN[0]._replace(version=NOWHERE), UNKNOWN[1]]),
        {"untold": 1},
    ),
    "outcome() names another version": (
        lambda: verdict(HONEST, [UNKNOWN[0]._replace(version=6), UNKNOWN[1]]),
        {"out_of_order": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found(what: str) -> None:
    """Each way to break a log is found, counted as what it is, and as nothing else."""
    breaking, expected = BROKEN[what]
    judgement = breaking()
    kinds = ("lost", "doubled", "out_of_order", "torn", "untold")
    assert {kind: count for kind in kinds if (count := getattr(judgement, kind))} == expected
    assert len(judgement.faults) == sum(expected.values())


async def test_a_ledger_holds_a_store_to_it() -> None:
    """What was acknowledged by a store is found in it; held against another one, all of it is lost."""
    ledger = Ledger()
    async with open_store("memory://") as store, open_store("memory://") as another:
        for writer, session_id in pairwise(["a", "b", "c", "a"]):
            await ledger.append(store, writer, session_id, 2)
        assert (await ledger.check(store)).found == 6
        assert (await ledger.judge(another)).lost == 6
        with pytest.raises(AssertionError):
            await ledger.check(another)
