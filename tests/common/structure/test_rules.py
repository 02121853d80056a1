"""Operations that channels pass through: what is cut behind them, exactly."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedprune.common.pruning.verify import check_exact
from fedprune.common.structure.tracing.find import examine

IMAGE = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SEQUENCE = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(1))
WORDS = torch.randint(0, 20, (3, 9), generator=torch.Generator().manual_seed(2))


class Net(nn.Module):
    """Layers, and a function of them and the input."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        self.m = nn.ModuleDict(layers)

    def forward(self, x):
        return self.run(self.m, x)


def recurrent(kind, states, **options):
    """Return a recurrent layer between two linear ones."""
    layer = kind(16, 24, batch_first=True, **options)
    width = 24 * (2 if options.get("bidirectional") and not states else 1)

    def run(m, x):
        outputs, last = m["r"](m["e"](x))
        last = last[0] if isinstance(last, tuple) else last
        return m["h"](last[-1] if states else outputs[:, -1])

    return Net(run, e=nn.Linear(12, 16), r=layer, h=nn.Linear(width, 5))


def padded_shortcut(m, x):
    x = functional.relu(m["c"](x))
    y = m["b"](functional.relu(m["a"](x)))
    y = y + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
    return m["h"](functional.relu(y).mean((2, 3)))


def attention(m, x):
    a = torch.einsum("bic,bjc->bij", m["q"](x), m["k"](x)).softmax(-1)
    return m["h"](torch.einsum("bij,bjc->bic", a, m["v"](x)).mean(1))


def sampled(m, x):
    x = m["a"](x)
    grid = torch.zeros(x.shape[0], 4, 4, 2, dtype=x.dtype)
    x = functional.grid_sample(x, grid, align_corners=False)
    return m["h"](x.mean((2, 3)))


def turned(m, x):
    turn = x.mean((1, 2, 3))[:, None, None] * torch.eye(2, 3, dtype=x.dtype)
    x = m["a"](x)
    grid = functional.affine_grid(turn, list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, align_corners=False)
    return m["h"](x.mean((2, 3)))


class Table(nn.Module):
    """An embedding and a product with a bare weight."""

    def __init__(self):
        super().__init__()
        self.words = nn.Parameter(torch.randn(20, 16))
        self.inner = nn.Parameter(torch.randn(16, 24))
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        x = functional.embedding(x, self.words)
        x = torch.einsum("bic,cd->bid", x, self.inner)
        return self.head(functional.relu(x).mean(1))


def conv(run, head=8, **layers):
    return Net(run, a=nn.Conv2d(3, 8, 3), h=nn.Linear(head, 5), **layers)


def line(run, **layers):
    return Net(run, a=nn.Linear(12, 16), h=nn.Linear(16, 5), **layers)


R = "m.r.weight_ih_l0"
# name -> (network, input, channels of each group)
CASES = {
    "RNN": (lambda: recurrent(nn.RNN, states=False), SEQUENCE, {"m.e": 16, R: 24}),
    "RNN of ReLU": (
        lambda: recurrent(nn.RNN, states=True, nonlinearity="relu"),
        SEQUENCE,
        {"m.e": 16, R: 24},
    ),
    "GRU, last state of two layers": (
        lambda: recurrent(nn.GRU, states=True, num_layers=2),
        SEQUENCE,
        {"m.e": 16, R: 24},
    ),
    "LSTM, last state": (
        lambda: recurrent(nn.LSTM, states=True),
        SEQUENCE,
        {"m.e": 16, R: 24},
    ),
    "LSTM, two layers, both directions": (
        lambda: recurrent(nn.LSTM, states=False, num_layers=2, bidirectional=True),
        SEQUENCE,
        {"m.e": 16, R: 24},
    ),
    "LSTM without biases": (
        lambda: recurrent(nn.LSTM, states=False, bias=False),
        SEQUENCE,
        {"m.e": 16, R: 24},
    ),
    "a shortcut that pads channels": (
        lambda: Net(
            padded_shortcut,
            c=nn.Conv2d(3, 8, 3, padding=1),
            a=nn.Conv2d(8, 16, 3, padding=1, stride=2),
            b=nn.Conv2d(16, 16, 3, padding=1),
            h=nn.Linear(16, 5),
        ),
        IMAGE,
        {"m.c": 8, "m.a": 16},
    ),
    "max with indices": (
        lambda: line(lambda m, x: m["h"](torch.max(m["a"](x), 1)[0])),
        SEQUENCE,
        {"m.a": 16},
    ),
    "max with indices, as a field": (
        lambda: line(lambda m, x: m["h"](m["a"](x).max(dim=1).values)),
        SEQUENCE,
        {"m.a": 16},
    ),
    "instance norm without a scale": (
        lambda: conv(
            lambda m, x: m["h"](m["d"](m["n"](m["a"](x))).mean((2, 3))),
            n=nn.InstanceNorm2d(8),
            d=nn.Conv2d(8, 8, 3),
        ),
        IMAGE,
        {"m.a": 8, "m.d": 8},
    ),
    "unfold": (
        lambda: conv(lambda m, x: m["h"](functional.unfold(m["a"](x), 3).mean(2)), 72),
        IMAGE,
        {"m.a": 8},
    ),
    "Unfold": (
        lambda: conv(
            lambda m, x: m["h"](m["u"](m["a"](x)).mean(2)), 72, u=nn.Unfold(3)
        ),
        IMAGE,
        {"m.a": 8},
    ),
    "grid_sample": (lambda: conv(sampled), IMAGE, {"m.a": 8}),
    "affine_grid": (lambda: conv(turned), IMAGE, {"m.a": 8}),
    "einsum in attention": (
        lambda: Net(
            attention,
            q=nn.Linear(12, 16),
            k=nn.Linear(12, 16),
            v=nn.Linear(12, 24),
            h=nn.Linear(24, 5),
        ),
        SEQUENCE,
        {"m.q": 16, "m.v": 24},
    ),
    "embedding and einsum with bare weights": (
        Table,
        WORDS,
        {"words": 16, "inner": 24},
    ),
    "reshape_as": (
        lambda: conv(
            lambda m, x: m["h"](
                (m["a"](x) + m["b"](x).flatten(2).reshape_as(m["a"](x))).mean((2, 3))
            ),
            b=nn.Conv2d(3, 8, 3),
        ),
        IMAGE,
        {"m.a": 8},
    ),
    "tile": (
        lambda: line(lambda m, x: m["h"](torch.tile(m["a"](x), (1, 2, 1)).mean(1))),
        SEQUENCE,
        {"m.a": 16},
    ),
    "addcmul": (
        lambda: line(
            lambda m, x: m["h"](torch.addcmul(m["a"](x), x[..., :1], m["a"](x)).mean(1))
        ),
        SEQUENCE,
        {"m.a": 16},
    ),
}


@pytest.mark.parametrize(("make", "example", "widths"), CASES.values(), ids=CASES)
def test_channels_pass_and_are_cut_exactly(make, example, widths):
    torch.manual_seed(0)
    model = make()
    structure = examine(model, example).structure
    assert structure.widths(structure.full()) == widths
    assert check_exact(model, structure, example) <= 1e-12


# name -> (network, input, words of the note, channels of each group)
FIXED = {
    "a first state of numbers": (
        lambda: Net(
            lambda m, x: m["h"](
                m["r"](m["e"](x), torch.ones(1, x.shape[1], 24, dtype=x.dtype))[0]
            ).mean(1),
            e=nn.Linear(12, 16),
            r=nn.GRU(16, 24),
            h=nn.Linear(24, 5),
        ),
        "(GRU): channels meet what never changes",
        {"m.e": 16},
    ),
    "an equation with an ellipsis": (
        lambda: line(
            lambda m, x: m["h"](torch.einsum("...c,...c->...c", m["a"](x), m["a"](x)))
        ),
        "ellipsis",
        {},
    ),
}


@pytest.mark.parametrize(("make", "words", "widths"), FIXED.values(), ids=FIXED)
def test_what_would_not_stay_exact_is_left_whole(make, words, widths):
    model = make()
    found = examine(model, SEQUENCE)
    assert found.structure.widths(found.structure.full()) == widths
    assert any(word in note for note in found.notes for word in words.split("|"))
    assert check_exact(model, found.structure, SEQUENCE) <= 1e-12


def in_place_on_a_view(m, x):
    h = m["a"](x)
    h.flatten(2).add_(1.0)
    return m["h"](h.mean((2, 3)) / h.sum(1, keepdim=True).mean((2, 3)))


def in_place_twice(m, x):
    h = m["a"](x)
    h.flatten(2).add_(2.0).sub_(1.0)
    return m["h"](h.mean((2, 3))) + h.sum((1, 2, 3))[:, None]


def in_place_under_a_view(m, x):
    h = m["a"](x)
    seen = h.flatten(2)
    h.add_(1.0)
    return m["h"](h.mean((2, 3))) + seen.sum((1, 2))[:, None]


def in_place_by_items(m, x):
    h = m["a"](x)
    h[:, 0] = 0.0
    return m["h"](h.mean((2, 3)))


# Sizes as plain numbers, and writing in place: nothing is refused, all stays exact.
PLAIN = {
    "a root of a size": lambda m, x: m["h"](
        m["a"](x).mean((2, 3)) / math.sqrt(m["a"](x).size(1))
    ),
    "a size as a float": lambda m, x: m["h"](
        m["a"](x).mean((2, 3)) * float(m["a"](x).size(1))
    ),
    "a size as an int": lambda m, x: m["h"](
        m["a"](x).mean((2, 3)) * int(m["a"](x).size(1))
    ),
    "adding to a view": in_place_on_a_view,
    "adding to a view twice": in_place_twice,
    "adding under a view": in_place_under_a_view,
    "writing items": in_place_by_items,
}


@pytest.mark.parametrize("run", PLAIN.values(), ids=PLAIN)
def test_sizes_and_writing_in_place_are_followed_or_left_whole(run):
    torch.manual_seed(0)
    model = conv(run)
    structure = examine(model, IMAGE).structure
    assert check_exact(model, structure, IMAGE) <= 1e-12


def written_part(m, x):
    h = m["a"](x).relu()
    y = torch.zeros_like(h)
    y[:, :, 1:] = h[:, :, 1:]
    return m["h"](y.mean((2, 3)))


def written_number(m, x):
    h = m["a"](x).abs()
    h[:, :, 0] = 1.0
    return m["h"](h.sum((2, 3)))


def view_then_written(m, x):
    """The flat view was taken before: its masked entries are not 0 any more."""
    h = m["a"](x)
    flat = h.flatten(2)
    h[:, :, 0] = 1.0
    return m["h"](
        h.mean((2, 3)) / (1 + flat.sum(1, keepdim=True)).mean((1, 2))[:, None]
    )


def module_view_then_written(m, x):
    h = m["a"](x)
    same = m["same"](h)
    h.add_(1.0)
    return m["h"](
        same.mean((2, 3)) / (2 + same.sum(1, keepdim=True)).mean((1, 2, 3))[:, None]
    )


def slice_then_written(m, x):
    h = m["a"](x)
    top = h[:, :, :2]
    h += 1.0
    return m["h"](
        h.mean((2, 3)) / (2 + top.sum(1, keepdim=True)).mean((1, 2, 3))[:, None]
    )


WRITTEN = {
    "a part": written_part,
    "a number": written_number,
    "a view taken before": view_then_written,
    "a module's view": module_view_then_written,
    "a slice taken before": slice_then_written,
}


@pytest.mark.parametrize("run", WRITTEN.values(), ids=WRITTEN)
def test_writing_in_place_reaches_every_view(run):
    torch.manual_seed(0)
    model = conv(run, same=nn.Identity())
    structure = examine(model, IMAGE).structure
    for seed in range(3):
        assert check_exact(model, structure, IMAGE, seed=seed) <= 1e-12


def test_items_that_are_written_meet_the_channels_of_their_source():
    torch.manual_seed(0)
    model = conv(written_part)
    structure = examine(model, IMAGE).structure
    assert structure.units > 0


def test_the_entries_of_a_bag_of_embeddings_are_cut():
    class Bag(nn.Module):
        def __init__(self, mode):
            super().__init__()
            self.bag = nn.EmbeddingBag(10, 6, mode=mode)
            self.out = nn.Linear(6, 3)

        def forward(self, x):
            return self.out(self.bag(x))

    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    for mode in ("sum", "mean", "max"):
        model = Bag(mode)
        structure = examine(model, tokens).structure
        assert structure.widths(structure.full()) == {"bag": 6}
        assert check_exact(model, structure, tokens) <= 1e-12


@pytest.mark.parametrize("module", [True, False])
def test_the_halves_of_a_gated_unit_are_cut_together(module):
    torch.manual_seed(0)
    glu = nn.GLU(1)

    def run(m, x):
        h = m["a"](x)
        return m["h"]((m["glu"](h) if module else functional.glu(h, 1)).mean((2, 3)))

    model = conv(run, head=4, glu=glu)
    structure = examine(model, IMAGE).structure
    assert structure.widths(structure.full()) == {"m.a": 4}
    assert check_exact(model, structure, IMAGE) <= 1e-12
