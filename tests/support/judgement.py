"""The judgement on a log, given what its writers were told: what is lost, doubled, reordered, torn, or untold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

NOWHERE = 0
"""The version of what is said not to be there."""


class Entry(NamedTuple):
    """An event as it was read. The text of a message is its writer's name and a running number."""

    session_id: str
    version: int
    recorded_ms: int
    event_id: str
    text: str | None


class Told(NamedTuple):
    """What a writer was told about an append: at which version its last event stands; None if nobody would tell."""

    session_id: str
    event_ids: Sequence[str]
    version: int | None

    def places(self) -> Iterator[tuple[str, int]]:
        """Give each event with the version that it must have."""
        if self.version:
            yield from zip(self.event_ids, range(self.version - len(self.event_ids) + 1, self.version + 1), strict=True)


class Judgement(msgspec.Struct):
    """What became of the events and of the promises. The first two are good; the others but ``unknown`` are faults.

    Attributes:
        acknowledged: Events that were acknowledged.
        found: How many of them are there.
        lost: How many of them are not.
        doubled: How many are there once too often, acknowledged or not.
        out_of_order: How many stand elsewhere than was told, or after what their writer wrote later, or bear a version
            that leaves a gap, or a time before the one of the event before them.
        torn: Appends that are there in part.
        untold: Events that are there although nobody was told so, or although somebody was told that they are not.
        unknown: Appends whose outcome their writers were not told.
        unknown_there: How many of these are there.
        missing: The ids of the events that were acknowledged and are lost.
        faults: Each fault in words.
    """

    acknowledged: int = 0
    found: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    torn: int = 0
    untold: int = 0
    unknown: int = 0
    unknown_there: int = 0
    missing: set[str] = set()
    faults: list[str] = []

    @property
    def figures(self) -> dict[str, int]:
        """What is published."""
        return {name: figure for name, figure in msgspec.structs.asdict(self).items() if isinstance(figure, int)}

    def blame(self, kind: str, *faults: str) -> None:
        """Count faults of a kind."""
        setattr(self, kind, getattr(self, kind) + len(faults))
        self.faults += [f"{kind}: {fault}" for fault in faults]


def judged(
    log: Iterable[Entry],
    heads: Mapping[str, int],
    acknowledged: Collection[Told],
    unknown: Collection[Told],
    refused: Iterable[str],
    others: Iterable[str] = (),
) -> Judgement:
    """Hold a log against what its writers were told.

    Args:
        log: All events, each session's in the order of the log.
        heads: The last version of each session.
        acknowledged: The appends that were acknowledged.
        unknown: Those that raised `AppendOutcomeUnknown`, with what `outcome` said of them since.
        refused: The texts of those of which it was said that nothing was written.
        others: The ids of events that somebody else wrote.
    """
    judgement = Judgement(acknowledged=sum(len(told.event_ids) for told in acknowledged), unknown=len(unknown))
    sessions: dict[str, list[Entry]] = {session_id: [] for session_id in heads}
    for entry in log:
        sessions.setdefault(entry.session_id, []).append(entry)
    for session_id, entries in sessions.items():
        _look_at_order(judgement, entries, heads.get(session_id, NOWHERE))
    everything = [entry for entries in sessions.values() for entry in entries]
    _look_for_doubles(judgement, everything)
    places: dict[str, set[tuple[str, int]]] = {}
    for entry in everything:
        places.setdefault(entry.event_id, set()).add((entry.session_id, entry.version))
    for told in acknowledged:
        there = _there(judgement, told, places)
        judgement.found += len(there)
        missing = set(told.event_ids).difference(there)
        judgement.missing |= missing
        judgement.blame("lost", *(f"{event_id} of {told}" for event_id in missing))
    for told in unknown:
        there = _there(judgement, told, places)
        judgement.unknown_there += bool(there)
        if told.version and not there:
            judgement.blame("lost", f"outcome() said that it is there: {told}")
        elif told.version == NOWHERE and there:
            judgement.blame("untold", f"outcome() said that it is not there: {told}")
    accounted = {*others, *(event_id for told in (*acknowledged, *unknown) for event_id in told.event_ids)}
    judgement.blame("untold", *(f"{entry}" for entry in everything if entry.event_id not in accounted))
    denied = set(refused)
    judgement.blame("untold", *(f"{e} was refused" for e in everything if e.text in denied and e.event_id in accounted))
    return judgement


def _there(judgement: Judgement, told: Told, places: Mapping[str, set[tuple[str, int]]]) -> list[str]:
    """Return which events of an append are there, having looked whether they stand where they were said to."""
    there = [event_id for event_id in told.event_ids if event_id in places]
    if there and len(there) < len(told.event_ids):
        judgement.blame("torn", f"{len(there)} events of {told}")
    for event_id, version in told.places():
        if event_id in places and (told.session_id, version) not in places[event_id]:
            judgement.blame("out_of_order", f"{event_id} stands at {places[event_id]}: {told}")
    if told.version is None and len(there) == len(told.event_ids):
        versions = [min(places[event_id])[1] for event_id in there]
        if versions != list(range(versions[0], versions[0] + len(versions))):
            judgement.blame("out_of_order", f"at {versions}: {told}")
    return there


def _look_at_order(judgement: Judgement, entries: Sequence[Entry], head: int) -> None:
    last: dict[str, int] = {}
    time = 0
    for place, entry in enumerate(entries, 1):
        writer, _, number = (entry.text or " 0").rpartition(" ")
        if entry.version != place:
            judgement.blame("out_of_order", f"{entry} is number {place} of its log")
        elif entry.recorded_ms < time or (entry.text and int(number) < last.get(writer, -1)):
            judgement.blame("out_of_order", f"{entry} came late")
        time, last[writer] = entry.recorded_ms, int(number)
    if head != len(entries):
        judgement.blame("out_of_order", f"the head is {head} where there are {len(entries)} events: {entries[-1:]}")


def _look_for_doubles(judgement: Judgement, entries: Sequence[Entry]) -> None:
    for named in (Counter(e.event_id for e in entries), Counter(e.text for e in entries if e.text is not None)):
        again = [f"{name}, {count} times" for name, count in named.items() for _ in range(count - 1)]
        if again:
            judgement.blame("doubled", *again)
            return
