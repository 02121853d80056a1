"""The row of stragglers and lost answers: its pieces and what they are measured by."""

import math

import pytest

from fedprune.common.config import load_config
from fedprune.simulations.benchmarks.kit.trust.slow import row
from fedprune.simulations.benchmarks.trust import rows


def test_each_seed_is_run_with_faults_and_without():
    pieces = row().pieces([0, 1])
    kinds = ("plain", "faulty", "used")
    assert [p.name for p in pieces] == [f"{k}-{n}" for n in (0, 1) for k in kinds]
    plain, faulty, used = (load_config(None, dict(p.settings)) for p in pieces[3:])
    assert (faulty.faults.stragglers, faulty.faults.drop_out) == (0.3, 0.2)
    assert faulty.faults.slowdown == 10.0
    assert faulty.model_copy(update={"faults": plain.faults}) == plain
    assert (used.rounds.late, used.faults) == ("use", faulty.faults)
    assert rows()["slow"].budget == row().budget


def measured(seconds, accuracy):
    return {"virtual_seconds": seconds, "accuracy_final": accuracy}


def test_time_and_accuracy_are_compared_seed_by_seed():
    found = {
        "plain-0": measured(100.0, 0.90),
        "faulty-0": measured(200.0, 0.89),
        "plain-1": measured(100.0, 0.80),
        "faulty-1": measured(300.0, 0.77),
        "plain-2": measured(100.0, 0.80),
    }
    time, lost = row().figures(found)
    assert (time.value, time.goal) == (pytest.approx(2.5), "<= 2.5")
    assert (lost.value, lost.goal) == (pytest.approx(2.0), "<= 2")
    assert "90.0 -> 89.0, 80.0 -> 77.0" in lost.detail
    alone, _ = row().figures({k: found[k] for k in ("plain-0", "faulty-0")})
    assert math.isinf(alone.high)
    assert row().figures({"plain-0": found["plain-0"]}) == []
    used = measured(150.0, 0.90) | {"late_used": 7}
    *_, time, lost = row().figures(found | {"used-0": used})
    assert "late answers used" in time.name
    assert (time.value, lost.value) == (pytest.approx(1.5), pytest.approx(0.0))
    assert "late answers that counted: 7" in lost.detail
