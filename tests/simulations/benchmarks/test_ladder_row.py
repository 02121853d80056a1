"""The row ``ladder``: sizes, rivals and figures, from pieces made by hand."""

import numpy as np
import pytest
import torch

from fedprune.common.config import load_config
from fedprune.common.models.registry import build_model
from fedprune.server.runs.controls.settings import control_config
from fedprune.simulations.benchmarks.kit.harness import verdict
from fedprune.simulations.benchmarks.kit.science.intervals import pack
from fedprune.simulations.benchmarks.kit.science.ladder import networks, row, settings

SIZE = 200


def piece(count, stored=12_000, up=10_000_000):
    costs = {"bytes_up": up, "bytes_down": 2 * up, "rounds": 101}
    return {"correct": pack(np.arange(SIZE) < count), "stored": stored} | costs


def shown(found):
    return {one.name: one for one in row.ROW.figures(found)}


@pytest.mark.parametrize("make", networks.PARAMETERS)
def test_a_slice_has_the_parameters_that_its_level_is_reported_with(make):
    network = make()
    sizes = [one.numel() for one in network.parameters()]
    assert sum(sizes) == networks.PARAMETERS[make]
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("name", settings.LEVELS)
def test_a_slice_is_dense_fedavg_over_the_rounds_of_the_pruned_run(name):
    sliced, pruned = (
        load_config(None, settings.RUNS[f"{kind}-{name}"])
        for kind in ("slice", "pruned")
    )
    dense = control_config("dense", pruned, pruned.rounds.total + 1)
    for section in ("client", "server", "update", "broadcast"):
        assert getattr(sliced, section) == getattr(dense, section)
    assert sliced.distill.weight == dense.distill.weight == 0.0
    assert sliced.rounds.total == dense.rounds.total == pruned.rounds.total
    assert (sliced.rounds.cuts, sliced.rounds.cohort) == (0, dense.rounds.cohort)
    model = {"model": dense.task.model}
    assert sliced.task.model_copy(update=model) == dense.task


@pytest.mark.parametrize("name", settings.LEVELS)
def test_the_budget_is_the_size_of_the_slice(name):
    config = load_config(None, settings.RUNS[f"pruned-{name}"])
    whole = networks.PARAMETERS[networks.level_c]
    kept = config.prune.budget.params * whole
    assert kept == pytest.approx(settings.LEVELS[name].params)


@pytest.mark.parametrize("name", settings.TWO)
def test_fedsparsify_is_dense_fedavg_with_masks_over_the_same_rounds(name):
    sparse, pruned = (
        load_config(None, settings.RUNS[n]) for n in ("fedsparsify", name)
    )
    dense = control_config("dense", pruned, pruned.rounds.total + 1)
    for section in ("client", "server", "broadcast", "task"):
        assert getattr(sparse, section) == getattr(dense, section)
    assert sparse.distill.weight == dense.distill.weight == 0.0
    assert sparse.update.update_density == dense.update.update_density == 1.0
    assert sparse.update.values == dense.update.values == "float32"
    assert sparse.rounds.total == pruned.rounds.total == 100
    mask = sparse.prune.mask
    assert (mask.kind, mask.schedule, mask.begin) == ("unstructured", "cubic", 1)
    assert mask.end == sparse.rounds.final == sparse.rounds.total


def test_the_sizes_of_two_classes_are_what_fedsparsify_stores():
    sparse, channels, masked = (
        load_config(None, settings.RUNS[name])
        for name in ("fedsparsify", *settings.TWO)
    )
    network = build_model("mlp", num_outputs=10, input_shape=(1, 28, 28), seed=0)
    sizes = [one.numel() for one in network.parameters()]
    biases = sum(one.numel() for one in network.parameters() if one.ndim == 1)
    whole = sum(sizes)
    assert channels.prune.budget.params * whole == pytest.approx(settings.STORED)
    mask = sparse.prune.mask.density
    kept = mask * (whole - biases) + biases
    assert kept == pytest.approx(settings.STORED)
    most = masked.prune.budget.params * whole
    assert masked.prune.mask.density * most + biases < 1.01 * settings.STORED


def test_goals_are_for_the_whole_interval_and_the_largest_size():
    found = {f"pruned-d-{seed}": piece(199, stored=25_000 + seed) for seed in (0, 1)}
    found |= {f"slice-d-{seed}": piece(197) for seed in (0, 1)}
    figures = shown(found)
    head = "ladder, 25274 parameters"
    reached = figures[f"{head}: test accuracy, pruned"]
    assert (reached.value, reached.goal) == (pytest.approx(99.5), ">= 99.2")
    assert reached.low < 99.2 < reached.high
    assert verdict(reached.met, reached.goal) == "not resolved"
    assert "25000, 25001 stored, 101, 101 rounds" in reached.detail
    assert "10.00 MB up and 20.00 MB down" in reached.detail
    assert reached.reference.startswith("99.07")
    size = figures[f"{head}: stored, pruned"]
    assert (size.value, size.goal, size.met) == (25_001, "<= 25274", True)
    assert figures[f"{head}: accuracy, pruned - slice"].value == pytest.approx(1.0)
    assert not [name for name in figures if "6594" in name or "two classes" in name]


def test_bytes_are_those_of_the_seed_that_sends_most():
    found = {"masked-0": piece(180, up=14_000_000), "masked-3": piece(184, 12_200)}
    found |= {"fedsparsify-3": piece(150, up=150_000_000)}
    figures = shown(found)
    head = "ladder, two classes a client"
    up = figures[f"{head}: bytes up, masked"]
    assert (up.value, up.unit, up.goal) == (14.0, "MB", "<= 15")
    assert figures[f"{head}: stored, masked"].met is False
    assert figures[f"{head}: test accuracy, masked"].value == pytest.approx(91.0)
    # Paired: seed 0 has no rival.
    assert figures[f"{head}: accuracy, masked - fedsparsify"].value == pytest.approx(17)
    assert figures[f"{head}: bytes up, fedsparsify"].goal == ""
    assert row.ROW.figures({}) == []


@pytest.mark.parametrize(("name", "stored"), [("channels", 12), ("masked", 10)])
def test_only_a_mask_leaves_values_out_of_what_is_stored(name, stored, monkeypatch):
    network = torch.nn.Linear(3, 3)
    with torch.no_grad():
        network.weight.fill_(1.0)
        network.bias.fill_(1.0)
        network.weight[0, :2] = 0.0

    class Ended:
        task = None

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def network(self):
            return network

        def figures(self, *keys):
            return dict.fromkeys(keys, 7)

    monkeypatch.setattr(row, "ended", lambda settings, seed: Ended())
    monkeypatch.setattr(row, "correct", lambda network, task: np.ones(5, dtype=bool))
    assert row._measure(name, 0)["stored"] == stored


def test_every_run_has_a_piece_for_each_seed():
    names = [one.name for one in row.ROW.pieces([0, 4])]
    assert len(names) == len({*names}) == 2 * len(settings.RUNS) == 14
    assert {"pruned-e-4", "slice-d-0", "masked-4", "fedsparsify-0"} <= {*names}
