"""``fedprune run-model``: names of classes, accuracy, and the file's preprocessing."""

import numpy as np
import pytest
import torch
from helpers.finished_run import SHAPE, a_run

from fedprune.client.device.predict import _classes, _values, predict
from fedprune.common.description import Description

FACTS = Description(labels=("zero", "one"), offset=10.0, scale=0.5, stored="uint8")


@pytest.fixture
def run(tmp_path):
    return a_run(tmp_path, "mlp", description=FACTS)


def stored(path, x):
    y = np.arange(len(x)) % 10
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return f"npz:{path}"


def test_pixels_are_prepared_as_the_file_says_not_as_the_source_would(run, tmp_path):
    folder, model = run
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (30, *SHAPE), dtype=np.uint8)
    source = stored(tmp_path / "a.npz", x)
    found = predict(folder.model / "final.safetensors", source, limit=30)
    with torch.no_grad():
        outputs = model((torch.from_numpy(x).float() - 10.0) * 0.5)
    wanted = outputs.argmax(dim=1).tolist()
    assert [row["prediction"] for row in found.rows] == wanted
    assert found.warning == ""
    right = np.mean([row["prediction"] == row["target"] for row in found.rows])
    assert found.value == pytest.approx(right)


def test_data_of_another_type_get_a_warning(run, tmp_path):
    folder, _ = run
    x = np.random.default_rng(0).random((10, *SHAPE), dtype=np.float32)
    source = stored(tmp_path / "a.npz", x)
    found = predict(folder.model / "final.safetensors", source, limit=5)
    assert "stores float32, and the network was trained on uint8" in found.warning


def test_classes_have_their_names_where_the_file_has_them():
    outputs, targets = torch.eye(3)[[0, 1, 2]], torch.tensor([0, 2, 2])
    found = _classes(outputs, targets, ("cat", "dog"))
    assert [row.get("label") for row in found.rows] == ["cat", "dog", None]
    assert [row.get("target_label") for row in found.rows] == ["cat", None, None]
    assert (found.metric, found.value) == ("accuracy", pytest.approx(2 / 3))
    assert "label" not in _classes(outputs, targets, ()).rows[0]


def test_positions_that_do_not_count_are_no_part_of_the_accuracy():
    outputs = torch.eye(2)[[0, 0, 1]].T[None]
    found = _classes(outputs, torch.tensor([[0, -100, 0]]), ())
    assert found.value == 0.5
    assert found.rows[0]["prediction"] == [0, 0, 1]


def test_values_have_a_mean_squared_error():
    found = _values(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [1.0]]), ())
    assert (found.metric, found.value) == ("mean squared error", 2.0)
