"""Latency tables: what lies between measured widths, budgets by them, bad files."""

import json

import numpy as np
import pytest
import torch
from helpers.pruning_nets import build, random_mask, table_of
from torch import nn

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError
from fedprune.common.pruning.choose import choose_keep
from fedprune.common.pruning.cost import check_budget, count_cost, shares
from fedprune.common.pruning.latency import LatencyTable, LayerLatency, load_table
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.structure.tracing.find import find_structure


def chain():
    """Return three linear layers and their structure: 32 + 16 units."""
    model = nn.Sequential(
        *(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))
    )
    return model, find_structure(model, torch.zeros(1, 4))


def choose(structure, targets, table, importance=None):
    full = structure.full()
    scores = np.ones(structure.units, np.float32) if importance is None else importance
    return choose_keep(
        structure,
        full,
        scores,
        targets,
        floor=1,
        step_cap=1.0,
        width_multiple=8,
        latency=table,
    )


def test_between_measured_widths_latency_is_bilinear_and_flat_outside():
    layer = LayerLatency(
        tensor="w", inputs=(8, 16), outputs=(4, 12), ms=np.array([[1.0, 2], [3, 8]])
    )
    table = LatencyTable(structure="", device="", dense_ms=8.0, layers=(layer,))
    inputs, outputs = np.array([8, 12, 12, 16, 99]), np.array([4, 4, 8, 12, 1])
    found = table.milliseconds([(inputs, outputs)])
    np.testing.assert_allclose(found, [1, 2, 3.5, 8, 3])


def test_what_is_not_in_layers_shrinks_with_their_widths():
    _, structure = chain()
    table = table_of(structure)
    slower = LatencyTable(
        structure=table.structure,
        device=table.device,
        dense_ms=2 * table.dense_ms,
        layers=table.layers,
    )
    keep = structure.full()
    keep[:16] = False
    alone = shares(structure, keep, table)["latency"]
    both = shares(structure, keep, slower)["latency"]
    assert alone < both == pytest.approx((alone + (0.5 + 1 + 1) / 3) / 2)


def test_a_table_that_counts_products_agrees_with_the_macs():
    _, structure = chain()
    table = table_of(structure)
    keep = structure.full()
    keep[:8] = keep[32:40] = False
    found = shares(structure, keep, table)
    assert found["latency"] == pytest.approx(found["flops"])


def test_a_latency_target_is_met_and_cuts_where_time_is_spent():
    _, structure = chain()
    slow = table_of(
        structure,
        lambda tensor, a, b: a * b * (100.0 if tensor == "0.weight" else 0.01),
    )
    keep = choose(structure, {"latency": 0.6}, slow)
    assert shares(structure, keep, slow)["latency"] <= 0.6
    assert structure.widths(keep) == {"0": 16, "2": 16}
    by_macs = choose(structure, {"flops": 0.6}, None)
    assert structure.widths(by_macs) != structure.widths(keep)


def test_a_width_that_is_slower_is_not_taken_for_faster():
    _, structure = chain()
    odd = table_of(structure, lambda _, a, b: 1000.0 if 8 in {a, b} else float(a * b))
    keep = choose(structure, {"latency": 0.55}, odd)
    assert shares(structure, keep, odd)["latency"] <= 0.55
    assert 8 not in structure.widths(keep).values()


def test_a_latency_that_no_width_reaches_is_refused_with_what_stands_in_the_way():
    _, structure = chain()
    table = table_of(structure)
    with pytest.raises(
        ConfigError, match=r"latency = 0.01 cannot be met.*even one unit"
    ):
        check_budget(
            structure, {"latency": 0.01}, floor=1, width_multiple=8, latency=table
        )
    with pytest.raises(ConfigError, match="fedprune profile"):
        choose(structure, {"latency": 0.5}, None)


@pytest.mark.parametrize("name", ["lenet", "resnet", "depthwise"])
def test_bytes_are_those_of_the_tensors_and_statistics_left(name):
    model, _, structure = build(name)
    keep = random_mask(structure, 0)
    apply_plan(model.float(), structure, keep)
    held = [t for k, t in model.state_dict().items() if "num_batches" not in k]
    wanted = sum(item.numel() * item.element_size() for item in held)
    assert count_cost(structure, keep).size == wanted


def test_a_budget_of_bytes_is_met():
    _, _, structure = build("resnet")
    keep = choose(structure, {"bytes": 0.5}, None)
    assert 0.3 < shares(structure, keep)["bytes"] <= 0.5


def load(path):
    prune = {"budget": {"latency": 0.5}, "latency_table": path}
    return load_table(load_config(None, {"prune": prune}))


def test_a_table_comes_back_from_its_file(tmp_path):
    _, structure = chain()
    table = table_of(structure)
    path = tmp_path / "latency.json"
    table.save(path)
    found = load(path)
    found.check(structure)
    assert (found.device, found.dense_ms) == (table.device, table.dense_ms)
    for one, other in zip(found.layers, table.layers, strict=True):
        assert (one.tensor, one.inputs, one.outputs) == (
            other.tensor,
            other.inputs,
            other.outputs,
        )
        np.testing.assert_array_equal(one.ms, other.ms)


FORGED = {
    "no JSON": lambda _: "{",
    "another version": lambda found: found | {"version": 2},
    "an unknown key": lambda found: found | {"x": 1},
    "a time of 0": lambda found: found | {"dense_ms": 0},
    "a time that is no number": lambda found: found | {"dense_ms": float("nan")},
    "a width twice": lambda found: _layer(found, inputs=[4, 4]),
    "a width of 0": lambda found: _layer(found, inputs=[0]),
    "too few times": lambda found: _layer(found, ms=[[1.0]]),
    "a layer that is a list": lambda found: found | {"layers": [[]]},
    "another network": lambda found: found | {"structure": "00" * 16},
    "a layer of another network": lambda found: _layer(found, tensor="9.weight"),
}


def _layer(found, **changed):
    first, *rest = found["layers"]
    return found | {"layers": [first | changed, *rest]}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_bad_table_is_refused_with_its_place(forge, tmp_path):
    _, structure = chain()
    path = tmp_path / "latency.json"
    table_of(structure).save(path)
    forged = forge(json.loads(path.read_text()))
    path.write_text(forged if isinstance(forged, str) else json.dumps(forged))
    with pytest.raises(ConfigError, match=r"latency\.json|prune\.latency_table"):
        load(path).check(structure)


def test_a_table_that_is_not_there_names_the_command(tmp_path):
    with pytest.raises(ConfigError, match=r"latency table .*none.* fedprune profile"):
        load(tmp_path / "none.json")


def test_a_table_that_no_budget_asks_for_is_not_read():
    assert load_table(load_config(None, {"prune.latency_table": "none.json"})) is None
