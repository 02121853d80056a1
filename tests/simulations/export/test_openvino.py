"""OpenVINO's form of a network: its outputs, preprocessing, int8, latency, facts."""

import json

import numpy as np
import pytest
import torch
from helpers.finished_run import SHAPE, a_run

from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.export.export import export_run
from fedprune.simulations.export.runtimes import openvino_form
from fedprune.simulations.export.runtimes.openvino_form import (
    openvino_runner,
    write_openvino,
)
from fedprune.simulations.export.table import export_lines

PIXELS = Description(
    labels=("cat", "dog"), offset=127.5, scale=1 / 127.5, stored="uint8"
)


@pytest.fixture(scope="module", autouse=True)
def _openvino():
    pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Return a run folder that knows its data: the digits that come with the code."""
    folder, model = a_run(tmp_path_factory.mktemp("digits"))
    folder.config.write_text('[task]\nmodel = "small-resnet"\ndata = "digits"\n')
    return folder.path, model


@pytest.mark.slow
def test_it_answers_like_torch_for_any_batch(digits, tmp_path):
    target = tmp_path / "edge.xml"
    found = export_run(digits[0], format_="openvino", check=True, output=target)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["edge.bin", "edge.xml"]
    assert found["bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert found["max_output"] > 0.1
    assert 0.0 < found["max_difference"] <= 1e-5 * found["max_output"]
    assert found["checked_on"] == "test examples of the run"
    run = openvino_runner(target)
    for size in (1, 2, 9):
        batch = torch.randn(size, *SHAPE)
        with torch.no_grad():
            want = digits[1](batch).numpy()
        (answer,) = run({"input": batch.numpy()})
        assert np.abs(answer - want).max() <= 1e-5 * np.abs(want).max()
    # Dense and pruned, both by OpenVINO.
    assert min(found["latency_ms_dense"], found["latency_ms_pruned"]) > 0.0
    lines = export_lines(found)
    assert lines[-2].split() == ["openvino", "dense", "this", "file"]
    assert lines[-1].endswith("times as fast")
    for path in tmp_path.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
        assert b".py" not in path.read_bytes()


@pytest.mark.slow
def test_preprocessing_and_facts_are_inside(tmp_path):
    openvino = pytest.importorskip("openvino")
    folder, model = a_run(tmp_path, "mlp", description=PIXELS)
    target = tmp_path / "edge.xml"
    found = export_run(folder.path, format_="openvino", output=target)
    assert found["labels_file"] == "edge.labels.json"
    pixels = np.random.default_rng(0).integers(0, 256, (5, *SHAPE)).astype(np.float32)
    (answer,) = openvino_runner(target)({"input": pixels})
    with torch.no_grad():
        want = model(torch.from_numpy((pixels - 127.5) / 127.5)).numpy()
    assert np.allclose(answer, want, atol=1e-5)
    facts = openvino.Core().read_model(target).get_rt_info("fedprune").astype(dict)
    assert json.loads(facts["labels"].astype(str)) == ["cat", "dog"]
    assert "127.5" in facts["preprocessing"].astype(str)


@pytest.mark.slow
def test_int8_says_its_accuracy_by_openvino(digits, tmp_path):
    pytest.importorskip("onnxruntime")
    target = tmp_path / "small.xml"
    found = export_run(
        digits[0], format_="openvino", int8=True, check=True, output=target
    )
    plain = export_run(digits[0], format_="openvino", output=tmp_path / "a.xml")
    # The form itself grows by the nodes that quantise, the weights shrink.
    weights = [(tmp_path / name).stat().st_size for name in ("small.bin", "a.bin")]
    assert weights[0] < 0.3 * weights[1]
    assert abs(found["bytes_float32"] - plain["bytes"]) < 0.05 * plain["bytes"]
    assert 0.0 <= found["accuracy_int8"] <= 1.0
    assert abs(found["accuracy_int8"] - found["accuracy_float32"]) < 0.1
    assert 0.0 < found["max_difference"] < 0.25 * found["max_output"]


@pytest.mark.slow
def test_weights_of_something_else_are_not_replaced(digits, tmp_path):
    other, target = tmp_path / "edge.bin", tmp_path / "edge.xml"
    other.write_bytes(b"firmware")
    with pytest.raises(ConfigError, match=r"edge\.bin is there, and no edge\.xml"):
        export_run(digits[0], format_="openvino", output=target)
    assert other.read_bytes() == b"firmware"
    other.unlink()
    for _ in range(2):  # its own weights are replaced
        export_run(digits[0], format_="openvino", output=target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edge.bin", "edge.xml"]


def test_a_missing_openvino_is_named_with_the_command_that_installs_it(
    digits, monkeypatch, capsys
):
    monkeypatch.setattr(openvino_form, "find_spec", lambda _: None)
    assert run_command_line(["export", str(digits[0]), "--format", "openvino"]) == 2
    assert "fedprune[openvino]" in capsys.readouterr().err


def test_another_ending_and_no_network_are_refused(digits, tmp_path):
    with pytest.raises(ConfigError, match=r"name ends in \.xml"):
        export_run(digits[0], format_="openvino", output=tmp_path / "x.openvino")
    (tmp_path / "no.onnx").write_bytes(b"no network")
    with pytest.raises(FedPruneError, match="OpenVINO cannot read this network"):
        write_openvino(tmp_path / "no.onnx", tmp_path / "no.xml", {})
    with pytest.raises(FedPruneError, match="OpenVINO cannot load it"):
        openvino_runner(tmp_path / "no.xml")
    assert [path.name for path in tmp_path.iterdir()] == ["no.onnx"]
