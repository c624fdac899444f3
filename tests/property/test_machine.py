"""Whatever writers, readers and workers do, and wherever they crash, views and answers are what the oracle says."""

from __future__ import annotations

import pytest
from hypothesis import settings
from machine import SETTINGS, run_machine
from strategies import UNKNOWN_TO_US


def test_every_type_of_event_takes_part() -> None:
    """No type of event is left out; a new one has to be taught to the oracle first."""
    assert not UNKNOWN_TO_US


@pytest.mark.guarantee("L3", "L4", "V1", "V2", "V3", "V4", "W1")
def test_on_memory() -> None:
    """In memory, no order of work, no crash and no late or double commit makes an answer or a view wrong."""
    run_machine("memory://", settings(SETTINGS, max_examples=100, stateful_step_count=40))


@pytest.mark.guarantee("L3", "L4", "V1", "V2", "V3", "V4", "W1")
def test_on_a_server(redis_url: str) -> None:
    """On a server, no order of work, no crash and no late or double commit makes an answer or a view wrong."""
    run_machine(redis_url, settings(SETTINGS, max_examples=25, stateful_step_count=40))
