"""The figures that a run ends with, out of its events."""

import pytest

from fedprune.common.errors import IntegrityError
from fedprune.simulations.runs.summary import _rounds, _sum

EVENTS = [
    {"event": "round", "round": 1, "bytes_up": 5},
    {"event": "round", "round": 1, "run": "control", "bytes_up": 50},
    {"event": "client", "round": 2},
    {"event": "round", "round": 2, "run": "main", "bytes_up": 7},
]


def test_an_event_without_a_run_is_of_the_main_run():
    assert [e["bytes_up"] for e in _rounds(EVENTS, "main")] == [5, 7]
    assert [e["bytes_up"] for e in _rounds(EVENTS, "control")] == [50]
    assert _sum(_rounds(EVENTS, "main"), "bytes_up") == 12


def test_a_round_that_lacks_a_figure_is_refused_by_the_figure():
    with pytest.raises(IntegrityError, match="'bytes_down'"):
        _sum(_rounds(EVENTS, "main"), "bytes_down")
