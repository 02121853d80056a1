"""The whole network's own answer, where the walk over it is wrong."""

import math
from dataclasses import fields, replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from helpers.pruning_nets import NETS, build
from torch import nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

from fedprune.common.errors import StructureError
from fedprune.common.models.registry import build_model
from fedprune.common.pruning.verify import (
    check_cut,
    check_exact,
    half_mask,
    trial_masks,
)
from fedprune.common.structure.rules import attention
from fedprune.common.structure.structure import DimUnits, Structure
from fedprune.common.structure.tracing.find import find_structure


@pytest.mark.parametrize("name", NETS)
def test_networks_that_are_followed_pass(name):
    model, example, structure = build(name)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    assert check_exact(model, structure, example) <= 1e-12
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_a_hint_that_lies_is_found_out():
    class Reversing(nn.Module):
        pruning_hints = MappingProxyType({"inputs": [{1: "c"}], "output": {1: "c"}})

        def forward(self, x):
            return x - x.mean(1, keepdim=True)

    model = nn.Sequential(nn.Linear(4, 8), Reversing(), nn.Linear(8, 3))
    example = torch.randn(2, 4)
    structure = find_structure(model, example)
    assert structure.units == 8
    with pytest.raises(StructureError, match=r"differs by .* ignore="):
        check_exact(model, structure, example)


def test_a_cut_that_does_not_run_is_an_error_of_the_structure():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    structure = find_structure(model, torch.randn(2, 4))
    parts = {f.name: getattr(structure, f.name) for f in fields(structure)}
    known = [d for d in structure.dims if (d.tensor, d.dim) != ("2.weight", 1)]
    wrong = Structure(**(parts | {"dims": tuple(known), "attributes": ()}))
    with pytest.raises(StructureError, match="does not run when channels are cut"):
        check_exact(model, wrong, torch.randn(2, 4))


def test_a_network_that_overflows_is_not_compared():
    class Exploding(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.two(self.one(x).exp().exp().exp().exp() * math.inf)

    model = Exploding()
    example = torch.randn(2, 4)
    structure = find_structure(model, example)
    assert math.isnan(check_exact(model, structure, example))


def test_half_of_each_group_stays():
    _, _, structure = build("lenet")
    assert structure.widths(half_mask(structure, 0)) == {
        "conv1": 3,
        "conv2": 8,
        "fc1": 10,
        "fc2": 6,
    }
    assert isinstance(structure.dims[0], DimUnits)


class Attention(nn.Module):
    """Four query heads on two key heads, as every network with shared keys has it."""

    def __init__(self, queries=4, keys=2, scale=0.3):
        super().__init__()
        self.scale = scale
        self.queries, self.keys = nn.Linear(8, 4 * queries), nn.Linear(8, 4 * keys)
        self.values, self.out = nn.Linear(8, 4 * keys), nn.Linear(4 * queries, 3)

    def heads(self, x):
        return x.view(len(x), x.shape[1], -1, 4).transpose(1, 2)

    def forward(self, x):
        layers = (self.queries, self.keys, self.values)
        q, k, v = (self.heads(layer(x)) for layer in layers)
        found = self.attend(q, k, v)
        return self.out(found.transpose(1, 2).flatten(2))

    def attend(self, q, k, v):
        if self.scale is None:
            return scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return scaled_dot_product_attention(q, k, v, scale=self.scale, enable_gqa=True)


class Repeated(Attention):
    """The same with keys and values repeated by hand, in one of three ways."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def attend(self, q, k, v):
        return scaled_dot_product_attention(q, self.many(k), self.many(v), scale=0.3)

    def many(self, x):
        batch, heads, length, width = x.shape
        if self.way == "interleave":
            return x.repeat_interleave(2, dim=1)
        if self.way == "stack":
            return torch.stack([x, x], 2).flatten(1, 2)
        wide = x[:, :, None].expand(batch, heads, 2, length, width)
        return wide.reshape(batch, heads * 2, length, width)


TOKENS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [0.3, None])
@pytest.mark.parametrize("heads", [(4, 2), (8, 4)])
def test_query_heads_that_share_a_key_head_are_cut_with_it(heads, scale):
    model = Attention(*heads, scale=scale)
    structure = find_structure(model, TOKENS)
    assert structure.widths(structure.full()) == {"queries": heads[1]}
    units = structure.lookup["queries.weight", 0].reshape(heads[0], -1)
    assert (
        units == np.repeat(np.arange(heads[1]), heads[0] // heads[1])[:, None]
    ).all()
    for seed in range(4):
        assert check_exact(model, structure, TOKENS, seed=seed) <= 1e-12


@pytest.mark.parametrize("heads", [(4, 1), (4, 4)])
def test_query_heads_with_one_key_head_or_one_each_are_cut_exactly(heads):
    model = Attention(*heads)
    structure = find_structure(model, TOKENS)
    assert structure.widths(structure.full()) == {"queries": 4}
    assert check_exact(model, structure, TOKENS) <= 1e-12


@pytest.mark.parametrize("way", ["interleave", "stack", "expand"])
def test_key_heads_that_are_repeated_by_hand_go_with_all_their_queries(way):
    model = Repeated(way)
    structure = find_structure(model, TOKENS)
    assert structure.widths(structure.full()) == {"queries": 2}
    for seed in range(4):
        assert check_exact(model, structure, TOKENS, seed=seed) <= 1e-12


@pytest.fixture
def free_queries(monkeypatch):
    """An attention whose query heads are taken for free, and the wrong structure."""
    monkeypatch.setattr(attention, "_serving", lambda _, keys, __: keys)
    # The lengths of the heads differ, so their meeting fixes the key heads alone.
    model = Attention()
    structure = find_structure(model, TOKENS)
    assert structure.widths(structure.full()) == {"queries": 4}
    return model, structure


@pytest.mark.parametrize("seed", range(16))
def test_a_wrong_pairing_of_heads_is_found_whatever_the_seed(free_queries, seed):
    model, structure = free_queries
    with pytest.raises(StructureError, match=r"differs by|does not run"):
        check_exact(model, structure, TOKENS, seed=seed)


@pytest.mark.parametrize("seed", range(12))
def test_a_forged_pairing_of_channels_is_found_whatever_the_seed(seed):
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    example = torch.randn(2, 4)
    right = find_structure(model, example)
    swapped = tuple(
        replace(d, units=d.units[[1, 0, *range(2, 8)]]) if d.tensor == "2.weight" else d
        for d in right.dims
    )
    wrong = Structure(
        **{f.name: getattr(right, f.name) for f in fields(right)} | {"dims": swapped}
    )
    if all(mask[0] == mask[1] for mask in trial_masks(wrong, seed)):
        pytest.fail("no mask parts the two channels")
    with pytest.raises(StructureError, match="differs by"):
        check_exact(model, wrong, example, seed=seed)


def test_eight_masks_of_three_densities_are_tried():
    _, _, structure = build("lenet")
    masks = [*trial_masks(structure, 0)]
    assert len({mask.tobytes() for mask in masks}) == len(masks) == 8
    shares = {round(float(mask[:6].mean()), 2) for mask in masks}
    assert shares == {0.33, 0.5, 0.83}
    assert not any(structure.empty_groups(mask) for mask in masks)


def test_the_mask_of_a_cut_is_tried_and_the_groups_are_named(free_queries):
    model, structure = free_queries
    fine, wrong = structure.full(), structure.full()
    fine[[1, 3]] = False  # queries 0 and 2 still meet keys 0 and 1
    check_cut(model, structure, TOKENS, fine)
    wrong[[2, 3]] = False
    with pytest.raises(StructureError, match=r"^the cut of 'queries' is not exact: "):
        check_cut(model, structure, TOKENS, wrong)


def test_a_cut_that_drops_a_block_is_exact():
    model = build_model("small-resnet", num_outputs=4, input_shape=(1, 8, 8), seed=0)
    example = torch.zeros(2, 1, 8, 8)
    structure = find_structure(model, example, blocks=True)
    keep = structure.full()
    keep[structure.inner_units[structure.blocks[0]]] = False
    keep[structure.groups[0].units[::2]] = False
    assert structure.dropped(keep) == structure.blocks[:1]
    check_cut(model, structure, example, keep)


class Training(nn.Module):
    """A network whose forward differs in training, in the way of ``extra``."""

    def __init__(self, extra):
        super().__init__()
        self.extra = extra
        self.body, self.norm = nn.Linear(4, 16), nn.BatchNorm1d(16)
        self.head, self.aux = nn.Linear(16, 3), nn.Linear(16, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.norm(self.body(x))
        if self.extra == "dropout":
            x = functional.dropout(self.drop(x), 0.5, self.training)
        if self.training and self.extra == "path":
            x = x * x.new_empty(len(x), 1).bernoulli_(0.9) / 0.9
        if self.training and self.extra == "noise":
            x = x + torch.randn_like(x)
        if self.training and self.extra == "poisson":  # no draw that is known
            x = x * torch.poisson(torch.ones_like(x))
        if self.training and self.extra == "aux":
            return self.head(x) + self.aux(x)
        return self.head(x)


@pytest.mark.parametrize("extra", ["", "dropout", "path", "noise", "poisson"])
def test_what_training_draws_at_random_does_not_disturb(extra):
    model, example = Training(extra), torch.randn(2, 4)
    structure = find_structure(model, example, ignore=["aux"])
    state = torch.random.get_rng_state()
    assert check_exact(model, structure, example) <= 1e-12
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_head_of_training_only_is_cut_with_what_feeds_it():
    model, example = Training("aux"), torch.randn(2, 4)
    structure = find_structure(model, example)
    assert structure.widths(structure.full()) == {"body": 16}
    assert check_exact(model, structure, example) <= 1e-12
    whole = find_structure(model, example, ignore=["aux"])
    assert check_exact(model, whole, example) == 0.0


class Shifted(nn.Module):
    """A network without a weight for training alone, whose training forward differs."""

    def __init__(self, extra):
        super().__init__()
        self.extra = extra
        self.body, self.head = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = self.body(x)
        if self.training and self.extra == "mean":
            x = x - x.mean(1, keepdim=True)
        if self.training and self.extra == "gradient":
            x = x + (x.detach() - x) * x.shape[1] / 16
        if self.training and self.extra == "width":
            x = x + torch.ones(16)
        return self.head(x)


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("mean", "does not match .* the outputs by"),
        ("gradient", "does not match .* the gradient of"),
        ("width", "fails: The size of tensor"),
    ],
)
def test_a_training_forward_that_is_another_function_is_refused(extra, what):
    model, example = Shifted(extra), torch.randn(2, 4)
    structure = find_structure(model, example)
    with pytest.raises(StructureError, match=f"training .* {what}"):
        check_exact(model, structure, example)


def test_a_network_that_cannot_train_is_refused_also_without_anything_to_cut():
    class Eval(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            if self.training:
                msg = "want targets"
                raise ValueError(msg)
            return self.layer(x)

    structure = find_structure(Eval(), torch.randn(1, 4))
    with pytest.raises(StructureError, match="in training mode: want targets"):
        check_exact(Eval(), structure, torch.randn(1, 4))


def test_inputs_may_be_a_dict_and_of_any_type():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.mid = nn.Embedding(7, 8), nn.Linear(8, 12)
            self.out = nn.Linear(12, 3)

        def forward(self, given):
            x = self.words(given["ids"]) * given["share"][:, None, None]
            x = x.masked_fill(given["pad"][:, :, None], 0.0)
            return {"logits": self.out(self.mid(x).relu().mean(1))}

    given = {
        "ids": torch.tensor([[1, 2, 3], [4, 5, 6]]),
        "share": torch.ones(2, dtype=torch.float16),
        "pad": torch.tensor([[False, False, True], [False, True, True]]),
    }
    model = Named()
    structure = find_structure(model, {**given, "share": torch.ones(2)})
    assert structure.units == 20
    assert check_exact(model, structure, given) <= 1e-12


def test_a_start_of_zeros_hides_nothing():
    class Reversing(nn.Module):
        pruning_hints = MappingProxyType({"inputs": [{1: "c"}], "output": {1: "c"}})

        def forward(self, x):
            return x - x.mean(1, keepdim=True)

    model = nn.Sequential(nn.Linear(4, 8), Reversing(), nn.Linear(8, 3))
    nn.init.zeros_(model[2].weight)
    example = torch.zeros(2, 4)
    structure = find_structure(model, example)
    with pytest.raises(StructureError, match="differs by"):
        check_exact(model, structure, example)


def test_gradients_of_rounding_alone_are_not_compared():
    class Normed(nn.Module):
        """The sum over normalised channels does not depend on them."""

        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x):
            inner = self.two(functional.relu(self.one(x)))
            return functional.layer_norm(inner, (4,)).square().sum(1)

    model = Normed()
    example = torch.randn(2, 4)
    structure = find_structure(model, example)
    assert structure.units == 8
    for seed in range(5):
        assert check_exact(model, structure, example, seed=seed) <= 1e-12
