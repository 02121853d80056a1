"""The data of a run on Ray: in files that every process maps, and once in memory."""

import gc
import weakref

import numpy as np
from helpers.tiny_federation import make_config

from fedprune.common.data.pages import mapping_of
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.engines.shared_data import remove_shared, share_data


def digits():
    return LoadedTask(make_config(task__data="digits", task__model="mlp"))


def test_a_driver_that_has_shared_its_data_has_no_second_copy(tmp_path):
    task = digits()
    task.sizes, task.test, task.sample  # noqa: B018 - loads them
    loaded = weakref.ref(task.dataset.train.inputs)
    shared = share_data(task, tmp_path, "ray")
    gc.collect()
    assert loaded() is None  # though the run's frames keep the old task
    assert mapping_of(shared.dataset.train.inputs) is not None
    wanted = digits()
    for part in ("train", "test"):
        found, whole = getattr(shared.dataset, part), getattr(wanted.dataset, part)
        np.testing.assert_array_equal(found.inputs, whole.inputs)
        np.testing.assert_array_equal(found.targets, whole.targets)
    assert shared.sizes == wanted.sizes == task.sizes
    remove_shared(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_process_keeps_its_data_where_they_are(tmp_path):
    task = digits()
    assert share_data(task, tmp_path, "inprocess") is task
    assert list(tmp_path.iterdir()) == []
