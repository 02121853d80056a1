"""Checks of a test part: spread, classes of the training part, no repeats."""

import re

import numpy as np
import pytest

from fedprune.common.data.arrays import RawData, make_dataset
from fedprune.common.data.held_out import check_held_out
from fedprune.common.errors import DataError

RNG = np.random.default_rng(0)
X, X_TEST = RNG.normal(size=(30, 4)), RNG.normal(size=(12, 4))
Y, Y_TEST = np.arange(30) % 3, np.arange(12) % 3


def checked(x=X, y=Y, x_test=X_TEST, y_test=Y_TEST):
    raw = RawData(x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return check_held_out(make_dataset(raw, name="data"), classes=y.dtype.kind == "i")


def test_two_parts_of_the_same_kind_pass_without_a_word():
    assert checked() == ()
    assert checked(y=X[:, :2], y_test=X_TEST[:, :2]) == ()


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("values", [0.1, [0.1, 2.0]], ids=["[n]", "[n, 2]"])
def test_values_without_a_spread_have_no_r_squared(count, values):
    targets = np.asarray([values] * count)
    train = X[:, 0] if targets.ndim == 1 else X[:, :2]
    with pytest.raises(DataError, match=r"R squared is undefined.*y_test"):
        checked(y=train, x_test=X_TEST[:count], y_test=targets)


def test_labels_that_are_shifted_in_one_part_are_named():
    (line,) = checked(y_test=Y_TEST + 1)
    assert line.startswith("1 of 3 classes of the test data do not occur")
    assert "training data: 3; are both numbered alike?" in line
    (line,) = checked(y=Y + 1)
    assert "training data: 0; " in line
    (line,) = checked(x_test=X[:30], y_test=np.arange(30) % 15)
    assert "12 of 15 classes" in line
    assert "data: 3, 4, 5, 6, 7 and 7 more;" in line


def test_no_class_in_common_is_refused():
    wanted = "classes 0 to 2 in training, 3 to 5 in test; want the same numbering"
    with pytest.raises(DataError, match=re.escape(wanted)):
        checked(y_test=Y_TEST + 3)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_training_examples_in_the_test_part_are_named_above_one_half(kind):
    pixels = RNG.integers(0, 256, size=(42, 4, 4)).astype(kind)
    x, mixed = pixels[:30], pixels[30:].copy()
    mixed[:6] = x[:6]
    assert checked(x=x, x_test=mixed) == ()
    mixed[6] = x[6]
    (line,) = checked(x=x, x_test=mixed)
    assert line.startswith("7 of 12 test examples are training examples too")
    assert checked(x=x, y=X[:, 0], x_test=x[:12], y_test=X[:12, 0])
