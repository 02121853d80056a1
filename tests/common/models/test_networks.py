import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedprune.common.errors import ConfigError
from fedprune.common.models.registry import NETWORKS, build_model

torch.set_num_threads(1)

# Name, input, parameters, multiply-accumulates of one example in millions.
SIZES = [
    ("lenet5", (1, 28, 28), 431_080, (2.2, 2.4)),
    ("mlp", (1, 28, 28), 784 * 128 + 128 + 128 * 128 + 128 + 1290, (0.11, 0.13)),
    ("small-resnet", (1, 8, 8), 151_738, (1.0, 1.3)),
    ("vgg11_bn", (3, 32, 32), 9_228_362, (150, 156)),
    ("resnet18", (3, 32, 32), 11_173_962, (550, 560)),
]
INPUTS = [
    ("lenet5", (1, 16, 16)),
    ("lenet5", (3, 33, 20)),
    ("mlp", (10,)),
    ("mlp", (3, 4, 5)),
    ("small-resnet", (1, 8, 8)),
    ("small-resnet", (3, 15, 9)),
    ("small-resnet", (1, 1, 1)),
    ("vgg11_bn", (1, 8, 8)),
    ("vgg11_bn", (3, 33, 9)),
    ("resnet18", (1, 8, 8)),
]
TRACEABLE = (
    nn.Conv2d,
    nn.Linear,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
)


@pytest.mark.parametrize(("name", "shape", "parameters", "millions"), SIZES)
def test_a_network_has_the_documented_size(name, shape, parameters, millions):
    model = build_model(name, num_outputs=10, input_shape=shape, seed=0).eval()
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *shape))
    low, high = millions
    assert low <= counter.get_total_flops() / 2e6 <= high


@pytest.mark.parametrize(("name", "shape"), INPUTS)
def test_a_network_takes_every_input_it_is_built_for(name, shape):
    model = build_model(name, num_outputs=3, input_shape=shape, seed=0).eval()
    assert model(torch.zeros(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_traced_into_the_supported_operations_only(name):
    model = build_model(name, num_outputs=10, input_shape=(1, 28, 28), seed=0)
    graph = torch.fx.symbolic_trace(model)
    for node in graph.graph.nodes:
        if node.op == "call_module":
            assert isinstance(graph.get_submodule(node.target), TRACEABLE)
        elif node.op == "call_function":
            assert node.target.__name__ == "add"
        else:
            assert node.op in ("placeholder", "output")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_of_a_network_gets_a_gradient(name):
    model = build_model(name, num_outputs=4, input_shape=(1, 16, 16), seed=0)
    model(torch.randn(4, 1, 16, 16)).square().sum().backward()
    flat = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert flat == []
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())


@pytest.mark.parametrize("name", ["small-resnet", "vgg11_bn", "resnet18"])
def test_batch_norm_starts_with_gamma_1_and_beta_0(name):
    model = build_model(name, num_outputs=2, input_shape=(1, 8, 8), seed=0)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) >= 8
    for norm in norms:
        assert bool((norm.weight == 1).all())
        assert bool((norm.bias == 0).all())


def test_no_relu_works_in_place_because_scores_read_the_tensor_before_it():
    for name in NETWORKS:
        model = build_model(name, num_outputs=2, input_shape=(1, 16, 16), seed=0)
        assert not any(m.inplace for m in model.modules() if isinstance(m, nn.ReLU))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("lenet5", (1, 8, 8)), ("lenet5", (784,)), ("resnet18", (10,))],
)
def test_an_input_that_does_not_fit_is_refused_with_both_shapes(name, shape):
    with pytest.raises(ConfigError, match="takes images") as caught:
        build_model(name, num_outputs=10, input_shape=shape, seed=0)
    assert str(shape) in str(caught.value)


@pytest.mark.slow
def test_small_resnet_learns_a_rule_that_a_linear_model_cannot():
    torch_stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(128, 1, 8, 8, generator=torch_stream)
    targets = (inputs[:, 0, 0, 0] * inputs[:, 0, 0, 1] > 0).long()
    model = build_model("small-resnet", num_outputs=2, input_shape=(1, 8, 8), seed=0)
    steps = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(30):
        steps.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        steps.step()
    right = (model(inputs).argmax(1) == targets).float().mean()
    assert float(right) > 0.95
