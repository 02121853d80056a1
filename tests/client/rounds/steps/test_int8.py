"""Int8 arithmetic in training: the grids, their gradient, and those of the file."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.examples import SETTINGS as EXAMPLE
from helpers.tiny_federation import Tiny, make_examples, make_task
from torch import nn

from fedprune.client.rounds.steps.int8 import Int8, levels, on_int8, rounded
from fedprune.client.rounds.train import LocalTraining, train

SETTINGS = replace(EXAMPLE, batch=8, penalty="none", strength=0.0, distill_weight=0.0)


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def test_a_weight_lies_on_the_grid_of_its_channel():
    weight = torch.tensor([[64.0, -32.4, 0.6, 0.5], [0.0, 0.128, -0.065, 0.001]])
    numbers, step = levels(weight, 0)
    assert numbers.tolist() == [[64, -32, 1, 0], [0, 64, -32, 0]]  # ties to even
    assert step.flatten().tolist() == pytest.approx([1.0, 0.002])
    columns, steps = levels(weight.T.contiguous(), 1)
    assert torch.equal(columns, numbers.T)
    assert steps.shape == (1, 2)


def test_a_channel_of_zeros_stays_zero():
    weight = torch.tensor([[0.0, 0.0], [1.0, -2.0]], requires_grad=True)
    found = on_int8(weight, 0)
    assert found[0].tolist() == [0.0, 0.0]
    assert torch.isfinite(found).all()


def test_an_input_lies_on_the_grid_of_its_range_which_has_0():
    assert rounded(torch.tensor([0.0, 0.4, 0.6, 255.0])).tolist() == [0, 0, 1, 255]
    # The step is 1, 0 is code 100.
    assert rounded(torch.tensor([-100.0, 0.3, 155.0])).tolist() == [-100, 0, 155]
    assert rounded(torch.tensor([5.0, 255.0])).tolist() == [5.0, 255.0]
    assert rounded(torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_gradient_goes_straight_through(axis):
    weight = torch.linspace(-1.0, 2.0, 12).reshape(3, 4).requires_grad_()
    factor = torch.arange(12.0).reshape(3, 4)
    (on_int8(weight, axis) * factor).sum().backward()
    assert torch.equal(weight.grad, factor)


class Words(nn.Module):
    """Embedding, attention, norms and linear layers."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
        self.core = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.out = nn.Linear(16, 3)

    def forward(self, input):  # noqa: A002
        return self.out(self.core(self.words(input)).mean(1))


def convolutions():
    norm = nn.BatchNorm2d(16)
    norm.running_var.uniform_(0.3, 3.0)
    norm.running_mean.normal_()
    norm.weight.data.normal_()  # of both signs
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False), norm, nn.ReLU(),
        nn.Conv2d(16, 20, 3, groups=4), nn.ReLU(),
        nn.ConvTranspose2d(20, 8, 3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


PICTURES = torch.ones(4, 3, 12, 12).cumsum(3)
NETWORKS = {
    "convolutions and batch norm": (
        convolutions,
        torch.ones(4, 3, 12, 12).cumsum(3),
        4,
    ),
    "attention": (Words, torch.arange(28).reshape(4, 7) % 20, 5),
}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "inputs", "count"), NETWORKS.values(), ids=NETWORKS)
def test_the_integers_of_an_exported_file_are_those_of_training(
    tmp_path, make, inputs, count
):
    onnx = pytest.importorskip("onnx")
    helper = pytest.importorskip("onnx.numpy_helper")
    from fedprune.simulations.export.onnx_file import write_onnx
    from fedprune.simulations.export.onnx_int8 import quantise_onnx

    network = seeded(make).eval()
    path = tmp_path / "network.onnx"
    write_onnx(network, inputs, path)
    quantise_onnx(path, path, [{"input": inputs.numpy()}])
    stored = [
        np.abs(helper.to_array(item).astype(int))
        for item in onnx.load(str(path)).graph.initializer
        if item.data_type == onnx.TensorProto.INT8 and len(item.dims) > 1
    ]
    turned = [item.T for item in stored]
    weights, found = dict(network.named_parameters()), 0
    for name, axis in Int8(network)._axes.items():
        if axis >= 0:
            # Batch norm with a factor below 0 turns the sign of its channels.
            wanted = np.abs(levels(weights[name], axis)[0].numpy())
            same = [np.array_equal(w, wanted) for w in (*stored, *turned)]
            assert any(same), name
            found += 1
    assert found == len(stored) == count


def training(quantiser, **changes):
    return LocalTraining(
        examples=make_examples(24),
        task=make_task(),
        settings=replace(SETTINGS, **changes),
        penalty=None,
        teacher=None,
        augment=torch.Generator(),
        quantiser=quantiser,
    )


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_takes_the_gradient_at_the_rounded_weights(precision):
    network = seeded(Tiny)
    rough, exact = copy.deepcopy(network), copy.deepcopy(network)
    train(rough, training(Int8(rough), precision=precision), np.random.default_rng(0))
    train(exact, training(None, precision=precision), np.random.default_rng(0))
    assert not torch.equal(rough.conv1.weight, exact.conv1.weight)
    moved = (rough.conv1.weight - network.conv1.weight).detach().abs().max()
    assert 0.0 < float(moved) < 1.0
    assert not rough.conv._forward_pre_hooks  # nothing is left behind
    assert rough.conv.weight.is_leaf


def test_the_network_computes_with_rounded_weights_and_inputs():
    network = nn.Linear(2, 1, bias=False)
    network.weight.data = torch.tensor([[1.27, 0.004]])
    part = Int8(network)
    with part.attached(network):
        found = part.run(network, torch.tensor([[255.0, 100.4]])).detach()
    assert float(found) == pytest.approx(1.27 * 255)  # 0.004 rounds to 0
    assert float(network(torch.ones(1, 2)).detach()) == pytest.approx(1.274)


def test_a_frozen_layer_is_rounded_too_and_a_shared_table_once():
    network = seeded(Words)
    network.out = nn.Linear(16, 20, bias=False)
    network.out.weight = network.words.weight
    network.core.requires_grad_(requires_grad=False)
    part = Int8(network)
    with part.attached(network):
        part.run(network, torch.arange(8).reshape(2, 4)).sum().backward()
    assert "words.weight" in part._axes
    assert "out.weight" not in part._axes
    assert network.words.weight.grad is not None
