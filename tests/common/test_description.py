"""A description: checked values, and its preprocessing in words."""

import math

import numpy as np
import pytest
import torch

from fedprune.common.description import (
    LONGEST_LABEL,
    MOST_LABELS,
    Description,
    checked,
    is_scaled,
    labels_text,
    preprocessing_text,
)
from fedprune.common.errors import DataError

PIXELS = Description(
    labels=("cat", "dog"), offset=127.5, scale=1 / 127.5, stored="uint8"
)


def test_a_valid_description_is_returned_as_it_is():
    found = checked(["cat", "dog"], 127.5, 1 / 127.5, "uint8")
    assert found == PIXELS
    assert checked((), 0.0, 1.0, "") == Description()


REFUSED = {
    "a text for the labels": ("labels", ("ab", 0.0, 1.0, "uint8")),
    "no list": ("labels", ({"a": 1}, 0.0, 1.0, "uint8")),
    "too many labels": ("labels", (["a"] * (MOST_LABELS + 1), 0.0, 1.0, "uint8")),
    "a long label": ("labels", (["a" * (LONGEST_LABEL + 1)], 0.0, 1.0, "uint8")),
    "a label that is no text": ("labels", ([1], 0.0, 1.0, "uint8")),
    "a label of two lines": ("labels", (["a\nb"], 0.0, 1.0, "uint8")),
    "a terminal escape": ("labels", (["\x1b[31m"], 0.0, 1.0, "uint8")),
    "an infinite offset": ("offset", ((), math.inf, 1.0, "uint8")),
    "an offset that is a bool": ("offset", ((), True, 1.0, "uint8")),
    "an offset as text": ("offset", ((), "1", 1.0, "uint8")),
    "a scale of nothing": ("scale", ((), 0.0, 0.0, "uint8")),
    "a scale that is none": ("scale", ((), 0.0, math.nan, "uint8")),
    "a scale beyond float32": ("scale", ((), 0.0, 1e39, "uint8")),
    "an offset of a channel that is none": ("offset", ((), (1.0, "1"), 1.0, "uint8")),
    "a scale of a channel that is 0": ("scale", ((), 0.0, (1.0, 0.0), "uint8")),
    "other channels": ("offset, scale", ((), (1.0,), (1.0, 2.0), "uint8")),
    "no channel": ("offset, scale", ((), (), 1.0, "uint8")),
    "too many channels": ("offset, scale", ((), (1.0,) * 5000, 1.0, "uint8")),
    "a type with a path": ("stored", ((), 0.0, 1.0, "../x")),
    "a long type": ("stored", ((), 0.0, 1.0, "u" * 33)),
    "a type that is none": ("stored", ((), 0.0, 1.0, None)),
}


@pytest.mark.parametrize(("name", "values"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_is_no_description_is_refused_by_its_name(name, values):
    with pytest.raises(ValueError, match=rf"^{name}: ") as caught:
        checked(*values)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("description", "scaled", "words"),
    [
        (PIXELS, True, "uint8 values 0..255, which become -1..1"),
        (Description(offset=2.0, stored="float32"), True, "(x - 2) * 1 for float32"),
        (Description(stored="float32"), False, "none: the network takes the float32"),
        (Description(offset=2.0, stored="int64"), False, "takes the int64 ids as"),
        (Description(), False, "not known"),
    ],
)
def test_the_preprocessing_is_one_line(description, scaled, words):
    assert is_scaled(description) == scaled
    assert words in preprocessing_text(description)
    assert preprocessing_text(description).isprintable()


def test_many_labels_are_cut_and_counted():
    assert labels_text(PIXELS) == "cat, dog"
    many = Description(labels=tuple(map(str, range(100))))
    assert labels_text(many).endswith("8, 9 and 90 more")
    assert labels_text(Description()) == "none: classes have numbers only"


EACH = Description(offset=(100.0, 50.0), scale=(0.5, 2.0), stored="uint8")


@pytest.mark.parametrize("made", [np.asarray, torch.tensor])
def test_numbers_of_channels_apply_along_the_first_dimension_of_an_input(made):
    stored = made([[[100.0, 102.0], [50.0, 51.0]]])
    prepared = EACH.prepare(stored)
    assert prepared.tolist() == [[[0.0, 1.0], [0.0, 2.0]]]
    assert prepared.dtype == stored.dtype
    assert EACH.restore(prepared).tolist() == stored.tolist()


def test_numbers_of_channels_that_an_input_lacks_are_refused():
    with pytest.raises(DataError, match="2 channels, and an input has 3"):
        EACH.prepare(np.zeros((4, 3, 2)))
    with pytest.raises(DataError, match="2 channels, and an input has 1"):
        EACH.prepare(np.zeros(4))


def test_every_channel_counts_for_whether_inputs_are_scaled():
    assert is_scaled(EACH)
    assert is_scaled(Description(offset=(0.0, 1.0), stored="uint8"))
    assert not is_scaled(Description(offset=(0.0, 0.0), stored="uint8"))
