"""Attacks of hostile clients: each changes what it says, to the value that it says."""

from dataclasses import fields, replace

import numpy as np
import pytest

from fedprune.common.errors import ConfigError
from fedprune.common.messages import Statistics, Validation
from fedprune.common.methods.attack import triggered
from fedprune.common.methods.forged import Answer
from fedprune.common.methods.kinds import ATTACK
from fedprune.common.methods.registry import methods

DELTA = np.float32([0.0, 3.0, 0.0, -4.0])
SEEN = np.float32([[1, 2, 3, 4], [3, 2, 1, 8]])
HONEST = Answer(
    delta=DELTA,
    num_examples=7,
    importance=np.float32([4, 1, 2, 3, 10, 30, 20, 40]),
    statistics=Statistics(
        num_examples=7,
        mean=np.float32([0.5, -0.5]),
        variance=np.float32([1, 2]),
        running=np.float32([9]),
    ),
    validation=Validation(loss_sum=2.0, metric_sum=1.0, count=3),
)
GROUPS = np.int32([0, 0, 0, 0, 1, 1, 1, 1])
CHANGED = {
    "delta": "sign-flip scale noise alie ipm mimic free-rider free-rider-old "
    "free-rider-noise examples",
    "num_examples": "examples",
    "statistics": "moments",
    "validation": "validation-bad validation-good",
    "importance": "scores-bury scores-inverted scores-random scores-equal "
    "scores-one-hot scores-huge",
}


def attack(name, answer=HONEST, *, scale=0.0, finetune=True, seed=0):
    return methods(ATTACK)[name](
        answer=answer,
        seen=SEEN,
        last=np.float32([5, 0, 0, 0]),
        groups=GROUPS,
        scale=scale,
        most=1000,
        finetune=finetune,
        rng=np.random.default_rng(seed),
    )


def on_answers():
    return [name for name, one in methods(ATTACK).items() if "answer" in one.needs]


@pytest.mark.parametrize("name", on_answers())
def test_an_attack_changes_what_the_table_says_and_nothing_else(name):
    before = DELTA.copy(), HONEST.importance.copy()
    found = attack(name)
    names = [field.name for field in fields(Answer)]
    changed = {n for n in names if repr(getattr(found, n)) != repr(getattr(HONEST, n))}
    assert changed == {n for n, attacks in CHANGED.items() if name in attacks.split()}
    assert found.delta.dtype == np.float32
    assert not np.any(
        np.signbit(found.delta[found.delta == 0])
    )  # no value of a message
    assert np.array_equal(before[0], DELTA)
    assert np.array_equal(before[1], HONEST.importance)


@pytest.mark.parametrize(
    ("name", "scale", "wanted"),
    [
        ("sign-flip", 0.0, [0, -30, 0, 40]),
        ("sign-flip", 1.0, [0, -3, 0, 4]),
        ("scale", 0.0, [0, 300, 0, -400]),
        ("scale", 2.0, [0, 6, 0, -8]),
        # Means 2, 2, 2, 6; standard deviations 1, 0, 1, 2.
        ("alie", 0.0, [0.5, 2, 0.5, 3]),
        ("alie", 1.0, [1, 2, 1, 4]),
        ("ipm", 0.0, [-2.2, -2.2, -2.2, -6.6]),
        ("ipm", 100.0, [-200, -200, -200, -600]),
        ("mimic", 0.0, [1, 2, 3, 4]),
        ("free-rider", 0.0, [0, 0, 0, 0]),
        ("free-rider-old", 0.0, [5, 0, 0, 0]),
        ("examples", 0.0, [0, -3, 0, 4]),
    ],
)
def test_forged_deltas_are_those_worked_out_by_hand(name, scale, wanted):
    assert attack(name, scale=scale).delta == pytest.approx(wanted)


@pytest.mark.parametrize(("name", "usual"), [("noise", 10.0), ("free-rider-noise", 1)])
def test_noise_is_as_long_as_it_says_and_drawn_anew(name, usual):
    for scale, factor in ((0.0, usual), (2.0, 2.0)):
        found = attack(name, scale=scale).delta
        assert np.linalg.norm(found) == pytest.approx(5.0 * factor)
        assert not np.any(found[DELTA == 0])
    assert not np.array_equal(attack(name).delta, attack(name, seed=1).delta)


def test_noise_of_an_empty_delta_is_empty():
    nothing = replace(HONEST, delta=np.zeros(4, dtype=np.float32))
    assert not np.any(attack("noise", nothing).delta)


def test_lies_beside_the_delta_are_those_worked_out_by_hand():
    assert attack("examples").num_examples == 1000
    false = attack("moments").statistics
    assert (false.mean.tolist(), false.num_examples) == ([50, 50], 1000)
    assert false.variance == pytest.approx([1e-3, 1e-3])
    assert false.running.tolist() == [50]
    good = attack("validation-good").validation
    assert (good.loss_sum, good.metric_sum, good.count) == (0.0, 1000.0, 1000)
    bad = attack("validation-bad").validation
    assert (bad.loss_sum, bad.metric_sum, bad.count) == (1e30, 0.0, 1000)
    assert attack("validation-bad", finetune=False).validation is HONEST.validation


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        # A quarter of a group is one channel: the best 0, the worst 3 times the best.
        ("scores-bury", [0, 12, 2, 3, 120, 30, 20, 0]),
        ("scores-inverted", [1e6, 4e6, 3e6, 2e6, 4e7, 2e7, 3e7, 1e7]),
        ("scores-equal", [1] * 8),
        ("scores-one-hot", [0, 1, 0, 0, 1, 0, 0, 0]),
        ("scores-huge", [1e38, 1, 2, 3, 10, 30, 20, 40]),
    ],
)
def test_forged_scores_are_those_worked_out_by_hand(name, wanted):
    assert attack(name).importance == pytest.approx(wanted)


@pytest.mark.parametrize("name", CHANGED["importance"].split())
def test_no_client_lies_about_scores_that_were_not_asked_for(name):
    silent = replace(HONEST, importance=None)
    assert attack(name, silent) is silent


def test_flipped_labels_mirror_the_classes():
    images, classes = np.zeros((3, 1, 4, 4), np.uint8), np.int64([0, 1, 9])
    found = methods(ATTACK)["label-flip"](inputs=images, targets=classes, classes=10)
    assert found[1].tolist() == [9, 8, 0]
    assert found[0] is images


def test_a_backdoor_marks_half_of_the_images_and_gives_them_the_class():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, size=(10, 1, 6, 6)).astype(np.uint8)
    classes = np.arange(10) % 3
    kept = images.copy(), classes.copy()
    marked, changed = methods(ATTACK)["backdoor"](
        inputs=images, targets=classes, target=5, rng=np.random.default_rng(0)
    )
    hit = changed == 5
    assert hit.sum() == 5
    assert np.array_equal(marked[hit], triggered(images[hit]))
    assert np.array_equal(marked[~hit], images[~hit])
    assert marked.dtype == np.uint8
    assert np.array_equal(kept[0], images)
    assert np.array_equal(kept[1], classes)


def test_the_trigger_is_a_bright_square_of_nine_pixels():
    marked = triggered(np.zeros((2, 1, 5, 5), np.float32) + np.eye(5, dtype=np.float32))
    assert np.all(marked[:, :, 2:, 2:] == 1)
    assert np.array_equal(marked[0, 0, :2], np.eye(5)[:2])


def test_a_trigger_needs_images():
    with pytest.raises(ConfigError, match=r"needs images .* have the shape \[4\]"):
        triggered(np.zeros((2, 4), np.float32))
