import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from fedprune.common.data import optional
from fedprune.common.data.parquet import read_split
from fedprune.common.data.sources import check_source, load_dataset
from fedprune.common.errors import ConfigError, DataError


def real_data(name):
    """Return the folder of a real data set, or skip the test."""
    root = os.environ.get("FEDPRUNE_DATA", "")
    if root and (Path(root) / name / "train.parquet").is_file():
        return Path(root)
    pytest.skip(f"no {name}/train.parquet in $FEDPRUNE_DATA")


def rows(inputs):
    return {row.tobytes() for row in inputs}


@pytest.fixture(scope="module")
def folds():
    return [load_dataset("digits", data_dir="", fold=fold) for fold in range(5)]


def test_digits_are_1797_centred_images_in_every_fold(folds):
    for dataset in folds:
        assert len(dataset.train) + len(dataset.test) == 1797
        assert dataset.input_shape == (1, 8, 8)
        assert dataset.num_outputs == 10
        assert not dataset.regression
        assert set(dataset.test.targets.tolist()) == set(range(10))
    inputs, _ = folds[0].train.batch(np.arange(len(folds[0].train)))
    assert abs(float(inputs.mean())) < 0.01
    assert float(inputs.min()) >= -0.31
    assert float(inputs.max()) <= 0.7


def test_the_five_folds_of_digits_test_each_image_once(folds):
    assert sorted(len(dataset.test) for dataset in folds) == [359, 359, 359, 360, 360]
    tested = [row for dataset in folds for row in rows(dataset.test.inputs)]
    whole = rows(folds[0].train.inputs) | rows(folds[0].test.inputs)
    assert set(tested) == whole
    for dataset in folds:
        assert not rows(dataset.train.inputs) & rows(dataset.test.inputs)


def test_folds_are_fixed_and_counted_modulo_5(folds):
    again = load_dataset("digits", data_dir="", fold=7)
    assert again.fingerprint() == folds[2].fingerprint()
    assert len({dataset.fingerprint() for dataset in folds}) == 5
    assert folds[0].fingerprint() == "0bc7082ca6356e2d935c1728ed6e96a6"


def test_diabetes_is_a_standardised_regression():
    dataset = load_dataset("diabetes", data_dir="", fold=0)
    assert dataset.regression
    assert (len(dataset.train), len(dataset.test)) == (354, 88)
    assert (dataset.input_shape, dataset.num_outputs) == ((10,), 1)
    assert dataset.train.targets.shape == (354, 1)
    for values in (dataset.train.inputs, dataset.train.targets):
        assert np.allclose(values.mean(0), 0, atol=1e-5)
        assert np.allclose(values.std(0), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"), [("mnist", (1, 28, 28)), ("cifar10", (3, 32, 32))]
)
def test_the_real_test_part_has_ten_thousand_images_of_ten_classes(name, shape):
    decoded, labels = read_split(real_data(name) / name, "test")
    images = decoded.pixels
    assert images.shape == (10_000, *shape)
    assert images.dtype == np.uint8
    assert set(labels.tolist()) == set(range(10))
    check_source(name, str(real_data(name)))


@pytest.mark.slow
def test_real_digits_are_drawn_white_on_black_in_the_middle():
    decoded, labels = read_split(real_data("mnist") / "mnist", "test")
    images = decoded.pixels
    ones = images[labels == 1, 0].mean(0)
    assert ones[14, 12:17].max() > 120
    assert ones[:, :5].max() < 30


SOURCES = """
import numpy as np

def good():
    x = np.arange(12.0).reshape(6, 2)
    return x, np.array([0, 1, 0, 1, 0, 1]), x[:2], np.array([0, 1])

def three():
    return good()[:3]

def fails():
    raise OSError("disk on fire")

def ragged():
    return [[1, 2], [3]], [0, 1], [[1, 2]], [0]

def nothing():
    return None
"""


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    path = tmp_path / "my_data.py"
    path.write_text(SOURCES)
    return path


def test_a_function_of_the_user_gives_a_data_set(sources, monkeypatch):
    dataset = load_dataset(f"{sources}:good", data_dir="", fold=0)
    assert dataset.input_shape == (2,)
    assert dataset.num_outputs == 2
    assert (len(dataset.train), len(dataset.test)) == (6, 2)
    monkeypatch.setattr(sys, "path", [*sys.path, str(sources.parent)])
    by_module = load_dataset("my_data:good", data_dir="", fold=0)
    assert by_module.fingerprint() == dataset.fingerprint()
    del sys.modules["my_data"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("three", "returned 3 arrays"),
        ("fails", "failed: OSError: disk on fire"),
        ("ragged", "my_data.py:ragged' failed: ValueError"),
        ("nothing", "returned None; want x"),
    ],
)
def test_a_bad_function_of_the_user_is_named(sources, function, message):
    with pytest.raises(DataError, match=message):
        load_dataset(f"{sources}:{function}", data_dir="", fold=0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digit", "'digit'; did you mean 'digits'"),
        ("cifar-10", "did you mean 'cifar10'"),
        ("hf:own/set", "did you mean 'hf-dataset:own/set'"),
        ("datasets:own/set:sub", "did you mean 'hf-dataset:own/set:sub'"),
        ("", "there is no data source ''"),
        ("npy:arrays.npz", "did you mean 'npz'"),
        ("folders:pictures", "did you mean 'folder'"),
        ("npz:none.npz", r"no file 'none\.npz'"),
        ("folder:none", "no folder 'none'"),
        ("parquet:none", "no folder 'none'"),
        ("none.py:load", r"no file 'none\.py'"),
        ("no_such_module_here:load", "no module 'no_such_module_here'"),
    ],
)
def test_a_source_that_is_not_there_is_refused_before_anything_is_loaded(
    source, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for check in (
        lambda: check_source(source, ""),
        lambda: load_dataset(source, data_dir="", fold=0),
    ):
        with pytest.raises(ConfigError, match=message):
            check()


def test_checking_a_source_runs_no_user_code(tmp_path):
    path = tmp_path / "loud.py"
    path.write_text("raise SystemExit\n")
    assert check_source(f"{path}:load", "") is None
    assert check_source("digits", "") is None


def test_without_a_folder_the_message_says_how_to_set_one(monkeypatch, tmp_path):
    monkeypatch.delenv("FEDPRUNE_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"task\.data_dir or .* FEDPRUNE_DATA"):
        check_source("mnist", "")
    with pytest.raises(ConfigError, match=r"no train\.parquet .* for data 'mnist'"):
        check_source("mnist", str(tmp_path))


@pytest.mark.parametrize(
    ("source", "package", "module"),
    [
        ("digits", "scikit-learn", "sklearn"),
        ("diabetes", "scikit-learn", "sklearn"),
        ("mnist", "pyarrow", "pyarrow"),
        ("cifar10", "pillow", "PIL"),
        ("folder:.", "pillow", "PIL"),
        ("parquet:.", "pyarrow", "pyarrow"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    source, package, module, monkeypatch
):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        optional, "find_spec", lambda name: None if name == module else find(name)
    )
    with pytest.raises(ConfigError) as caught:
        check_source(source, "")
    assert f"needs '{package}'" in str(caught.value)
    assert "pip install 'fedprune[simulation]'" in str(caught.value)


def test_a_package_that_cannot_be_imported_is_named_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match="needs 'scikit-learn'"):
        load_dataset("digits", data_dir="", fold=0)
