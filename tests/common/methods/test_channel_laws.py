"""The laws of every method on channels: criteria of importance, and penalties."""

from itertools import combinations

import numpy as np
import pytest
import torch
from helpers.methods import each, names_on, names_that_need
from helpers.pruning_nets import build, choose, flat
from helpers.scores import CHANNELS, EXAMPLES, Scaled, measured, network, view
from helpers.tiny_federation import make_task
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.methods.kinds import (
    IMPORTANCE,
    PENALTY,
)
from fedprune.common.methods.method import Side
from fedprune.common.methods.registry import methods
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.importance import normalise
from fedprune.common.sparsity.penalty import PenaltySpec, build_penalty

OF_BATCHES = ("products", "product_sums", "activations")
CRITERION = pytest.mark.parametrize("criterion", methods(IMPORTANCE))


def inputs(order=None):
    """Return all that a criterion may ask for, not to be written to."""
    rng = np.random.default_rng(1)
    found = {
        "products": rng.normal(size=(6, CHANNELS)),
        "product_sums": rng.normal(size=CHANNELS),
        "activations": rng.normal(size=(6, CHANNELS, 4)).astype(np.float32),
        "loss_changes": rng.normal(size=CHANNELS),
        "draws": rng.random(CHANNELS),
    }
    if order is not None:
        axes = dict.fromkeys(found, 0) | {"products": 1, "activations": 1}
        found = {key: found[key].take(order, axis) for key, axis in axes.items()}
    for array in found.values():
        array.setflags(write=False)
    return found | {"weights": view(order=order)}


@CRITERION
def test_a_criterion_gives_one_finite_number_for_each_channel(criterion):
    found = methods(IMPORTANCE)[criterion](**inputs())
    assert found.shape == (CHANNELS,)
    assert np.isfinite(found).all()
    assert (found >= 0.0).all()
    assert found.max() > 0.0


@CRITERION
def test_the_order_of_the_channels_does_not_matter_to_a_criterion(criterion):
    order = np.random.default_rng(2).permutation(CHANNELS)
    method = methods(IMPORTANCE)[criterion]
    wanted = method(**inputs())[order]
    np.testing.assert_allclose(method(**inputs(order)), wanted, rtol=1e-9)


@CRITERION
def test_scores_are_float32_finite_not_negative_and_repeatable(criterion):
    model, structure = network()
    scores = measured(model, structure, criterion)
    assert scores.dtype == np.float32
    assert scores.shape == (32,)
    assert np.isfinite(scores).all()
    assert (scores >= 0.0).all()
    assert scores.max() > 0.0
    np.testing.assert_array_equal(measured(model, structure, criterion), scores)


@pytest.mark.parametrize("criterion", names_that_need(IMPORTANCE, *OF_BATCHES))
def test_the_scores_of_batches_are_added(criterion):
    model, structure = network()
    parts = [EXAMPLES.take(np.arange(start, start + 8)) for start in (0, 8)]
    both = EXAMPLES.take(np.arange(16))  # the batches are of eight
    first, second = (
        measured(model, structure, criterion, examples=part) for part in parts
    )
    found = measured(model, structure, criterion, examples=both)
    np.testing.assert_allclose(found, first + second, rtol=1e-5)


@CRITERION
def test_a_score_that_says_nothing_prunes_evenly(criterion):
    model, structure = network(alike=True)
    scores = measured(model, structure, criterion)
    if "draws" in methods(IMPORTANCE)[criterion].needs:  # only in the mean
        assert abs(scores[:16].mean() - scores[16:].mean()) < 0.25
        return
    if criterion == "lamp":  # ranks units that are alike by their number
        np.testing.assert_allclose(scores[:16], scores[16:], rtol=1e-5)
    else:
        np.testing.assert_allclose(scores, scores[0], rtol=1e-5)
    for density in (0.75, 0.5, 0.25):
        keep = choose(structure, np.round(scores, 5), {"channel_density": density})
        left, right = structure.widths(keep).values()
        assert abs(left - right) <= 1


@CRITERION
def test_the_scale_of_a_clients_loss_changes_nothing(criterion):
    model, structure = network()
    task = make_task()
    scores = measured(model, structure, criterion, task)
    scaled = measured(model, structure, criterion, Scaled(task.config, task.factory))
    np.testing.assert_allclose(
        normalise(scaled), normalise(scores), rtol=1e-3, atol=1e-7
    )


@CRITERION
def test_no_group_falls_below_its_floor_at_99_percent(criterion):
    model, structure = network()
    scores = measured(model, structure, criterion)
    keep = choose(structure, scores, {"channel_density": 0.01}, floor=3)
    assert set(structure.widths(keep).values()) == {3}


@CRITERION
def test_measuring_leaves_the_weights_as_they_were(criterion):
    model, structure = network()
    before = get_weights(model)
    measured(model, structure, criterion)
    np.testing.assert_array_equal(get_weights(model), before)
    assert all(item.grad is None for item in model.parameters())


def test_a_criterion_runs_where_what_it_needs_is():
    client, server = (names_on(IMPORTANCE, side) for side in (Side.CLIENT, Side.SERVER))
    assert {*client, *server} == {*methods(IMPORTANCE)}
    assert {*client} == {*names_that_need(IMPORTANCE, *OF_BATCHES, "loss_changes")}


MAGNITUDES = torch.tensor([0.0, 1e-30, 1e-3, 0.5, 1.0, 2.0, 1e6], dtype=torch.float64)
PROXIMAL = each(PENALTY, lambda one: "threshold" in one.needs)
GATE = each(PENALTY, lambda one: "uniform" in one.needs)


def factors(method, threshold):
    (name,) = method.needs - {"threshold"}
    return method(**{name: MAGNITUDES.clone(), "threshold": threshold})


@PROXIMAL
@pytest.mark.parametrize("threshold", [0.0, 1e-9, 0.4, 1.0, 1e9])
def test_a_proximal_factor_is_between_zero_and_one(method, threshold):
    found = factors(method, torch.full_like(MAGNITUDES, threshold))
    assert found.shape == MAGNITUDES.shape
    assert ((found >= 0.0) & (found <= 1.0)).all()


@PROXIMAL
def test_a_threshold_of_zero_changes_nothing(method):
    assert (factors(method, torch.zeros_like(MAGNITUDES)) == 1.0).all()


@PROXIMAL
@given(one=st.floats(0, 10), other=st.floats(0, 10))
def test_a_larger_threshold_never_keeps_more(method, one, other):
    low, high = sorted((one, other))
    less = factors(method, torch.full_like(MAGNITUDES, high))
    more = factors(method, torch.full_like(MAGNITUDES, low))
    assert (less <= more).all()


@PROXIMAL
def test_a_larger_channel_or_entry_never_loses_a_larger_share(method):
    found = factors(method, torch.full_like(MAGNITUDES, 0.4))
    assert (found.diff() >= 0.0).all()


@GATE
@pytest.mark.parametrize("strength", [1e-6, 0.3, 1.0])
def test_a_gates_factor_is_between_zero_and_one_and_follows_the_draw(method, strength):
    draws = torch.linspace(0.0, 1.0, 101)[:-1]
    found = method(uniform=draws, strength=strength, log_alpha=torch.full((100,), 0.5))
    assert found.shape == draws.shape
    assert ((found >= 0.0) & (found <= 1.0)).all()
    assert (found.diff() >= 0.0).all()


@pytest.mark.parametrize(
    ("first", "second"),
    [*combinations(names_that_need(PENALTY, "channels", "scales"), 2)],
)
def test_several_penalties_share_the_strength(first, second):
    model, _, structure = build("resnet")

    def thresholds(name):
        spec = PenaltySpec(name=name, strength=0.6)
        found = build_penalty(structure, structure.full(), flat(model), spec)
        return [one.thresholds for one in found.units]

    alone = [*thresholds(first), *thresholds(second)]
    for half, whole in zip(thresholds(f"{first}+{second}"), alone, strict=True):
        torch.testing.assert_close(half, whole / 2)
