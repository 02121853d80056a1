"""Heads of attentions that write their lengths, share keys or have tables of scores."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fedprune.common.errors import PayloadError, StructureError
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.trial_modes import in_double
from fedprune.common.pruning.verify import check_exact, half_mask
from fedprune.common.structure.parts import FreeLength
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import examine, find_structure

TOKENS = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))


class Written(nn.Module):
    """Attention with the width of its input in both reshapes, as timm writes it."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.scale = 4, 0.5
        self.norm, self.qkv = nn.LayerNorm(16), nn.Linear(16, 48)
        self.proj, self.out = nn.Linear(16, 16), nn.Linear(16, 3)

    def scores(self, q, k):
        return (q @ k.transpose(-2, -1) * self.scale).softmax(-1)

    def attend(self, x):
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return (self.scores(q, k) @ v).transpose(1, 2).reshape(b, n, c)

    def forward(self, x):
        return self.out(x + self.proj(self.attend(self.norm(x))))


class Outer(nn.Module):
    """Two of them, and reshapes of its own to as many lengths."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(16, 16), Written())
        self.first, self.last = Written(), nn.Linear(12, 2)

    def forward(self, x):
        b, n, _ = x.shape
        x = torch.cat([self.inner(x), self.first(x)], 2)
        return self.last(x.reshape(b, n, 2, 3).repeat(1, 1, 1, 2).reshape(b, n, 12))


def cut(model, seed=0):
    """Return the cut network and its structure."""
    structure = find_structure(model, TOKENS)
    keep = half_mask(structure, seed)
    return apply_plan(copy.deepcopy(model), structure, keep), structure


def test_heads_go_where_the_code_writes_the_width_of_the_input():
    model = Written()
    structure = find_structure(model, TOKENS)
    assert structure.widths(structure.full()) == {"qkv": 4}
    rows = np.tile(np.repeat(np.arange(4), 4), 3)
    np.testing.assert_array_equal(structure.lookup["qkv.weight", 0], rows)
    np.testing.assert_array_equal(structure.lookup["proj.weight", 1], rows[:16])
    assert structure.free == (
        FreeLength(module="", rank=3, index=2),
        FreeLength(module="", rank=5, index=4),
    )
    for seed in range(5):
        assert check_exact(model, structure, TOKENS, seed=seed) <= 1e-12


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_a_batch_as_long_as_other_lengths_is_cut_alike(batch):
    model, example = Written(), torch.randn(batch, 4, 16)  # heads = places = batch
    structure = find_structure(model, example)
    assert structure.widths(structure.full()) == {"qkv": 4}
    assert structure.free == find_structure(model, TOKENS).free
    assert check_exact(model, structure, example) <= 1e-12


def test_modules_in_modules_leave_each_its_own_length():
    model = Outer()
    structure = find_structure(model, TOKENS)
    assert {item.module for item in structure.free} == {"inner.1", "first"}
    for seed in range(3):
        assert check_exact(model, structure, TOKENS, seed=seed) <= 1e-12


def test_a_network_that_is_not_cut_keeps_its_class():
    model = Written()
    structure = find_structure(model, TOKENS)
    assert type(apply_plan(model, structure, structure.full())) is Written


def test_a_cut_network_is_copied_and_loaded_like_any_other():
    model, _ = cut(Written())
    assert isinstance(model, Written)
    assert type(model).__name__ == "Written"
    twin = copy.deepcopy(model)
    assert type(twin) is type(model)
    assert torch.equal(twin(TOKENS), model(TOKENS))
    other, _ = cut(Written(), seed=0)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(TOKENS), model(TOKENS))


def test_a_cut_network_is_cut_again():
    model, _ = cut(Written())
    structure = find_structure(model, TOKENS)
    assert structure.widths(structure.full()) == {"qkv": 2}
    assert check_exact(model, structure, TOKENS) <= 1e-12


@pytest.mark.slow
# torch.compile cannot name what a mode changes, which is nothing that lasts.
@pytest.mark.filterwarnings("ignore:While compiling:UserWarning")
@pytest.mark.parametrize("strict", [True, False])
def test_a_cut_network_is_exported_with_a_free_batch(strict):
    model, _ = cut(Written().eval())
    sizes = ({0: torch.export.Dim("n", min=1)},)
    program = torch.export.export(
        model, (TOKENS,), dynamic_shapes=sizes, strict=strict
    ).module()
    other = torch.randn(7, 5, 16)
    torch.testing.assert_close(program(other), model(other))


def test_another_length_that_does_not_fit_is_still_an_error():
    model, _ = cut(Written().eval())
    model.num_heads = 3
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        model(TOKENS)


class Number(nn.Module):
    """A reshape by numbers."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 1), nn.Linear(32, 2)

    def forward(self, x):
        return self.head(self.body(x).relu().reshape(len(x), 32))


def test_a_number_in_a_reshape_is_left_to_torch():
    model, example = Number(), torch.randn(2, 3, 2, 2)
    structure = find_structure(model, example)
    assert structure.widths(structure.full()) == {"body": 8}
    assert structure.free == (FreeLength(module="", rank=2, index=1),)
    assert check_exact(model, structure, example) <= 1e-12


class TwoPlaces(Written):
    """Heads that are merged at another place of as many lengths, too."""

    def forward(self, x):
        b, n, c = x.shape
        y = self.attend(self.norm(x))
        z = self.attend(self.norm(x)).transpose(1, 2).reshape(b, c, n)
        return self.out(self.proj(y) + self.proj(z.transpose(1, 2)))


class Free(Written):
    """A length that torch computes beside the one that is written."""

    def attend(self, x):
        b, _, c = x.shape
        q, k, v = (
            self.qkv(x).reshape(b, -1, 3, self.num_heads, 4).permute(2, 0, 3, 1, 4)
        )
        return (self.scores(q, k) @ v).transpose(1, 2).reshape(b, -1, c)


@pytest.mark.parametrize("kind", [TwoPlaces, Free])
def test_a_length_that_is_not_the_only_one_to_fit_keeps_the_heads(kind):
    model = kind()
    structure = find_structure(model, TOKENS)
    assert "qkv" not in structure.widths(structure.full())
    check_exact(model, structure, TOKENS)


def test_a_forward_of_one_object_keeps_the_heads():
    model = Written()
    model.forward = model.forward  # not that of its class
    findings = examine(model, TOKENS)
    assert findings.structure.units == 0
    assert any("it writes the length 16 down" in note for note in findings.notes)


ATTACKS = {
    "no list": {"free": 3},
    "two parts": {"free": [["", 3]]},
    "a module that is no name": {"free": [[["a"], 3, 2]]},
    "an index as a rank": {"free": [["", 3, 3]]},
    "an index below 0": {"free": [["", 3, -1]]},
    "a huge rank": {"free": [["", 1 << 40, 0]]},
    "a rank twice": {"free": [["", 3, 1], ["", 3, 2]]},
    "not rising": {"free": [["", 5, 4], ["", 3, 2]]},
    "empty": {"free": []},
    "an older version": {"version": 3},
}


@pytest.mark.parametrize("forged", ATTACKS.values(), ids=ATTACKS)
def test_forged_free_lengths_are_refused(forged):

    structure = find_structure(Written(), TOKENS)
    data = structure.to_json()
    assert Structure.from_json(data) == structure
    found = json.loads(data) | forged
    text = json.dumps(found, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(PayloadError):
        Structure.from_json(text)


def test_a_free_length_of_a_module_that_is_not_there_is_refused():
    structure = find_structure(Written(), TOKENS)
    data = structure.to_json().replace(b'["",3,2]', b'["nn",3,2]')
    data = data.replace(b'["nn",3,2],["",5,4]', b'["",5,4],["nn",3,2]')
    forged = Structure.from_json(data)
    with pytest.raises(StructureError, match="no module 'nn'"):
        apply_plan(Written(), forged, forged.full())


class Tabled(Written):
    """A learned bias for each head and distance, looked up by a buffer."""

    def __init__(self, *, heads_first):
        super().__init__()
        self.heads_first = heads_first
        shape = (4, 9) if heads_first else (9, 4)
        self.table = nn.Parameter(torch.randn(shape))
        place = torch.arange(5)
        self.register_buffer("index", place[:, None] - place[None] + 4)

    def scores(self, q, k):
        if self.heads_first:
            bias = self.table[:, self.index]
        else:
            bias = self.table[self.index.view(-1)].view(5, 5, -1).permute(2, 0, 1)
        return (q @ k.transpose(-2, -1) * self.scale + bias).softmax(-1)


@pytest.mark.parametrize("heads_first", [True, False])
def test_a_table_of_scores_loses_the_columns_of_heads(heads_first):
    model = Tabled(heads_first=heads_first)
    structure = find_structure(model, TOKENS)
    assert structure.widths(structure.full()) == {"qkv": 4}
    units = structure.lookup["table", 0 if heads_first else 1]
    np.testing.assert_array_equal(units, [0, 1, 2, 3])
    for seed in range(4):
        assert check_exact(model, structure, TOKENS, seed=seed) <= 1e-12


class Chosen(nn.Module):
    """Channels of which a list, a mask or several tensors choose some."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.body, self.head = nn.Linear(16, 6), nn.LazyLinear(2)
        self.register_buffer("places", torch.tensor([2, 0, 1]))
        self(TOKENS)

    def forward(self, x):
        x = self.body(x)
        if self.way == "places":
            return self.head(x[:, self.places])
        if self.way == "list":
            return self.head(x[:, [0, 2]])
        if self.way == "select":
            return self.head(x.index_select(1, self.places))
        if self.way == "channels":
            return self.head(x[..., self.places])
        if self.way == "pairs":
            return self.head(x[:, self.places, self.places])
        return self.head(x[0, self.places])


@pytest.mark.parametrize(
    ("way", "width"),
    [
        *(("places", 6), ("list", 6), ("select", 6)),
        *(("channels", 0), ("pairs", 0), ("number", 0)),
    ],
)
def test_positions_are_taken_out_and_channels_stay_together(way, width):
    model = Chosen(way)
    structure = find_structure(model, TOKENS)
    assert structure.units == width
    assert check_exact(model, structure, TOKENS) <= 1e-12


class HeadsThenWidth(Written):
    """Queries by their heads, keys by the width of a head: one must give way."""

    def attend(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, self.num_heads, -1).split([4, 4, 4], 3)
        q, k, v = (item.transpose(1, 2) for item in (q, k, v))
        y = functional.scaled_dot_product_attention(q, k, v)
        return y.transpose(1, 2).flatten(2)


class AmongHeads(Written):
    """Scores that are shares among the heads, so that no head can go."""

    def scores(self, q, k):
        return (q @ k.transpose(-2, -1) * self.scale).softmax(1)


@pytest.mark.parametrize(
    ("make", "units"),
    [
        (HeadsThenWidth, np.repeat(np.arange(4), 12)),
        (AmongHeads, np.tile(np.arange(4), 12)),
    ],
    ids=["heads where widths cannot be cut", "widths where heads cannot be cut"],
)
def test_what_can_go_on_is_cut(make, units):
    model = make()
    structure = find_structure(model, TOKENS)
    assert structure.widths(structure.full()) == {"qkv": 4}
    np.testing.assert_array_equal(structure.lookup["qkv.weight", 0], units)
    for seed in range(4):
        assert check_exact(model, structure, TOKENS, seed=seed) <= 1e-12


class OneKey(nn.Module):
    """One key and one value for all queries; heads and widths meet in the output."""

    def __init__(self):
        super().__init__()
        self.width = 4
        self.q, self.k = nn.Linear(16, 16), nn.Linear(16, 4)
        self.v, self.out = nn.Linear(16, 4), nn.Linear(16, 3)

    def forward(self, x):
        shape = (*x.shape[:-1], -1, self.width)
        q, k, v = (f(x).view(shape).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = (q @ k.transpose(-2, -1)).softmax(-1)
        return self.out((scores @ v).transpose(1, 2).flatten(2))


def test_queries_with_one_key_are_cut_by_heads():
    model = OneKey()
    structure = find_structure(model, TOKENS)
    assert structure.widths(structure.full()) == {"q": 4}
    for seed in range(4):
        assert check_exact(model, structure, TOKENS, seed=seed) <= 1e-12


class Cached(Tabled):
    """Keeps the bias that it has looked up while it is not trained."""

    def __init__(self):
        super().__init__(heads_first=True)
        self.kept = {}

    def _apply(self, fn, *args):
        self.kept = {}
        return super()._apply(fn, *args)

    def scores(self, q, k):
        if "bias" not in self.kept:
            self.kept["bias"] = self.table[:, self.index]
        return (q @ k.transpose(-2, -1) + self.kept["bias"]).softmax(-1)


def test_a_bias_that_a_module_keeps_is_looked_up_again_after_a_cut():
    model = Cached().eval()
    structure = find_structure(model, TOKENS)
    with torch.no_grad():
        model(TOKENS)
    left = apply_plan(model, structure, half_mask(structure, 0))
    assert left(TOKENS).shape == (2, 5, 3)


class Experts(nn.Module):
    """A gated layer for each of three experts, each for a run of rows."""

    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 64, 16) / 4)
        self.down = nn.Parameter(torch.randn(3, 16, 32) / 4)
        self.out = nn.Linear(16, 2)
        self.register_buffer("ends", torch.tensor([2, 6, 10], dtype=torch.int32))

    def forward(self, x):
        x = x.reshape(-1, 16)
        one, other = functional.grouped_mm(
            x, self.up.transpose(1, 2), offs=self.ends
        ).chunk(2, 1)
        y = functional.silu(one) * other
        y = functional.grouped_mm(y, self.down.transpose(1, 2), offs=self.ends)
        return self.out(y + x)


@pytest.mark.skipif(
    not hasattr(functional, "grouped_mm"), reason="a later release of torch has it"
)
def test_experts_lose_the_same_blocks_of_inner_channels():
    model = Experts()
    structure = find_structure(model, TOKENS)
    assert structure.widths(structure.full()) == {"up": 4}  # 16 bytes of half precision
    assert (structure.lookup["up", 1] == np.tile(np.repeat(range(4), 8), 2)).all()
    for seed in range(4):
        assert check_exact(model, structure, TOKENS, seed=seed) <= 1e-12
    left = apply_plan(copy.deepcopy(model), structure, half_mask(structure, 0))
    assert left(TOKENS).shape == (10, 2)
    with in_double(), torch.no_grad():
        found = copy.deepcopy(left).double()(TOKENS.double())
    torch.testing.assert_close(found.float(), left(TOKENS), atol=1e-4, rtol=1e-4)
