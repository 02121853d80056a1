"""Fine-tuned codebooks: values move, assignments stay, the training loss falls."""

import json

import numpy as np
import pytest
import torch
from helpers.finished_run import a_run
from torch.func import functional_call

from fedprune.common import codec
from fedprune.common.artifacts.load import load_model
from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError
from fedprune.common.models.flat import get_weights, model_spec
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.export.codebook_tuning import _codebooks, tune_centroids
from fedprune.simulations.export.export import export_run

CONFIG = '[task]\nmodel = "mlp"\ndata = "digits"\n'


@pytest.fixture(scope="module")
def task():
    return LoadedTask(load_config(None, ["task.model=mlp"]))


def trained(task):
    """Return a network that knows the digits a little."""
    model = task.build_model()
    batch = task.dataset.train.batch(np.arange(400))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(20):
        optimiser.zero_grad()
        task.loss(model(batch.inputs), batch).mean().backward()
        optimiser.step()
    return model


def coded(model, bits):
    """Return what the weights of a network are on a codebook."""
    spec = model_spec(model, units=0)
    blob = codec.encode_codebook(get_weights(model), spec, bits)
    return codec.decode_weights(blob, spec)


def by_tensor(model, weights):
    parts, start = [], 0
    for tensor in model_spec(model, units=0).tensors:
        parts.append((tensor, weights[start : start + tensor.size]))
        start += tensor.size
    return parts


def test_the_gradient_of_a_value_is_the_sum_of_those_of_its_weights(task):
    model = task.build_model()
    batch = task.dataset.train.batch(np.arange(40))
    torch.nn.utils.vector_to_parameters(
        torch.from_numpy(coded(model, 2)), model.parameters()
    )
    codebooks = _codebooks(model)
    task.loss(model(batch.inputs), batch).sum().backward()
    matrices = {name: codebook.matrix() for name, codebook in codebooks.items()}
    outputs = functional_call(model, matrices, (batch.inputs,))
    task.loss(outputs, batch).sum().backward()
    shared = dict(model.named_parameters())
    assert set(codebooks) == {name for name, w in shared.items() if w.dim() > 1}
    for name, codebook in codebooks.items():
        weight = shared[name]
        for value, gradient in zip(codebook.values, codebook.values.grad, strict=True):
            mine = weight.grad[weight == value]
            assert len(mine) > 0
            assert float(gradient) == pytest.approx(float(mine.sum()), rel=1e-3)


def test_values_move_until_the_loss_is_lower_and_assignments_stay(task):
    model = trained(task)
    before = coded(model, 1)
    tuned = tune_centroids(model, before, task, 2)
    assert tuned.loss_after < 0.8 * tuned.loss_before
    assert get_weights(model).tobytes() == tuned.weights.tobytes()
    after = by_tensor(model, tuned.weights)
    for (tensor, old), (_, new) in zip(by_tensor(model, before), after, strict=True):
        if len(tensor.shape) < 2:
            assert new.tobytes() == old.tobytes()
            continue
        assert np.array_equal(new == 0, old == 0)
        values, symbols = np.unique(old, return_inverse=True)
        firsts = np.unique(symbols, return_index=True)[1]
        assert np.array_equal(new, new[firsts][symbols])
        assert np.all(new[firsts][values != 0] != values[values != 0])


def test_the_same_run_gives_the_same_codebook_on_any_number_of_threads(task):
    found = []
    threads = torch.get_num_threads()
    for number in (1, 2):
        torch.set_num_threads(number)
        model = task.build_model()
        found.append(tune_centroids(model, coded(model, 2), task, 1).weights.tobytes())
        assert torch.get_num_threads() == number
    torch.set_num_threads(threads)
    assert found[0] == found[1]


def test_a_codebook_that_cannot_be_better_stays(task, monkeypatch):
    model = task.build_model()
    before = coded(model, 2)
    losses = iter([1.0, 2.0, 1.0])
    monkeypatch.setattr(
        "fedprune.simulations.export.codebook_tuning._loss", lambda *_: next(losses)
    )
    tuned = tune_centroids(model, before, task, 2)
    assert (tuned.loss_before, tuned.loss_after) == (1.0, 1.0)
    assert tuned.weights.tobytes() == before.tobytes()
    assert get_weights(model).tobytes() == before.tobytes()


@pytest.mark.slow
def test_an_export_reloads_the_fine_tuned_codebook_bit_for_bit(tmp_path, capsys):
    folder, model = a_run(tmp_path, "mlp")
    folder.config.write_text(CONFIG)
    plain, tuned = tmp_path / "plain.fpz", tmp_path / "tuned.fpz"
    export_run(folder.path, format_="fpz", values="codebook3", output=plain)
    words = ["--format", "fpz", "--values", "codebook3", "--output", str(tuned)]
    words = ["export", str(folder.path), *words, "--finetune-codebook", "2", "--json"]
    assert run_command_line(words) == 0
    found = json.loads(capsys.readouterr().out)
    again = get_weights(load_model(tuned))
    task = LoadedTask(load_config(folder.config))
    wanted = tune_centroids(model, coded(model, 3), task, 2)
    assert again.tobytes() == wanted.weights.tobytes()
    assert found["loss_codebook"] == round(wanted.loss_before, 6)
    assert found["loss_finetuned"] == round(wanted.loss_after, 6)
    assert wanted.loss_after < wanted.loss_before
    assert tuned.stat().st_size == plain.stat().st_size


@pytest.mark.parametrize(
    ("format_", "values", "told"),
    [
        ("fpz", "grid", 'want --values codebook5 beside it, found "grid"'),
        ("fpz", "", "want --values codebook5 beside it, found none"),
        (
            "onnx",
            "",
            'want --format fpz and --values codebook5 beside it, found "onnx" and none',
        ),
    ],
)
def test_only_codebooks_are_fine_tuned(tmp_path, format_, values, told):
    with pytest.raises(ConfigError, match=f"^--finetune-codebook: {told}$"):
        export_run(tmp_path, format_=format_, values=values, finetune=1)


@pytest.mark.parametrize("epochs", [-1, 1001, 10**14])
def test_epochs_that_never_end_are_refused(tmp_path, epochs):
    with pytest.raises(ConfigError, match="want 0 to 1000"):
        export_run(tmp_path, format_="fpz", values="codebook4", finetune=epochs)
