"""Weights that a network calculates before it uses them: what is cut, exactly."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

from fedprune.common.errors import StructureError
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import check_exact, half_mask
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import examine, find_structure

VECTOR = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
SEQUENCE = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(1))
IMAGE = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(2))
V, G = "parametrizations.weight.original1", "parametrizations.weight.original0"


class Net(nn.Module):
    """A linear layer, a function of parameters, and a head; lengths are equal."""

    def __init__(self, run, *, head=8, buffers=(), **shapes):
        super().__init__()
        self.run = run
        self.a, self.h = nn.Linear(8, 8), nn.Linear(head, 3)
        for name, shape in shapes.items():
            value = torch.rand(shape) + 0.1
            if name in buffers:
                self.register_buffer(name, value)
            else:
                setattr(self, name, nn.Parameter(value))

    def forward(self, x):
        return self.h(self.run(self, self.a(x)))


class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.h = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.form = nn.Bilinear(8, 8, 8)

    def forward(self, x):
        return self.h(self.form(self.a(x).sigmoid(), self.b(x)).relu())


class ScaledStandardConv(nn.Conv2d):
    """A convolution with scaled standardised weights (Brock et al. 2021)."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x):
        weight = functional.batch_norm(
            self.weight.reshape(1, self.out_channels, -1),
            None,
            None,
            weight=(self.gain * 0.3).view(-1),
            training=True,
            momentum=0.0,
            eps=1e-6,
        ).reshape_as(self.weight)
        return functional.conv2d(
            x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class Attention(nn.Module):
    """Heads whose keys have a bias that is not trained (Bao et al. 2021)."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.head_dim = 4, 2
        self.qkv, self.proj = nn.Linear(8, 24, bias=False), nn.Linear(8, 8)
        self.q, self.v = (nn.Parameter(torch.rand(8)) for _ in range(2))
        self.register_buffer("k", torch.rand(8))

    def forward(self, x):
        batch, length, _ = x.shape
        bias = torch.cat((self.q, self.k, self.v))
        x = functional.linear(x, self.qkv.weight, bias)
        x = x.reshape(batch, length, 3, self.num_heads, self.head_dim)
        q, k, v = x.permute(2, 0, 3, 1, 4).unbind(0)
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, length, -1))


class Double(nn.Module):
    def forward(self, weight):
        return weight * 2.0


class Shifted(nn.Module):
    def forward(self, weight):
        return weight + 1.0


def parametrised(layer, how):
    parametrize.register_parametrization(layer, "weight", how)
    return layer


def conv(layer, width=8):
    """Return a layer between convolutions; its inputs are not 0 when masked."""
    return nn.Sequential(
        nn.Conv2d(8, 8, 1),
        nn.Sigmoid(),
        layer,
        nn.ReLU(),
        nn.Conv2d(width, 4, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def bare(run, **shapes):
    return lambda: Net(run, **shapes)


def normed(layer, **options):
    return lambda: conv(parametrizations.weight_norm(layer(), **options))


def spectral(layer, **options):
    return lambda: conv(parametrizations.spectral_norm(layer(), **options))


def simple():
    return nn.Conv2d(8, 8, 3)


def grouped():
    return nn.Conv2d(8, 8, 3, groups=2)


def transposed():
    return nn.ConvTranspose2d(8, 8, 3)


def linear(weight):
    """Return a function of the layer before: a linear map by a calculated weight."""
    return lambda n, x: functional.linear(x.sigmoid(), weight(n)).relu()


def by_rows(weight, **options):
    """Return a weight divided by a length of its rows that is never 0."""
    return weight / (weight.norm(dim=1, keepdim=True, **options) + 1e-3)


def standardised(weight):
    deviation, mean = torch.std_mean(weight, 1, keepdim=True)
    return (weight - mean) / torch.sqrt(deviation.square() + 1e-3)


# name -> (network, input, units of each group)
CASES = {
    "a low-rank addition": (
        bare(lambda n, x: x + (x @ n.p.T) @ n.q.T, p=(8, 8), q=(8, 8)),
        VECTOR,
        {"q": 8, "p": 8},
    ),
    "a weight of low rank": (
        bare(linear(lambda n: n.w + n.q @ n.p), w=(6, 8), q=(6, 4), p=(4, 8), head=6),
        VECTOR,
        {"a": 8, "w": 6, "p": 4},
    ),
    "a weight of low rank by einsum": (
        bare(linear(lambda n: torch.einsum("or,ri->oi", n.q, n.p)), q=(8, 4), p=(4, 8)),
        VECTOR,
        {"a": 8, "q": 8, "p": 4},
    ),
    "a tied decoder": (
        bare(lambda n, x: functional.linear(x.sigmoid() @ n.w.mT, n.w.t()), w=(8, 8)),
        VECTOR,
        {"a": 8, "w": 8},
    ),
    "a sum with the transposed": (
        bare(linear(lambda n: n.w + n.w.T), w=(8, 8)),
        VECTOR,
        {"w": 8},
    ),
    "a mask of the weight": (
        bare(linear(lambda n: n.w * n.mask), w=(8, 8), mask=(8, 8), buffers=["mask"]),
        VECTOR,
        {"a": 8, "w": 8},
    ),
    "a scale of each row": (
        bare(linear(lambda n: n.w * n.g), w=(8, 8), g=(8, 1)),
        VECTOR,
        {"a": 8, "w": 8},
    ),
    "a scale of the whole weight": (
        bare(linear(lambda n: n.w * n.g.exp()), w=(8, 8), g=(1,)),
        VECTOR,
        {"a": 8, "w": 8},
    ),
    "cosines": (
        bare(linear(lambda n: functional.normalize(n.w)), w=(8, 8)),
        VECTOR,
        {"a": 8, "w": 8},
    ),
    "rows divided by their length": (
        bare(linear(lambda n: by_rows(n.w)), w=(8, 8)),
        VECTOR,
        {"a": 8, "w": 8},
    ),
    "standardised rows": (
        bare(linear(lambda n: standardised(n.w)), w=(8, 8)),
        VECTOR,
        {"w": 8},
    ),
    "a weight from the left": (
        bare(lambda n, x: (n.w @ x.mT).relu().mT, w=(6, 8), head=6),
        SEQUENCE,
        {"a": 8, "w": 6},
    ),
    "a weight and a bias in two parts": (
        bare(
            lambda n, x: functional.linear(
                x, torch.cat([n.w, n.v]), torch.cat([n.b, n.c])
            ),
            w=(3, 8),
            v=(5, 8),
            b=(3,),
            c=(5,),
        ),
        VECTOR,
        {"a": 8, "w": 3, "v": 5},
    ),
    "a bias with a part that is not trained": (
        lambda: nn.Sequential(Attention(), nn.Linear(8, 3)),
        SEQUENCE,
        {"0.qkv": 4, "0.proj": 8},
    ),
    "a bilinear form": (Bilinear, VECTOR, {"a": 8, "b": 8, "form": 8}),
    "scaled standardised weights": (
        lambda: conv(ScaledStandardConv(8, 8, 3)),
        IMAGE,
        {"2": 8},
    ),
    "weight norm": (normed(simple), IMAGE, {"0": 8, f"2.{G}": 8}),
    "weight norm of the whole": (
        normed(simple, dim=None),
        IMAGE,
        {"0": 8, f"2.{V}": 8},
    ),
    "weight norm of inputs": (normed(simple, dim=1), IMAGE, {"0": 8, f"2.{V}": 8}),
    "weight norm of positions": (normed(simple, dim=2), IMAGE, {"0": 8, f"2.{V}": 8}),
    "weight norm, grouped": (normed(grouped), IMAGE, {"0": 4, f"2.{G}": 4}),
    "weight norm, transposed": (normed(transposed), IMAGE, {"0": 8, f"2.{V}": 8}),
    "spectral norm": (
        spectral(simple),
        IMAGE,
        {"0": 8, "2.parametrizations.weight.original": 8},
    ),
    "spectral norm, transposed": (
        spectral(transposed),
        IMAGE,
        {"0": 8, "2.parametrizations.weight.original": 8},
    ),
    "spectral norm of weight norm": (
        lambda: conv(
            parametrizations.spectral_norm(parametrizations.weight_norm(simple()))
        ),
        IMAGE,
        {"0": 8, f"2.{G}": 8},
    ),
    "an own parametrisation": (
        lambda: conv(parametrised(simple(), Double())),
        IMAGE,
        {"0": 8, "2.parametrizations.weight.original": 8},
    ),
}


@pytest.mark.parametrize(("make", "example", "widths"), CASES.values(), ids=CASES)
def test_calculated_weights_are_cut_exactly(make, example, widths):
    torch.manual_seed(0)
    model = make()
    structure = examine(model, example).structure
    found = structure.widths(structure.full())
    assert found == widths
    assert Structure.from_json(structure.to_json()) == structure
    for seed in range(3):
        assert check_exact(model, structure, example, seed=seed) <= 1e-12
    assert check_exact(model, structure, example[:1]) <= 1e-12


# name -> (network, input, words of a note, units of each group)
FIXED = {
    "rows divided by a length that may be 0": (
        bare(linear(lambda n: n.w / n.w.norm(dim=1, keepdim=True)), w=(8, 8)),
        VECTOR,
        "divides by channels",
        {"a": 8},
    ),
    "a weight less its mean over rows": (
        bare(linear(lambda n: n.w - n.w.mean(0)), w=(8, 8)),
        VECTOR,
        "summarises the 8 channels of dimension 0",
        {"a": 8},
    ),
    "a weight that is not 0 where masked": (
        bare(linear(lambda n: n.w + 0.1), w=(8, 8)),
        VECTOR,
        "not 0 when masked",
        {"w": 8},
    ),
    "a fixed weight after values that are not 0": (
        bare(linear(lambda n: n.w), w=(8, 8), buffers=["w"]),
        VECTOR,
        "not 0 when masked",
        {},
    ),
    "a sum over channels with a bias that is not trained": (
        bare(
            lambda n, x: functional.linear(x, n.w, n.b).logsumexp(-1, keepdim=True),
            w=(8, 8),
            b=(8,),
            buffers=["b"],
            head=1,
        ),
        VECTOR,
        "summarises the 8 channels",
        {"a": 8},
    ),
    "a parametrisation that adds": (
        lambda: conv(parametrised(simple(), Shifted())),
        IMAGE,
        "not 0 when masked",
        {"2.parametrizations.weight.original": 8},
    ),
    "an orthogonal weight": (
        lambda: conv(parametrizations.orthogonal(simple())),
        IMAGE,
        "_Orthogonal",
        {},
    ),
    "a norm over a length of positions": (
        spectral(simple, dim=2),
        IMAGE,
        "mixes two dimensions",
        {},
    ),
}


@pytest.mark.parametrize(
    ("make", "example", "words", "widths"), FIXED.values(), ids=FIXED
)
def test_calculated_weights_that_would_change_are_left_whole(
    make, example, words, widths
):
    torch.manual_seed(0)
    model = make()
    found = examine(model, example)
    widths_found = found.structure.widths(found.structure.full())
    assert widths_found == widths
    assert any(words in note for note in found.notes), found.notes
    assert check_exact(model, found.structure, example) <= 1e-12


def test_a_bias_at_a_masked_position_is_no_zero():
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.h = (nn.Linear(8, 8) for _ in range(3))

        def forward(self, x):
            return self.h(self.b(self.a(x).transpose(1, 2)).sum(1))

    torch.manual_seed(0)
    model, example = Mixer(), torch.randn(3, 8, 8)
    structure = find_structure(model, example)
    assert structure.widths(structure.full()) == {"b": 8}
    assert check_exact(model, structure, example) <= 1e-12


def test_logsumexp_of_masked_positions_is_no_zero():
    model = Net(lambda _, x: x.logsumexp(1).sum(-1, keepdim=True), head=1)
    structure = find_structure(model, SEQUENCE)
    assert structure.units == 0


def test_a_cut_goes_through_a_parametrisation():
    torch.manual_seed(0)
    model = conv(parametrizations.weight_norm(simple()))
    structure = find_structure(model, IMAGE)
    cut = apply_plan(copy.deepcopy(model), structure, half_mask(structure, 0))
    layer = cut[2]
    assert (layer.in_channels, layer.out_channels) == (4, 4)
    assert layer.parametrizations.weight.original0.shape == (4, 1, 1, 1)
    assert layer.weight.shape == (4, 4, 3, 3)
    again = find_structure(cut, IMAGE)
    assert again.widths(again.full()) == {"0": 4, f"2.{G}": 4}
    assert check_exact(cut, again, IMAGE) <= 1e-12


def test_singular_vectors_lose_the_channels_of_the_weight():
    model = conv(parametrizations.spectral_norm(simple()))
    structure = find_structure(model, IMAGE)
    assert {item.name.rpartition(".")[2] for item in structure.buffers} == {"_u", "_v"}
    cut = apply_plan(copy.deepcopy(model), structure, half_mask(structure, 0))
    state = cut[2].parametrizations.weight[0]
    assert (len(state._u), len(state._v)) == (4, 4 * 9)


def test_calculated_weights_count_as_the_tensor_that_they_come_from():
    plain = find_structure(conv(simple()), IMAGE).multiplies["2.weight"]
    found = find_structure(conv(parametrizations.weight_norm(simple())), IMAGE)
    assert found.multiplies[f"2.{V}"] == plain == 36
    assert f"2.{G}" not in found.multiplies


def test_the_magnitude_makes_the_channels_of_weight_norm():
    structure = find_structure(conv(parametrizations.weight_norm(simple())), IMAGE)
    group = next(item for item in structure.groups if item.name == f"2.{G}")
    assert group.producers == (f"2.{G}",)
    along = structure.lookup[f"2.{V}", 0]
    assert np.array_equal(along, structure.lookup[f"2.{G}", 0])


def test_an_attention_with_a_calculated_projection_stays_whole():
    class Attended(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)
            parametrizations.weight_norm(self.inner.out_proj)
            self.a, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            x = self.a(x)
            return self.head(self.inner(x, x, x)[0])

    found = examine(Attended(), SEQUENCE)
    assert found.structure.units == 0
    assert any("neither a parameter nor a buffer" in note for note in found.notes)


def test_a_network_that_cannot_be_copied_is_refused():
    layer = nn.Linear(8, 8)
    layer.doubled = layer.weight * 2
    with pytest.raises(StructureError, match="cannot be copied"):
        find_structure(layer, SEQUENCE)
