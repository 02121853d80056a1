"""The row ``decoder``: losses of examples, and differences from pieces made by hand."""

import base64

import numpy as np
import pytest
import torch
from torch import nn

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.models.weights_file import save_weights
from fedprune.simulations.benchmarks.kit.science import decoder
from fedprune.simulations.benchmarks.kit.science.losses import (
    pack_losses,
    unpack_losses,
)

MEANS = {"final": 2.0, "before_cut": 1.9, "one-shot": 2.05, "scratch": 2.4}


def piece(shift, weights="a"):
    noise = np.linspace(-1, 1, 50)
    means = {**MEANS, "dense": 1.97}
    found = {name: pack_losses(mean + shift + noise) for name, mean in means.items()}
    sizes = {"flops_final": 49, "flops_dense": 100, "bytes_up": 3e7, "bytes_down": 6e7}
    return found | sizes | {"weights": weights}


def test_differences_are_paired_by_seed_and_example():
    found = {"run-0": piece(0.0), "run-3": piece(0.5, "b")}
    shown = {one.name: one for one in decoder.ROW.figures(found)}
    for other, wanted, met in (
        ("one-shot", -0.05, True),
        ("scratch", -0.4, True),
        ("dense", 0.03, True),
    ):
        gap = shown[f"decoder: test loss, pruned - {other}"]
        assert gap.value == pytest.approx(wanted, abs=1e-6)
        assert gap.met is met
    loss = shown["decoder: test loss, pruned"]
    assert loss.value == pytest.approx(2.25)
    assert "0.490, 0.490 of the FLOPs; 2 pretrained network(s)" in loss.detail
    assert shown["decoder: bytes up, pruned"].value == pytest.approx(30.0)
    assert shown["decoder: bytes down, pruned"].detail == "n = 2: 60.0, 60.0"
    assert decoder.ROW.figures({}) == []


def test_one_seed_resolves_no_goal():
    shown = {one.name: one for one in decoder.ROW.figures({"run-0": piece(0.0)})}
    assert shown["decoder: test loss, pruned - scratch"].met is None


def test_losses_are_read_as_they_were_stored():
    values = np.array([0.1, 2.5, 0.0], dtype=np.float32)
    assert unpack_losses({"x": pack_losses(values)}, "x").tolist() == values.tolist()


@pytest.mark.parametrize(
    "forged", ["?", "", "AAA=", pack_losses(np.array([1.0, np.nan]))]
)
def test_losses_that_are_none_are_refused(forged):
    with pytest.raises(IntegrityError, match="measure"):
        unpack_losses({"x": forged}, "x")


def test_a_loss_is_stored_as_four_bytes():
    assert len(base64.b64decode(pack_losses(np.ones(7)))) == 28


def test_weights_of_another_pretraining_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    save_weights(path, nn.Linear(2, 2), {"steps": "3"})
    monkeypatch.setattr(decoder, "WEIGHTS", path)
    with pytest.raises(ConfigError, match="trained for 3 steps; want 600"):
        decoder._weights()


def test_the_controls_are_those_of_the_goals():
    config = load_config(decoder.FILE, decoder.BASICS)
    assert {*config.run.controls} == {*decoder._GOALS}
    assert len(decoder.ROW.pieces([0, 1, 2])) == 3


def test_the_loss_of_an_example_is_the_mean_over_its_characters(monkeypatch):
    from fedprune.common.tasks.loaded import LoadedTask
    from fedprune.simulations.benchmarks.kit.science import losses as kit

    class Rows:
        def __len__(self):
            return 300

        def batch(self, places):
            from fedprune.common.data.examples import Batch

            return Batch(torch.as_tensor(places).float(), None)

    class Task:
        test = Rows()

        def loss(self, outputs, _):
            return outputs

    assert LoadedTask.loss  # the method that stands in has this name
    monkeypatch.setattr(kit, "run_network", lambda model, inputs: model(inputs))
    found = kit.losses(nn.Identity(), Task())
    assert found.tolist() == list(range(300))
