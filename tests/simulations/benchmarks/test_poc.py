"""Where the time of ``fedprune poc`` goes: read from the lines that it prints."""

import pytest

from fedprune.common.errors import FedPruneError
from fedprune.simulations.benchmarks.poc import COMMANDS, STAGES, stages

LINES = [
    (0.5, "certificates, keys, configuration and data parts: /x"),
    (3.0, "starting the server and client-000, client-001; logs: /x/logs"),
    (13.0, "2026-11-29T23:30:34Z clients registered: client-000"),
    (20.0, "2026-11-29T23:31:20Z 1/3 clients: client-000"),
    (25.0, "2026-11-29T23:31:33Z 3/3 clients: client-000, client-001, client-002"),
    (30.0, "2026-11-29T23:31:54Z pruned round 1/13    cycle 0 warmup"),
    (60.0, "2026-11-29T23:34:37Z pruned round 13/13   cycle 3 finetune"),
    (61.0, "2026-11-29T23:34:43Z delivered to client-002: accuracy 0.983 there"),
    (70.0, "next, for real devices: /x/README.md"),
]


def test_the_parts_add_up_to_the_whole():
    found = [figure.value for figure in stages(LINES)]
    assert found == [3.0, 10.0, 12.0, 35.0, 1.0, 9.0]
    assert len(STAGES) == len(found)


@pytest.mark.parametrize("number", [1, 2, 4, 6, 7, 8])
def test_a_line_that_is_missing_is_no_figure(number):
    lines = [line for place, line in enumerate(LINES) if place != number]
    with pytest.raises(FedPruneError, match="was printed"):
        stages(lines)


def test_one_command_is_typed():
    assert COMMANDS == ("fedprune poc {folder}",)
