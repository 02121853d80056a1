"""The row of classics: its runs differ from the base, and its figures say so."""

import numpy as np
import pytest
import torch

from fedprune import find_blocks
from fedprune.common.config import load_config
from fedprune.common.structure.tracing.find import find_structure
from fedprune.simulations.benchmarks.kit.rows import Interval
from fedprune.simulations.benchmarks.kit.science.classics.networks import SmallResidual
from fedprune.simulations.benchmarks.kit.science.classics.row import ROW, verdict_of
from fedprune.simulations.benchmarks.kit.science.classics.switches import (
    BASE,
    BASICS,
    RUNS,
    SWITCHES,
)
from fedprune.simulations.benchmarks.kit.science.intervals import pack


def piece(count, **more):
    sizes = {"params_dense": 1000, "params_final": 80, "weight_density": 0.5}
    costs = {"rounds": 23, "bytes_file": 321, "budget_met": True}
    return {"correct": pack(np.arange(200) < count)} | sizes | costs | more


def figures(found):
    return {one.name: one for one in ROW.figures(found)}


@pytest.mark.parametrize("name", RUNS)
def test_each_run_differs_from_the_base_in_the_keys_that_it_names_alone(name):
    base, config = (load_config(None, {**BASICS, **RUNS[n]}) for n in (BASE, name))
    changed = {
        f"{section}.{key}"
        for section, keys in config.model_dump().items()
        for key, value in keys.items()
        if value != base.model_dump()[section][key]
    }
    assert changed == {".".join(key.split(".")[:2]) for key in RUNS[name]}


def test_each_run_is_compared_and_each_comparison_has_its_runs():
    compared = {name for one in SWITCHES for name in (one.on, one.off)}
    assert compared == {*RUNS}
    assert len({one.name for one in SWITCHES}) == len(SWITCHES)
    assert len(ROW.pieces([0, 3])) == 2 * len(RUNS)


def test_the_network_has_blocks_that_may_be_dropped_and_no_unit_is_left_out():
    model, example = SmallResidual(), torch.zeros(2, 1, 14, 14)
    assert sum(weight.numel() for weight in model.parameters()) == 47_290
    assert len(find_blocks(model, example)) == 2
    structure = find_structure(model, example)
    grouped = {unit for group in structure.groups for unit in group.units}
    assert grouped == {*range(structure.units)}


def test_a_switch_is_on_less_off_for_the_same_seed():
    found = {
        "base-0": piece(150),
        "base-1": piece(152),
        "base-2": piece(10),
        "l0-0": piece(100),
        "no-penalty-0": piece(140),
        "no-penalty-1": piece(150),
        "no-feedback-0": piece(160),
        "no-feedback-1": piece(168, budget_met=False),
    }
    shown = figures(found)
    assert shown["classics: test accuracy, base"].value == pytest.approx(52.0)
    penalty = shown["classics: penalty bn-l1+group: accuracy, on - off"]
    assert penalty.value == pytest.approx(3.0)
    gates = shown["classics: L0 gates: accuracy, on - off"]
    assert gates.value == pytest.approx(-20.0)
    assert "n = 1, no interval; not resolved" in gates.detail
    feedback = shown["classics: error feedback: accuracy, on - off"]
    assert feedback.value == pytest.approx(-6.5)
    assert "off: 80.00, 84.00, weights other than 0 0.0400, 0.0400" in feedback.detail
    assert "321, 321 B, 23, 23 rounds, 1 above the budget" in feedback.detail
    assert len(shown) == 4


def test_nothing_is_shown_of_runs_that_are_missing():
    assert ROW.figures({}) == []
    assert figures({"l0-0": piece(1), "base-1": piece(3)}).keys() == {
        "classics: test accuracy, base"
    }


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 2.0, "earns it"),
        (-2.0, -0.1, "does not earn it"),
        (-1.0, 2.0, "not resolved"),
        (0.0, 2.0, "not resolved"),
        (-2.0, 0.0, "not resolved"),
    ],
)
def test_a_part_earns_it_where_the_whole_interval_is_above_zero(low, high, said):
    assert verdict_of(Interval(mean=0.5, low=low, high=high, seeds=3)) == said
