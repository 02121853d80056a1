"""One data set becomes a file for each device, and nothing is lost or doubled."""

import numpy as np
import pytest

from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import ConfigError
from fedprune.simulations.split import split_data


def read(path):
    return load_dataset(f"npz:{path}", data_dir="", fold=0)


def test_every_example_is_in_exactly_one_file(tmp_path):
    files = split_data("digits", tmp_path / "new", clients=3)
    assert [path.name for path in files] == [f"client-00{i}.npz" for i in range(3)]
    whole = load_dataset("digits", data_dir="", fold=0)
    parts = [read(path) for path in files]
    for name in ("train", "test"):
        dealt = np.concatenate([getattr(part, name).inputs for part in parts])
        source = getattr(whole, name)
        wanted, _ = source.batch(np.arange(len(source)))
        assert sorted(map(bytes, dealt)) == sorted(map(bytes, wanted.numpy()))


def test_labels_stay_with_their_images(tmp_path):
    (path,) = split_data("digits", tmp_path, clients=1, kind="iid")
    whole, part = load_dataset("digits", data_dir="", fold=0), read(path)
    assert np.array_equal(part.test.targets, whole.test.targets)
    assert np.array_equal(part.train.targets, whole.train.targets)


def test_images_are_resized(tmp_path):
    (path,) = split_data("digits", tmp_path, clients=1, size=28)
    resized, plain = read(path), load_dataset("digits", data_dir="", fold=0)
    assert resized.input_shape == (1, 28, 28)
    before, _ = plain.test.batch(np.arange(50))
    after, _ = resized.test.batch(np.arange(50))
    assert after.mean() == pytest.approx(float(before.mean()), abs=0.02)


def test_what_cannot_be_split_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="resizes images"):
        split_data("diabetes", tmp_path, clients=2, size=8)
    with pytest.raises(ConfigError, match=r"client-.* gets no data"):
        split_data("digits", tmp_path, clients=500)
