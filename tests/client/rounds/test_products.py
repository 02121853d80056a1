"""Gate products: factors on outputs give what the gradients of the weights give."""

import numpy as np
import pytest
import torch
from helpers.pruning_archs import encoder
from helpers.tiny_federation import Tiny, make_examples, make_task
from torch import nn
from torch.nn import functional

from fedprune.client.rounds.products import Disagreement, ProductMeter
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.pruning.importance import measure_points
from fedprune.common.structure.tracing.find import find_structure

EXAMPLES = make_examples(7)
ALL = np.arange(7)


class Plain(nn.Module):
    """Convolutions without norms; activations behind them work in place."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 4, 3)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        x = self.act(self.two(self.act(self.one(x))))
        return self.fc(x.flatten(1))


class InPlace(nn.Module):
    """Batch norm whose output is changed in place by what follows."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        x = self.bn(self.conv(x))
        x += 0.5
        x.mul_(2.0).clamp_(min=0.1)
        return self.fc(x.mean((2, 3)))


class Tokens(nn.Module):
    """Linear layers over the last dimension of [batch, tokens, channels]."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.two(torch.relu(self.one(x.squeeze(1)))).mean(1)


class Windows(nn.Module):
    """Four windows of each example, one behind the other: [batch * 4, channels]."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        rows = torch.relu(self.one(x.reshape(-1, 4)))
        return self.two(rows).reshape(len(x), -1, 3).mean(1)


class Turned(nn.Module):
    """Time comes first, as recurrent networks have it: [time, batch, channels]."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.one, self.two = nn.Linear(16 // steps, 6), nn.Linear(6, 3)

    def forward(self, x):
        rows = x.reshape(len(x), self.steps, -1).transpose(0, 1)
        return self.two(torch.relu(self.one(rows))).mean(0)


class Faint(nn.Module):
    """Beside a convolution, time comes first in a branch of little effect."""

    def __init__(self):
        super().__init__()
        self.loud, self.quiet = Plain(), Turned(2)

    def forward(self, x):
        return self.loud(x) + 1e-4 * self.quiet(x)


class Mixed(nn.Module):
    """Windows of all examples, of each window number together: [4 * batch, c]."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        rows = x.reshape(len(x), 4, 4).transpose(0, 1).reshape(-1, 4)
        return self.two(torch.relu(self.one(rows))).reshape(4, len(x), 3).mean(0)


class Twice(nn.Module):
    """One layer is called twice, on inputs of other sizes."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, x):
        first = torch.relu(self.one(x)).mean((2, 3))
        return self.two(first + torch.tanh(self.one(x[:, :, :2])).mean((2, 3)))


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(x.mean(1))


class Heads(nn.Module):
    """An attention, whose heads no module gives out."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (1, 16)), encoder())
        self.last = Last()

    def forward(self, x):
        return self.last(self.net(x))


FAST = {
    "convolutions and batch norm": Tiny,
    "no norm, in place behind": Plain,
    "batch norm, in place behind": InPlace,
    "a linear layer over tokens": Tokens,
    "windows one behind the other": Windows,
    "a layer called twice": Twice,
}
SLOW = {
    "time first, as long as the batch of two": lambda: Turned(2),
    "time first, a multiple of the batch": lambda: Turned(4),
    "time first, a single step": lambda: Turned(1),
    "windows of all examples mixed": Mixed,
    "heads of an attention": Heads,
    "time first in a branch of little effect": Faint,
}


def made(factory):
    """Return a network in eval mode, its norms random, and its measuring points."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = factory().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    structure = find_structure(model, torch.rand(2, 1, 4, 4))
    return model, measure_points(structure)


def meter_of(factory):
    model, points = made(factory)
    assert points
    return ProductMeter(model, points, make_task()), model, points


def one_by_one(model, points, task):
    """Return gradient times value of each point's weight and bias, by example."""
    parameters = dict(model.named_parameters())
    rows = {point.tensor: [] for point in points}
    for number in ALL:
        batch = EXAMPLES.batch(np.array([number]))
        loss = task.loss(model(batch.inputs), batch).sum()
        for point in points:
            weight = parameters[point.tensor]
            bias = parameters.get(point.tensor.removesuffix("weight") + "bias")
            pairs = [(weight, point.dim)]
            if bias is not None and len(bias) == weight.shape[point.dim]:
                pairs.append((bias, 0))
            total = 0.0
            for tensor, dim in pairs:
                (gradient,) = torch.autograd.grad(loss, tensor, retain_graph=True)
                product = (gradient * tensor).detach().double().movedim(dim, 0)
                total = total + product.reshape(len(product), -1).sum(1)
            rows[point.tensor].append(total.numpy())
    return {name: np.stack(found) for name, found in rows.items()}


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    for name, products in wanted.items():
        size = np.abs(products).max()
        assert size > 0.0
        assert found[name].dtype == np.float64
        np.testing.assert_allclose(
            found[name], products, rtol=1e-3, atol=1e-5 * size, err_msg=name
        )


@pytest.mark.parametrize("factory", FAST.values(), ids=FAST)
def test_factors_give_the_products_of_the_weights_in_one_backward(factory):
    meter, model, points = meter_of(factory)
    assert meter.can_use_factors(EXAMPLES)
    found = meter.by_factors(EXAMPLES.batch(ALL))
    assert_close(found, one_by_one(model, points, make_task()))
    assert_close(meter.measure(EXAMPLES.batch(ALL), fast=True), found)


@pytest.mark.parametrize("factory", [*FAST.values(), *SLOW.values()],
                         ids=[*FAST, *SLOW])  # fmt: skip
def test_the_weights_give_the_products_of_every_network(factory):
    meter, model, points = meter_of(factory)
    wanted = one_by_one(model, points, make_task())
    assert_close(meter.by_weights(EXAMPLES.batch(ALL)), wanted)


@pytest.mark.parametrize("factory", SLOW.values(), ids=SLOW)
def test_where_the_first_dimension_is_not_the_batch_weights_are_used(factory):
    meter, model, points = meter_of(factory)
    fast = meter.can_use_factors(EXAMPLES)
    assert not fast
    found = meter.measure(EXAMPLES.batch(ALL), fast=fast)
    assert_close(found, one_by_one(model, points, make_task()))


def test_a_point_without_a_module_is_why_heads_are_not_measured_by_factors():
    meter, _, points = meter_of(Heads)
    assert any(not point.module for point in points)
    assert not meter.can_use_factors(EXAMPLES)


@pytest.mark.parametrize("factory", [*FAST.values(), *SLOW.values()],
                         ids=[*FAST, *SLOW])  # fmt: skip
def test_a_single_example_is_measured_alike_either_way(factory):
    meter, _, _ = meter_of(factory)
    alone = EXAMPLES.take(np.arange(1))
    batch = alone.batch(np.arange(1))
    found = meter.measure(batch, fast=meter.can_use_factors(alone))
    assert_close(found, meter.by_weights(batch))
    assert all(len(products) == 1 for products in found.values())


def test_without_examples_there_is_nothing_to_try():
    meter, _, _ = meter_of(Tiny)
    assert not meter.can_use_factors(EXAMPLES.take(np.arange(0)))


def test_a_batch_that_factors_cannot_serve_is_measured_by_the_weights():
    meter, model, points = meter_of(lambda: Turned(4))
    batch = EXAMPLES.batch(ALL)  # four steps are no multiple of seven examples
    assert meter.by_factors(batch) is None
    with pytest.raises(Disagreement):
        meter.measure(batch, fast=True)
    found = meter.measure(batch, fast=False)
    assert_close(found, one_by_one(model, points, make_task()))


class Late(nn.Module):
    """Uses its first layer a second time, for examples beyond a threshold."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, x):
        chosen = (x.mean((1, 2, 3), keepdim=True) > LIMIT).to(x.dtype)
        y = torch.relu(self.conv(x))
        y = y + functional.conv2d(x * chosen, self.conv.weight, padding=1)
        return self.fc(y.mean((2, 3)))


LIMIT = 0.5


def test_examples_that_are_laid_out_in_another_way_are_noticed_in_their_batch():
    inputs = EXAMPLES.inputs.astype(np.float32)
    inputs = inputs - inputs.mean((1, 2, 3), keepdims=True)
    inputs[4] += 1.0  # the one that uses the layer twice
    examples = ArrayExamples(inputs=inputs, targets=EXAMPLES.targets)
    meter, _, _ = meter_of(Late)
    assert meter.can_use_factors(examples)  # first, middle and last are alike
    with pytest.raises(Disagreement):
        meter.measure(examples.batch(ALL), fast=True, row=4)
    sums = meter.sums(examples.batch(ALL))
    slow = meter.by_weights(examples.batch(ALL))
    for name, value in slow.items():
        np.testing.assert_allclose(sums[name], value.sum(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factory", [Tiny, Plain, Heads])
def test_the_network_is_left_as_it_was(factory):
    meter, model, _ = meter_of(factory)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast = meter.can_use_factors(EXAMPLES)
    meter.measure(EXAMPLES.batch(ALL), fast=fast)
    meter.by_weights(EXAMPLES.batch(ALL))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(value.grad is None for value in model.parameters())
    assert not any(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_gone_though_the_network_fails():
    meter, model, _ = meter_of(Tiny)
    model.fc.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        meter.can_use_factors(EXAMPLES)
    assert not model.bn._forward_hooks
