"""Pauses of a device that waits for messages."""

import pytest

from fedprune.client.device import pace
from fedprune.client.device.pace import Pace

FLOWER_S = 3  # what Flower waits between questions to the server


@pytest.fixture
def slept(monkeypatch):
    """Return the pauses that were made; none takes time."""
    found = []
    monkeypatch.setattr(pace.time, "sleep", found.append)
    return found


def test_pauses_double_up_to_flower_s_own_and_begin_anew_after_a_message(slept):
    waiting = Pace()
    for _ in range(6):
        waiting.sleep(FLOWER_S)
    assert slept == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]
    waiting.restart()
    waiting.sleep(FLOWER_S)
    assert slept[-1] == 0.25


def test_a_message_is_late_by_no_more_than_the_wait_before_it(slept):
    waiting = Pace()
    for _ in range(4):
        before = sum(slept)
        waiting.sleep(FLOWER_S)
        assert slept[-1] <= before + 0.25


def test_a_look_at_its_own_messages_is_short_and_changes_no_other_pause(slept):
    waiting = Pace()
    waiting.sleep(0.5)
    waiting.sleep(0.05)
    waiting.sleep(FLOWER_S)
    assert slept == [0.1, 0.05, 0.25]
