"""Class numbers by class names: laws of the renumbering, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.pictures import write_folder
from helpers.small_runs import as_assignments, small_settings
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import default_collate

from fedprune.common.config import load_config
from fedprune.common.data.arrays import RawData, make_dataset
from fedprune.common.data.examples import Batch, MappedExamples
from fedprune.common.errors import DataError
from fedprune.common.tasks.labels import describe_labels, with_labels
from fedprune.common.tasks.loaded import LoadedTask

NAMES = ("cat", "dog", "fox", "owl")


def data(own=(), classes=(0, 1, 1)):
    raw = RawData(
        x_train=np.arange(12.0).reshape(3, 4),
        y_train=np.asarray(classes),
        x_test=np.arange(8.0).reshape(2, 4),
        y_test=np.asarray(classes[:2]),
        label_names=own,
    )
    return make_dataset(raw, name="folder:b")


@given(st.permutations(NAMES), st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_every_example_keeps_the_name_of_its_class(own, classes):
    before = data(tuple(own), classes)
    after = with_labels(before, NAMES, "the server")
    for old, new in ((before.train, after.train), (before.test, after.test)):
        wanted = [own[number] for number in old.targets]
        assert [NAMES[number] for number in new.targets] == wanted
        assert (new.inputs == old.inputs).all()
    assert after.label_names == NAMES


def test_examples_that_are_collated_get_the_numbers_in_their_batches():
    before = data(("dog", "fox"))
    part = MappedExamples(
        data=[(np.float32(number), number % 2) for number in range(4)],
        rows=np.arange(4),
        collate=lambda items: Batch(*default_collate(items)),
        labels=np.array([0, 1, 0, 1]),
    )
    mapped = replace(before, train=part, test=part)
    found = with_labels(mapped, NAMES, "the server").train
    assert found.targets.tolist() == [1, 2, 1, 2]
    assert found.batch(np.array([3, 0])).targets.tolist() == [2, 1]


def test_a_class_that_the_data_lack_stays_without_examples():
    found = with_labels(data(("dog", "fox")), NAMES, "the server")
    assert found.train.targets.tolist() == [1, 2, 2]
    assert found.num_outputs == 4


def test_classes_that_have_numbers_only_keep_them():
    found = with_labels(data(), NAMES, "the server")
    assert found.train.targets.tolist() == [0, 1, 1]
    assert (found.label_names, found.num_outputs) == (NAMES, 4)


def test_a_class_without_a_name_is_refused_with_what_both_sides_have():
    with pytest.raises(DataError) as caught:
        with_labels(data(("dog", "wolf")), NAMES[:3], "the server")
    assert str(caught.value) == (
        "'folder:b' has the classes wolf, which the server does not have: cat, dog, "
        "fox; not in these data: cat, fox"
    )


def test_more_numbers_than_names_are_refused():
    with pytest.raises(DataError, match=r"has 2 classes; task\.labels has 1: cat"):
        with_labels(data(), ("cat",), "task.labels")


LINES = {
    "the same": (NAMES, NAMES, ""),
    "no names at all": ((), (), ""),
    "names on the device alone": (
        ("dog", "fox"),
        (),
        (
            "the server names no classes (task.labels), so that the numbers of these "
            "data count: 0 dog, 1 fox"
        ),
    ),
    "names on the server alone": (
        (),
        ("cat", "dog"),
        (
            "the data name no classes, so that their numbers are the server's: 0 cat, "
            "1 dog"
        ),
    ),
    "fewer names on the device": (
        ("dog", "fox"),
        NAMES,
        (
            "classes get the server's numbers: dog 0 -> 1, fox 1 -> 2; no example of "
            "the classes cat, owl"
        ),
    ),
}


@pytest.mark.parametrize(("own", "names", "wanted"), LINES.values(), ids=LINES)
def test_a_device_is_told_which_numbers_its_classes_have(own, names, wanted):
    assert describe_labels(own, names) == wanted


SERVERS = {
    "its configuration": ({"task.labels": ["x", "y"], "task.outputs": 2}, ("x", "y")),
    "its data": ({}, ("cat", "dog")),
    "nothing, since it loads no data": (
        {"task.outputs": 2, "task.input_shape": [1, 6, 4]},
        (),
    ),
}


@pytest.mark.parametrize(("changes", "wanted"), SERVERS.values(), ids=SERVERS)
def test_a_server_tells_the_names_of(tmp_path, changes, wanted):
    write_folder(tmp_path, {"cat": 5, "dog": 5})
    settings = {"task.data": f"folder:{tmp_path}"} | changes
    config = load_config(None, as_assignments(small_settings(tmp_path, settings)))
    task = LoadedTask(config).task
    assert task.class_names == wanted
    assert ("source" in vars(task)) == (not changes)
