"""Export and load: the file of a run is the network again, anywhere."""

import sys

import numpy as np
import pytest
import torch
from helpers.finished_run import SHAPE, a_run, answer, dense

from fedprune.common.artifacts import read_model_file, write_model_file
from fedprune.common.artifacts.load import load_model
from fedprune.common.config import load_config
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.errors import ConfigError, DataError, IntegrityError
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.export import onnx_file
from fedprune.simulations.export.check import (
    CheckInputs,
    compare,
    headline,
    torch_bind,
)
from fedprune.simulations.export.export import export_run
from fedprune.simulations.export.onnx_int8 import input_batches, quantise_onnx


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("runs"))


def test_a_loaded_network_answers_as_the_one_that_was_written(run):
    folder, model = run
    loaded = load_model(folder.model / "final.safetensors")
    assert not loaded.training
    assert np.array_equal(answer(loaded), answer(model))
    sizes = [
        sum(w.numel() for w in m.parameters()) for m in (loaded, dense("small-resnet"))
    ]
    assert sizes[0] < 0.5 * sizes[1]


def test_an_uncut_network_loads_without_a_plan_of_its_own(run):
    folder, _ = run
    loaded = load_model(folder.model / "dense.safetensors")
    want = dense("small-resnet").state_dict()
    assert {k: v.shape for k, v in loaded.state_dict().items()} == {
        k: v.shape for k, v in want.items()
    }


@pytest.mark.slow
def test_an_exported_safetensors_file_loads_alone_in_another_folder(run, tmp_path):
    folder, model = run
    target = tmp_path / "edge.safetensors"
    found = export_run(folder.path, format_="safetensors", check=True, output=target)
    assert found["path"] == str(target)
    assert found["bytes"] == target.stat().st_size
    assert found["max_difference"] == 0.0
    assert found["max_output"] > 0.1
    assert found["latency_ms_exported"] > 0
    assert np.array_equal(answer(load_model(target)), answer(model))


@pytest.mark.slow
def test_onnx_answers_like_torch_for_any_batch_and_holds_no_path(run, tmp_path):
    pytest.importorskip("onnxruntime")
    folder, model = run
    target = tmp_path / "edge.onnx"
    found = export_run(folder.path, format_="onnx", check=True, output=target)
    assert found["max_output"] > 0.1
    assert found["max_difference"] <= 1e-4 * found["max_output"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edge.onnx"]
    assert b".py" not in target.read_bytes()
    runner = onnx_file.onnx_runner(target)
    for size in (1, 2, 9):
        batch = torch.randn(size, *SHAPE)
        (want,) = torch_bind(model)(batch)()
        assert np.allclose(runner(batch.numpy()), want, atol=1e-5)


@pytest.mark.slow
def test_the_check_sees_another_network(run):
    folder, model = run
    other = load_model(folder.model / "dense.safetensors")
    given = CheckInputs(inputs=torch.randn(32, *SHAPE), source="noise", real=False)
    found = compare(torch_bind(model), torch_bind(other), given)
    assert found["max_difference"] > 0.01 * found["max_output"]


def test_the_default_place_is_inside_the_run(tmp_path):
    folder, _ = a_run(tmp_path, "mlp")
    found = export_run(folder.path, format_="safetensors")
    assert found["path"] == str(folder.model / "exported.safetensors")
    assert "max_difference" not in found


def test_an_unknown_format_an_unfinished_run_and_no_run_are_config_errors(
    run, tmp_path
):
    with pytest.raises(ConfigError, match='"torchscript", want one of'):
        export_run(run[0].path, format_="torchscript")
    with pytest.raises(ConfigError, match="no final network yet"):
        export_run(RunFolder.create(tmp_path, "new").path, format_="onnx")
    with pytest.raises(ConfigError, match="not a run folder"):
        export_run(tmp_path, format_="onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    run, tmp_path, monkeypatch, missing
):
    monkeypatch.setattr(
        onnx_file, "find_spec", lambda name: None if name == missing else sys
    )
    with pytest.raises(ConfigError, match=rf"'{missing}'.*fedprune\[onnx\]"):
        export_run(run[0].path, format_="onnx", check=True, output=tmp_path / "x.onnx")


def test_a_network_from_python_code_needs_its_factory(tmp_path):
    folder, model = a_run(tmp_path, "mlp", label="python")
    with pytest.raises(ConfigError, match="factory="):
        load_model(folder.model / "final.safetensors")
    loaded = load_model(
        folder.model / "final.safetensors", factory=lambda: dense("mlp")
    )
    assert np.array_equal(answer(loaded), answer(model))


def _forge(folder, *, tensors=None, meta=None):
    """Write the final network again, changed, with a digest that fits."""
    path = folder.model / "final.safetensors"
    old, metadata = read_model_file(path)
    write_model_file(path, {**old, **(tensors or {})}, {**metadata, **(meta or {})})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensors": {"extra": np.zeros(1, np.float32)}}, "unknown: .'extra'"),
        ({"meta": {"plan": "22" * 16}}, "wants 2222"),
        ({"meta": {"structure": "22" * 16}}, "wants 2222"),
        ({"meta": {"keep": "ff"}}, "metadata 'keep'"),
        ({"meta": {"structure_json": "{}"}}, "not a structure"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path, change, message):
    folder, _ = a_run(tmp_path, "mlp")
    with pytest.raises(IntegrityError, match=message):
        load_model(_forge(folder, **change))


def test_a_tensor_of_another_shape_is_refused_by_name(tmp_path):
    folder, _ = a_run(tmp_path, "mlp")
    tensors, _ = read_model_file(folder.model / "final.safetensors")
    name = next(iter(tensors))
    path = _forge(folder, tensors={name: np.zeros((1, 1), np.float32)})
    with pytest.raises(IntegrityError, match=rf"tensor '{name}' has shape \(1, 1\)"):
        load_model(path)


@pytest.mark.parametrize("name", ["plan.json", "structure.json"])
def test_a_missing_plan_or_structure_is_named(tmp_path, name):
    folder, _ = a_run(tmp_path, "mlp")
    (folder.path / name).unlink()
    with pytest.raises(IntegrityError, match=f"no {name} beside it"):
        load_model(folder.model / "final.safetensors")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Return a run folder that knows its data: the digits that come with the code."""
    folder, _ = a_run(tmp_path_factory.mktemp("digits"))
    folder.config.write_text('[task]\nmodel = "small-resnet"\ndata = "digits"\n')
    return folder


@pytest.mark.slow
def test_int8_is_smaller_close_to_float32_and_says_its_accuracy(digits, tmp_path):
    target = tmp_path / "small.onnx"
    found = export_run(
        digits.path, format_="onnx", int8=True, check=True, output=target
    )
    assert found["bytes"] == target.stat().st_size < found["bytes_float32"]
    assert 0.0 <= found["accuracy_int8"] <= 1.0
    assert abs(found["accuracy_int8"] - found["accuracy_float32"]) < 0.1
    assert 0.0 < found["max_difference"] < 0.25 * found["max_output"]
    assert found["checked_on"] == "test examples of the run"
    for rates in (found["examples_per_s_torch"], found["examples_per_s_exported"]):
        assert [*rates] == ["batch 1", "batch 32"]
        assert min(rates.values()) > 0.0


@pytest.mark.parametrize("format_", ["onnx", "safetensors"])
@pytest.mark.parametrize("values", ["grid", "int8"])
def test_values_are_refused_for_a_format_that_has_none(run, format_, values):
    with pytest.raises(ConfigError, match=r"values are of fpz, .*leave --values out"):
        export_run(run[0].path, format_=format_, values=values)


def test_int8_is_refused_for_another_format_and_without_data(digits, tmp_path):
    with pytest.raises(ConfigError, match="int8 is for ONNX"):
        export_run(digits.path, format_="safetensors", int8=True)
    with pytest.raises(DataError, match="no calibration data"):
        quantise_onnx(tmp_path / "a.onnx", tmp_path / "b.onnx", [])


def test_integers_of_an_int8_file_do_not_overflow_on_any_processor(tmp_path):
    """Without VNNI two products are added in 16 bits: 2 * 255 * 127 is too much."""
    runtime = pytest.importorskip("onnxruntime")
    model = torch.nn.Conv2d(16, 8, 3)
    with torch.no_grad():
        model.weight.copy_(1.0 - 0.01 * torch.rand_like(model.weight))
    inputs = 1.0 - 0.01 * torch.rand(4, 16, 8, 8)
    path = tmp_path / "network.onnx"
    onnx_file.write_onnx(model.eval(), inputs, path)
    quantise_onnx(path, path, [{"input": inputs.numpy()}])
    plain = runtime.SessionOptions()
    plain.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    integers, floats = (
        runtime.InferenceSession(str(path), options, ["CPUExecutionProvider"]).run(
            None, {"input": inputs.numpy()}
        )[0]
        for options in (runtime.SessionOptions(), plain)
    )
    np.testing.assert_allclose(integers, floats, rtol=0.01)
    np.testing.assert_allclose(floats, model(inputs).detach(), rtol=0.02)


def test_the_headline_metric_is_the_mean_over_all_examples():
    inputs = np.arange(300, dtype=np.float32).reshape(300, 1)
    examples = ArrayExamples(inputs=inputs, targets=np.arange(300) % 2)
    task = LoadedTask(load_config())

    def parity(batch):
        return torch.eye(2)[(batch[:, 0] % 2).long()]

    assert headline(parity, task, examples) == 1.0
    assert headline(lambda batch: 1.0 - parity(batch), task, examples) == 0.0
    assert headline(lambda batch: parity(0 * batch), task, examples) == 0.5
    assert sum(len(batch) for batch in input_batches(examples, 33)) == 33
    none = ArrayExamples(inputs=inputs[:0], targets=np.arange(0))
    with pytest.raises(DataError, match="no test example"):
        headline(parity, task, none)
