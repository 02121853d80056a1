"""The row of votes: candidates by hand, halves that no client scored, its figures."""

import numpy as np
import pytest
import torch
from torch import nn

from fedprune.common.config import load_config
from fedprune.common.data.examples import Batch
from fedprune.common.structure.tracing.find import find_structure
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.benchmarks.kit.science.intervals import pack
from fedprune.simulations.benchmarks.kit.science.votes import (
    candidates,
    measure,
    row,
    truth,
)
from fedprune.simulations.benchmarks.kit.science.votes.networks import (
    Decoder,
    Normed,
    Plain,
)
from fedprune.simulations.benchmarks.kit.science.votes.tasks import TASKS

PRODUCTS = np.array([[1.0, -2.0], [-1.0, 4.0], [3.0, 0.0]])


def test_candidates_of_products_have_the_numbers_found_by_hand():
    assert candidates.absolute(PRODUCTS).tolist() == [5.0, 6.0]
    # Half of 1 + 1 + 9 without 1 - 1 + 3; half of 4 + 16 without -2 + 4.
    assert candidates.second_order(PRODUCTS).tolist() == [2.5, 8.0]
    # The squares without three times the square of the mean, 1 and 2 / 3.
    found = candidates.without_mean(PRODUCTS)
    np.testing.assert_allclose(found, [11 - 3.0, 20 - 3 * 4 / 9])


@pytest.mark.parametrize("network", [Plain, Normed], ids=lambda one: one.__name__)
def test_networks_for_small_images_have_no_unit_that_is_left_out(network):
    structure = find_structure(network(), torch.zeros(2, 1, 14, 14))
    assert structure.units == {Plain: 16 + 32 + 128, Normed: 16 + 32 + 64}[network]


def test_the_decoder_has_units_in_its_heads_and_blocks():
    ids = torch.zeros(2, 32, dtype=torch.long)
    structure = find_structure(Decoder(), ids)
    assert sorted(len(group.units) for group in structure.groups) == [4, 4, 128, 128]


def test_examples_of_the_truth_are_scored_by_no_client_and_in_one_half():
    settings = {"client.score_examples": 64, "task.clients": 4, "rounds.cohort": 4}
    task = LoadedTask(load_config(None, settings | {"rounds.minimum": 2}))
    model = task.build_model()
    structure = find_structure(model, task.example())
    election = measure._election(task, model, structure)
    scored = {key for one in election.voters for key in keys(one.scored)}
    first, second = (
        {x.numpy().tobytes() for batch in half for x in batch.inputs}
        for half in election.halves
    )
    assert len(election.voters) == 4
    assert len(first) > 200 < len(second)
    assert not first & second
    assert not scored & (first | second)


def keys(examples):
    inputs = examples.batch(np.arange(len(examples))).inputs
    return [x.numpy().tobytes() for x in inputs]


def test_batches_become_one():
    parts = [Batch(torch.ones(2, 3), torch.tensor([0, 1]))] * 2
    (whole,) = truth.as_one(parts)
    assert (whole.size, whole.targets.tolist()) == (4, [0, 1, 0, 1])
    assert truth.as_one([]) == []


def test_the_truth_is_the_rise_of_the_loss_without_a_unit():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[1].weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.0]]))
    structure = find_structure(model, torch.zeros(2, 2))
    batch = Batch(torch.ones(1, 2), torch.tensor([0]))
    task = LoadedTask(load_config(None, {}))
    found = truth.measure_truth(model, structure, ([batch], [batch]), task)
    # Without unit 0 both scores are 0; without unit 1 nothing changes.
    wanted = np.log(2.0) - np.log(1.0 + np.exp(-3.0))
    np.testing.assert_allclose(found.first, [wanted, 0.0], atol=1e-6)
    np.testing.assert_array_equal(found.first, found.second)


def test_groups_count_by_their_units():
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 12), nn.Linear(12, 2))
    structure = find_structure(model, torch.zeros(2, 2))
    first = np.arange(16.0)
    second = np.where(np.arange(16) < 4, -first, first)
    assert truth.within_groups(structure, first, second) == pytest.approx(0.5)


def test_tasks_choose_and_confirm_two_and_two():
    assert [task.choice for task in TASKS] == [True, True, False, False]
    for task in TASKS:
        assert {*task.skipped} <= {*measure.CRITERIA}


def votes_of(fisher, taylor):
    kinds = {"fisher": fisher, "taylor": taylor}
    return {
        "units": 9,
        "examples": [5, 5],
        "ceiling": 0.8,
        "loss": 0.1,
        "criteria": {
            name: {"all": value, "within": value, "loss_after_cut": 1 - value}
            for name, value in kinds.items()
        },
    }


def test_a_criterion_is_shown_over_what_the_halves_agree_by():
    name = TASKS[0].name
    found = {f"{name}-{s}": votes_of(0.6 + s / 100, 0.4) for s in (0, 1, 2)}
    shown = {one.name: one for one in row.figures(found)}
    assert shown[f"votes, choice, {name}: taylor"].value == pytest.approx(0.5)
    gap = shown[f"votes, choice, {name}: rank correlation, fisher - taylor"]
    assert gap.value == pytest.approx(0.21)
    assert gap.met is True
    one = {key: found[key] for key in found if key.endswith("0")}
    alone = {f.name: f for f in row.figures(one)}[gap.name]
    assert alone.met is None


def test_ends_are_compared_by_seed_and_example():
    name = row.ENDED[0]

    def end(right):
        return {
            "correct": pack(np.array(right)),
            "accuracy_final": np.mean(right),
            "params_final": 5,
            "params_dense": 100,
            "rollbacks": 0,
        }

    found = {}
    for seed in range(3):
        found[f"{name}-fisher-{seed}"] = end([True] * 8)
        found[f"{name}-taylor-{seed}"] = end([True, False] * 4)
    shown = {one.name: one for one in row.figures(found)}
    gap = shown[f"end, {name}: accuracy, fisher - taylor"]
    assert gap.value == pytest.approx(50.0)
    assert gap.met is True
    assert f"end, {name}: accuracy, fisher - random" not in shown
