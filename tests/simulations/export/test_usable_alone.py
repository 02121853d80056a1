"""An exported file is usable alone: preprocessing, labels, and a check on real data."""

import json

import numpy as np
import pytest
import torch
from helpers.finished_run import SHAPE, a_run
from torch import nn

import fedprune
from fedprune.common.config import load_config
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.export.check import (
    CheckInputs,
    OnnxNetwork,
    check_inputs,
    compare,
    headline,
    stored_values,
    torch_bind,
)
from fedprune.simulations.export.export import export_run
from fedprune.simulations.export.onnx_facts import finish_onnx
from fedprune.simulations.export.onnx_file import run_onnx, write_onnx
from fedprune.simulations.export.table import export_lines

LABELS = tuple(f"kind {number}" for number in range(10))
PIXELS = Description(labels=LABELS, offset=127.5, scale=1 / 127.5, stored="uint8")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run on pixels, and its network."""
    base = tmp_path_factory.mktemp("pixels")
    folder, model = a_run(base, "mlp", description=PIXELS)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, *SHAPE), dtype=np.uint8), rng.integers(0, 10, 60)
    path = base / "pixels.npz"
    np.savez(path, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    folder.config.write_text(f'[task]\nmodel = "mlp"\ndata = "npz:{path}"\n')
    folder.summary.write_text('{"metric": "accuracy", "accuracy_final": 0.25}')
    return folder, model


def raw_pixels():
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (40, *SHAPE), dtype=np.uint8)


def handmade(path, channels=1):
    """Write the ONNX form of ``output = input`` for a few numbers."""
    onnx = pytest.importorskip("onnx")
    kinds = (onnx.TensorProto.FLOAT, ["batch", channels])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["input"], ["output"])],
        "one",
        [onnx.helper.make_tensor_value_info("input", *kinds)],
        [onnx.helper.make_tensor_value_info("output", *kinds)],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    )
    path.write_bytes(model.SerializeToString())
    return path


def test_a_file_computes_the_preprocessing_bit_for_bit_as_training_did(tmp_path):
    pytest.importorskip("onnxruntime")
    target = tmp_path / "b.onnx"
    facts = finish_onnx(handmade(tmp_path / "a.onnx"), target, PIXELS, measured={})
    pixels = np.arange(256, dtype=np.uint8)
    (found,) = run_onnx(target, {"input": pixels.astype(np.float32)[:, None]})
    examples = fedprune_examples(pixels[:, None])
    assert found.tobytes() == examples.numpy().tobytes()
    assert json.loads(facts["labels"]) == list(LABELS)
    assert facts["preprocessing"].startswith("inside the file: (x - 127.5)")
    assert "offset" not in facts


def test_a_file_prepares_each_channel_with_its_own_numbers(tmp_path):
    pytest.importorskip("onnxruntime")
    each = Description(offset=(124.0, 116.0), scale=(0.017, 0.018), stored="uint8")
    target = tmp_path / "b.onnx"
    facts = finish_onnx(handmade(tmp_path / "a.onnx", 2), target, each, measured={})
    pixels = np.random.default_rng(0).integers(0, 256, (7, 2)).astype(np.uint8)
    (found,) = run_onnx(target, {"input": pixels.astype(np.float32)})
    assert found.tobytes() == fedprune_examples(pixels, each).numpy().tobytes()
    assert "[124, 116]) * [0.017, 0.018] by channel" in facts["preprocessing"]


def fedprune_examples(pixels, facts=PIXELS):
    """Return pixels as training sees them."""
    from fedprune.common.data.examples import ArrayExamples

    examples = ArrayExamples(
        inputs=pixels,
        targets=np.zeros(len(pixels), np.int64),
        offset=facts.offset,
        scale=facts.scale,
    )
    return examples.batch(np.arange(len(pixels))).inputs


@pytest.mark.parametrize(
    ("facts", "raw"),
    [(PIXELS, True), (Description(stored="int64", offset=1.0), False)],
    ids=["raw", "ids"],
)
def test_a_bare_file_leaves_its_input_alone_and_says_so(tmp_path, facts, raw):
    pytest.importorskip("onnxruntime")
    target = tmp_path / "b.onnx"
    found = finish_onnx(
        handmade(tmp_path / "a.onnx"), target, facts, measured={}, raw=raw
    )
    values = np.array([[0.0], [200.0]], np.float32)
    assert run_onnx(target, {"input": values})[0].tobytes() == values.tobytes()
    assert found["preprocessing"].startswith("before the file" if raw else "none")
    assert (found.get("offset"), found.get("scale")) == (
        (repr(127.5), repr(1 / 127.5)) if raw else (None, None)
    )


def test_stored_integers_come_back_exactly_and_other_numbers_nearly():
    pixels = torch.arange(256.0)
    prepared = (pixels - PIXELS.offset) * PIXELS.scale
    assert torch.equal(stored_values(prepared, PIXELS), pixels)
    halves = pixels + 0.5
    prepared = (halves - PIXELS.offset) * PIXELS.scale
    assert torch.allclose(stored_values(prepared, PIXELS), halves, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_raw_pixels_get_the_class_that_torch_gives_after_preprocessing(
    run, tmp_path, int8
):
    pytest.importorskip("onnxruntime")
    folder, model = run
    target = tmp_path / "edge.onnx"
    found = export_run(
        folder.path, format_="onnx", check=True, int8=int8, output=target
    )
    pixels = raw_pixels()
    (outputs,) = run_onnx(target, {"input": pixels.astype(np.float32)})
    with torch.no_grad():
        wanted = model((torch.from_numpy(pixels).float() - 127.5) / 127.5).numpy()
    share = (outputs.argmax(1) == wanted.argmax(1)).mean()
    assert share >= (0.8 if int8 else 1.0)
    assert found["checked_on"] == "test examples of the run"
    assert found["max_difference"] <= (0.3 if int8 else 1e-5) * found["max_output"]
    assert found["labels"] == list(LABELS)
    beside = target.with_name("edge.labels.json")
    assert json.loads(beside.read_text()) == list(LABELS)
    assert metadata_of(target)["metric"] == "accuracy"
    assert str(folder.path).encode() not in target.read_bytes()


def metadata_of(path):
    import onnx

    return {item.key: item.value for item in onnx.load(str(path)).metadata_props}


@pytest.mark.slow
def test_a_raw_file_takes_what_the_network_takes(run, tmp_path):
    pytest.importorskip("onnxruntime")
    folder, model = run
    target = tmp_path / "raw.onnx"
    export_run(folder.path, format_="onnx", check=True, raw=True, output=target)
    batch = torch.randn(3, *SHAPE)
    (outputs,) = run_onnx(target, {"input": batch.numpy()})
    (wanted,) = torch_bind(model)(batch)()
    assert np.allclose(outputs, wanted, atol=1e-5)


@pytest.mark.parametrize("option", ["raw", "int8"])
def test_options_of_onnx_are_refused_for_other_formats(run, option):
    with pytest.raises(ConfigError, match=f"{option} is for ONNX"):
        export_run(run[0].path, format_="fpz", **{option: True})


def test_labels_lie_beside_each_export_and_are_printed(run, tmp_path, capsys):
    folder, _ = run
    target = tmp_path / "edge.safetensors"
    found = export_run(folder.path, format_="safetensors", check=True, output=target)
    assert fedprune.describe_model(target) == PIXELS
    assert found["labels_file"] == "edge.labels.json"
    inside = export_run(folder.path, format_="safetensors")
    assert inside["labels_file"] == "labels.json"
    words = ["export", str(folder.path), "--format", "safetensors", "--check"]
    assert run_command_line(words) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == inside["path"]
    text = "\n".join(lines)
    assert "labels        kind 0, kind 1" in text
    assert "preprocessing before the file: (x - 127.5)" in text
    assert "{" not in text
    assert "test examples of the run" in text
    assert run_command_line([*words[:4], "--quiet"]) == 0
    assert capsys.readouterr().out == f"{first}\n"


def test_the_table_shows_no_control_character_of_a_file():
    found = {
        "path": "a\x1b",
        "format": "onnx",
        "bytes": 1,
        "params": 1,
        "input": "x\n",
        "preprocessing": "\x1b[31m",
        "labels": ["a\x1b"],
        "labels_file": "labels.json",
    }
    assert all(line.isprintable() for line in export_lines(found))


class Tokens(nn.Module):
    """A network of tokens with a mask."""

    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(30, 4), nn.Linear(4, 2)

    def forward(self, ids, mask):
        x = self.words(ids) * mask[..., None]
        return {"logits": self.out(x.mean(1)), "sum": x.sum((1, 2))}


class Sentences(fedprune.Task):
    """Sentences of six tokens with a mask, as dicts."""

    def train_data(self, client):
        rng = np.random.default_rng(0)
        return [
            {"ids": torch.tensor(row), "mask": torch.ones(6), "label": int(row[0] > 14)}
            for row in rng.integers(0, 30, (40, 6))
        ]

    test_data = lambda self: self.train_data("")  # noqa: E731


def sentences():
    return LoadedTask(load_config(), given=Sentences())


def test_the_check_runs_networks_of_tokens_on_their_own_examples():
    task, model = sentences(), Tokens().eval()
    given = check_inputs(lambda: task, (), Description())
    assert given.real
    assert given.inputs["ids"].dtype == torch.int64
    found = compare(torch_bind(model), torch_bind(model), given)
    assert found["max_difference"] == 0.0
    assert found["max_output"] > 0.0


@pytest.mark.slow
def test_an_onnx_file_of_tokens_is_compared_and_scored_like_its_network(tmp_path):
    pytest.importorskip("onnxruntime")
    task, model = sentences(), Tokens().eval()
    given = check_inputs(lambda: task, (), Description())
    write_onnx(model, given.first(2), tmp_path / "a.onnx")
    finish_onnx(tmp_path / "a.onnx", tmp_path / "b.onnx", Description(), measured={})
    network = OnnxNetwork(tmp_path / "b.onnx", model)
    found = compare(torch_bind(model), network.bind, given)
    assert found["max_difference"] <= 1e-5
    scores = [headline(one, task, task.test) for one in (network, lambda x: model(**x))]
    assert scores[0] == scores[1]
    assert 0.0 < scores[0] < 1.0


@pytest.mark.parametrize("loss", ["missing", "other shape"])
def test_where_the_data_are_gone_inputs_are_made_up_and_it_is_said(tmp_path, loss):
    source = "npz:gone.npz" if loss == "missing" else "digits"
    config = load_config(None, [f'task.data="{source}"'])
    shape = (1, 8, 8) if loss == "missing" else (3, 5, 5)
    given = check_inputs(lambda: LoadedTask(config), shape, PIXELS)
    assert not given.real
    assert given.inputs.shape == (32, *shape)
    assert given.inputs.abs().max() <= 1.0
    assert given.source.startswith("made-up numbers, for the run has no example here: ")
    assert ("gone.npz" in given.source) == (loss == "missing")


def test_without_examples_and_a_shape_nothing_can_be_made_up():
    config = load_config(None, ['task.data="npz:gone.npz"'])
    with pytest.raises(ConfigError, match=r"not one tensor, .*gone\.npz"):
        check_inputs(lambda: LoadedTask(config), (), Description())


def test_made_up_numbers_that_a_network_does_not_take_are_one_line():
    model = nn.Sequential(nn.Embedding(5, 2), nn.Flatten())
    given = CheckInputs(inputs=torch.full((32, 3), 9), source="made-up", real=False)
    with pytest.raises(FedPruneError, match="does not run on made-up: index out of"):
        compare(torch_bind(model), torch_bind(model), given)
