"""Losses and metrics of one example each, against plain torch and by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedprune.common.errors import ConfigError
from fedprune.common.tasks.losses import IGNORED, LOSSES, distance, logits_of

COUNT, CLASSES = 5, 4


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def integers(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(CLASSES, size=shape))


def holes(targets):
    """Return targets of which every third position, and one example, do not count."""
    flat = targets.flatten().clone()
    flat[::3] = IGNORED
    found = flat.reshape(targets.shape)
    found[1] = IGNORED
    return found


def name_of(loss):
    return "of a user's own" if loss is None else loss.name


# Loss -> outputs and targets of five examples.
CASES = {
    "cross-entropy": (normal(COUNT, CLASSES), integers(COUNT)),
    "bce": (normal(COUNT, CLASSES), (integers(COUNT, CLASSES) > 1).long()),
    "mse": (normal(COUNT, 2), normal(COUNT, 2, seed=1)),
    "per-pixel": (normal(COUNT, CLASSES, 3, 2), holes(integers(COUNT, 3, 2))),
    "next-token": (normal(COUNT, 6, CLASSES), holes(integers(COUNT, 6))),
}


def each(loss, outputs, targets):
    """Return loss and metrics of every example."""
    found = {"loss": loss.for_each(outputs, targets)}
    return found | {n: metric(outputs, targets) for n, metric in loss.metrics.items()}


def test_there_is_a_case_for_every_loss():
    assert CASES.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", CASES)
def test_an_example_has_its_own_loss_and_metrics_whatever_the_others_are(name):
    outputs, targets = CASES[name]
    together = each(LOSSES[name], outputs, targets)
    for number in range(COUNT):
        row = slice(number, number + 1)
        alone = each(LOSSES[name], outputs[row], targets[row])
        assert alone.keys() == together.keys()
        for key, values in together.items():
            assert values.shape == (COUNT,)
            torch.testing.assert_close(alone[key], values[row])


def test_cross_entropy_is_torchs_and_accuracy_the_share_of_right_classes():
    outputs, targets = CASES["cross-entropy"]
    found = each(LOSSES["cross-entropy"], outputs, targets)
    wanted = functional.cross_entropy(outputs, targets)
    torch.testing.assert_close(found["loss"].mean(), wanted)
    right = outputs.argmax(1) == targets
    assert found["accuracy"].tolist() == right.float().tolist()


def test_bce_is_torchs_and_its_accuracy_the_share_of_right_labels():
    outputs, targets = CASES["bce"]
    found = each(LOSSES["bce"], outputs, targets)
    wanted = functional.binary_cross_entropy_with_logits(outputs, targets.float())
    torch.testing.assert_close(found["loss"].mean(), wanted)
    one = each(
        LOSSES["bce"],
        torch.tensor([[3.0, -3.0, 0.5, -0.5]]),
        torch.tensor([[1, 0, 0, 1]]),
    )
    assert one["accuracy"].tolist() == [0.5]


def test_squared_error_is_torchs():
    outputs, targets = CASES["mse"]
    found = LOSSES["mse"].for_each(outputs, targets)
    torch.testing.assert_close(found.mean(), functional.mse_loss(outputs, targets))


def test_squared_error_refuses_targets_of_another_width():
    with pytest.raises(ConfigError, match="gives 2 values for each example; the targ"):
        LOSSES["mse"].for_each(normal(COUNT, 2), normal(COUNT, 3))


# Loss -> outputs with the classes in dimension 1.
POSITIONS = {
    "per-pixel": CASES["per-pixel"][0],
    "next-token": CASES["next-token"][0].transpose(1, 2),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_that_do_not_count_change_neither_loss_nor_metric(name):
    outputs, targets = CASES[name]
    found = each(LOSSES[name], outputs, targets)
    for number in range(COUNT):
        counts = targets[number].flatten() != IGNORED
        rows = POSITIONS[name][number].flatten(1).T[counts]
        wanted = targets[number].flatten()[counts]
        if not len(wanted):
            assert found["loss"][number] == 0.0
            continue
        loss = functional.cross_entropy(rows, wanted)
        torch.testing.assert_close(found["loss"][number], loss)
        right = (rows.argmax(1) == wanted).float().mean()
        torch.testing.assert_close(found["accuracy"][number], right)


@pytest.mark.parametrize("name", POSITIONS)
def test_ignored_positions_have_no_gradient(name):
    outputs, targets = CASES[name]
    asked = outputs.clone().requires_grad_()
    LOSSES[name].for_each(asked, targets).sum().backward()
    by_class = asked.grad if name == "per-pixel" else asked.grad.transpose(1, 2)
    size = by_class.abs().sum(dim=1)
    assert bool((size[targets == IGNORED] == 0.0).all())
    assert bool((size[targets != IGNORED] > 0.0).all())


def one_hot(classes):
    """Return outputs [n, classes, 2, 2] whose largest is the given class."""
    return functional.one_hot(torch.tensor(classes), CLASSES).movedim(-1, 1).float()


# Classes of the outputs, of the targets -> mean of the classes' intersections over
# their unions.
OVERLAPS = {
    "all right": ([[0, 0], [1, 1]], [[0, 0], [1, 1]], 1.0),
    # Class 0: 1 of 2 positions; class 1: 2 of 3; no other class occurs.
    "one wrong": ([[0, 0], [1, 1]], [[0, 1], [1, 1]], (1 / 2 + 2 / 3) / 2),
    # Class 0: 1 of 2; class 1: 1 of 2, for its last position does not count.
    "one ignored": ([[0, 0], [1, 1]], [[0, 1], [1, IGNORED]], 1 / 2),
    # Class 3 was found nowhere: 0 of 1; class 0: 3 of 4.
    "one missed": ([[0, 0], [0, 0]], [[0, 0], [0, 3]], (3 / 4 + 0) / 2),
    "nothing counts": ([[0, 0], [1, 1]], [[IGNORED] * 2] * 2, 1.0),
}


@pytest.mark.parametrize(("found", "wanted", "iou"), OVERLAPS.values(), ids=OVERLAPS)
def test_intersection_over_union_is_the_one_by_hand(found, wanted, iou):
    metric = LOSSES["per-pixel"].metrics["iou"]
    value = metric(one_hot([found]), torch.tensor([wanted]))
    assert value.tolist() == pytest.approx([iou])


def test_the_headline_of_segmentation_is_intersection_over_union():
    assert next(iter(LOSSES["per-pixel"].metrics)) == "iou"


@pytest.mark.parametrize("loss", [*LOSSES.values(), None], ids=name_of)
def test_distillation_is_zero_at_the_teachers_outputs_and_positive_elsewhere(loss):
    one = normal(COUNT, CLASSES) if loss is None else CASES[loss.name][0]
    other = one + normal(*one.shape, seed=9)
    assert abs(float(distance(loss, one, one, 2.0))) < 1e-6
    assert float(distance(loss, other, one, 2.0)) > 0.01


def test_distillation_is_the_divergence_of_the_softened_outputs():
    one, other = normal(COUNT, 3).double(), normal(COUNT, 3, seed=1).double()

    def soft(values):
        powers = np.exp(values.numpy() / 3.0)
        return powers / powers.sum(axis=1, keepdims=True)

    wanted, found = soft(other), soft(one)
    divergence = (wanted * np.log(wanted / found)).sum(axis=1).mean() * 9.0
    value = distance(LOSSES["cross-entropy"], one, other, 3.0)
    assert float(value) == pytest.approx(divergence, rel=1e-9)


@pytest.mark.parametrize("name", POSITIONS)
def test_distillation_of_positions_is_the_mean_over_all_of_them(name):
    one, other = CASES[name][0], CASES[name][0] + normal(*CASES[name][0].shape, seed=9)
    dim = LOSSES[name].classes_dim
    rows = [outputs.movedim(dim, -1).flatten(0, -2) for outputs in (one, other)]
    wanted = distance(LOSSES["cross-entropy"], *rows, 2.0)
    torch.testing.assert_close(distance(LOSSES[name], one, other, 2.0), wanted)


def test_distillation_ignores_a_shift_of_all_outputs_of_an_example():
    one = normal(COUNT, 3).double()
    shifted = one + torch.arange(5.0)[:, None]
    loss = LOSSES["cross-entropy"]
    assert abs(float(distance(loss, one, shifted, 2.0))) < 1e-9


@pytest.mark.parametrize("loss", [LOSSES["bce"], LOSSES["mse"], None], ids=name_of)
def test_distillation_without_classes_is_the_squared_difference(loss):
    one, other = normal(COUNT, 3), normal(COUNT, 3, seed=1)
    wanted = ((one - other) ** 2).mean()
    torch.testing.assert_close(distance(loss, one, other, 7.0), wanted)


class Output(dict):
    """A result with names, as libraries of networks return it."""


def test_logits_are_the_tensor_itself_or_that_of_a_mapping():
    one = normal(2, 3)
    for outputs in (one, {"hidden": one * 0, "logits": one}, Output(logits=one)):
        assert logits_of(outputs) is one


NO_LOGITS = {
    "a mapping without them": ({"a": normal(1), "b": 0}, "a dict with a, b;"),
    "integers": (integers(2), "a tensor of int64;"),
    "integers of a mapping": ({"logits": integers(2)}, "a tensor of int64;"),
    "a list": ([normal(1)] * 2, "a list of 2;"),
    "nothing": (None, "a NoneType;"),
}


@pytest.mark.parametrize(("outputs", "found"), NO_LOGITS.values(), ids=NO_LOGITS)
def test_outputs_without_logits_are_refused_in_one_line(outputs, found):
    with pytest.raises(ConfigError, match=f"^the network returns {found}") as caught:
        logits_of(outputs)
    assert "\n" not in str(caught.value)
