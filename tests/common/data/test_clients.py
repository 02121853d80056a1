"""Clients that the data name: npz files, functions, folders; and how runs use them."""

import numpy as np
import pytest
from helpers.pictures import write_folder
from helpers.small_runs import events, run_small, small_settings

from fedprune.common.config import load_config
from fedprune.common.data import npz
from fedprune.common.data.partition import partition
from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.runs.events import WarningGiven
from fedprune.server.runs.trying import try_network
from fedprune.simulations.runs.api import simulate

OWNERS = np.array(["bob", "ann", "bob", "cy"] * 12)


def arrays(owners=OWNERS):
    rng = np.random.default_rng(0)
    count = len(owners)
    x = rng.normal(size=(count, 1, 8, 8)).astype("float32")
    y = np.arange(count) % 3
    return x, y, x[:9] + 1, y[:9]


def write(path, owners=OWNERS):
    np.savez(path, **dict(zip(npz.NAMES, arrays(owners), strict=True)), clients=owners)
    return path


def natural(path, **changes):
    settings = {
        "task.data": f"npz:{path}",
        "task.partition.kind": "natural",
        "task.clients": 0,
        "rounds.cohort": 3,
        "client.validation": 0.0,
    }
    return LoadedTask(load_config(None, small_settings("runs", settings | changes)))


def test_an_npz_file_names_the_clients_of_its_examples(tmp_path):
    dataset = load_dataset(f"npz:{write(tmp_path / 'a.npz')}", data_dir="", fold=0)
    assert dataset.owners == tuple(OWNERS)


def test_natural_clients_train_on_their_own_examples(tmp_path):
    task = natural(write(tmp_path / "a.npz"))
    assert task.clients == ("ann", "bob", "cy")
    for name in task.clients:
        mine = task.client_data(name).train.inputs
        assert (mine == arrays()[0][name == OWNERS]).all()


def test_the_first_natural_clients_take_part_and_the_others_are_counted(tmp_path):
    task = natural(write(tmp_path / "a.npz"), **{"task.clients": 2, "rounds.cohort": 2})
    assert task.clients == ("ann", "bob")
    remarks = try_network(task, task.build_model()).remarks
    assert "the first 2 of the 3 clients that the data name take part" in remarks[-1]


def test_data_that_name_no_clients_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **dict(zip(npz.NAMES, arrays(), strict=True)))
    with pytest.raises(DataError, match="names no client for its examples"):
        _ = natural(tmp_path / "a.npz").clients


def test_names_that_need_pickle_are_refused(tmp_path):
    path = write(tmp_path / "a.npz", OWNERS.astype(object))
    with pytest.raises(DataError, match="'clients' cannot be read: its type is object"):
        load_dataset(f"npz:{path}", data_dir="", fold=0)


def test_other_arrays_may_still_hold_no_text(tmp_path):
    given = dict(zip(npz.NAMES, arrays(), strict=True)) | {"y_test": np.array(["a"])}
    np.savez(tmp_path / "a.npz", **given)
    with pytest.raises(DataError, match="'y_test' cannot be read: its type is <U1"):
        load_dataset(f"npz:{tmp_path / 'a.npz'}", data_dir="", fold=0)


SOURCE = """
import numpy as np

def data():
    x = np.zeros((4, 2))
    return x, np.array([0, 1, 0, 1]), x[:2], np.array([0, 1]), ["b", "a", "b", "a"]
"""


def test_a_function_names_the_clients_as_its_fifth_result(tmp_path):
    (tmp_path / "source.py").write_text(SOURCE)
    dataset = load_dataset(f"{tmp_path / 'source.py'}:data", data_dir="", fold=0)
    assert dataset.owners == ("b", "a", "b", "a")


def test_natural_clients_are_not_dealt_out():
    with pytest.raises(ConfigError, match="are not dealt out"):
        partition(np.arange(6) % 2, kind="natural", clients=2, seed=0)


@pytest.mark.slow
def test_a_python_caller_hands_over_clients_and_a_run_takes_them(tmp_path):
    settings = small_settings(tmp_path / "runs") | {
        "task.partition.kind": "natural",
        "task.clients": 0,
        "rounds.cohort": 3,
    }
    result = simulate(data=(*arrays(), OWNERS.tolist()), config=settings)
    assert (result.directory / "manifest.json").is_file()


@pytest.mark.slow
def test_a_folder_of_clients_is_a_run_and_its_remarks_are_warnings(tmp_path):
    for part in ("train/ann", "train/bob", "train/cy", "test"):
        write_folder(tmp_path / part, {"cat": 4, "dog": 4})
    (tmp_path / "test" / "notes.txt").write_text("no image")
    (tmp_path / "test" / "cat" / "notes.txt").write_text("no image")
    changes = {
        "task.data": f"folder:{tmp_path}",
        "task.partition.kind": "natural",
        "task.clients": 0,
        "rounds.cohort": 3,
    }
    result = run_small(tmp_path / "runs", changes)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        result.directory.name
    }
    said = [event.text for event in events(result.directory, WarningGiven)]
    assert any("2 files are no images by their endings" in text for text in said)
