"""Networks with several inputs, inputs in dicts, tokens, and outputs of any class."""

from dataclasses import dataclass
from types import MethodType
from typing import NamedTuple

import pytest
import torch
from helpers.input_nets import MASK, TOKENS, Two, X, Y
from torch import nn
from torch.nn import functional

from fedprune.common.errors import StructureError
from fedprune.common.pruning.verify import check_cut, check_exact, half_mask
from fedprune.common.structure.blocks import find_blocks
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import examine, find_structure


class WithDefaults(Two):
    def forward(self, x, scale=None, y=None, *, twice=False):
        found = super().forward(x, x[:, :4] if y is None else y)
        found = found if scale is None else found * scale
        return 2 * found if twice else found


class OfOneDict(Two):
    def forward(self, batch):
        assert "x" in batch
        assert len(batch) == 4
        if batch.get("nothing") is not None:
            raise ValueError
        named = {k: item for k, item in batch.items() if k in ("x", "y")}
        return super().forward(**named) * batch["times"]


class Taking(Two):
    """Takes an item out of the dict that it is given, and writes into another."""

    def forward(self, batch):
        x = batch.pop("x")
        return super().forward(x.mul_(2.0), batch["y"])


class OfAny(Two):
    def forward(self, *tables):
        return super().forward(*tables)


class OfNested(Two):
    def forward(self, items):
        x, (rest, times) = items
        return super().forward(x, rest["y"]) * times


class ByNameOnly(Two):
    def forward(self, x, *, y):
        return super().forward(x, y)


CASES = {
    "a tuple": (Two, (X, Y)),
    "a dict of arguments, in any order": (Two, {"y": Y, "x": X}),
    "an argument with a default": (WithDefaults, (X,)),
    "None in a tuple": (WithDefaults, (X, None, Y)),
    "a number in a tuple": (WithDefaults, (X, 2)),
    "a dict with a gap": (WithDefaults, {"x": X, "y": Y}),
    "one dict": (OfOneDict, {"x": X, "y": Y, "nothing": None, "times": 3}),
    "a dict that the network changes": (Taking, {"x": X, "y": Y}),
    "*inputs": (OfAny, (X, Y)),
    "nested": (OfNested, ([X, ({"y": Y}, 2)],)),
}


@pytest.mark.parametrize(("make", "example"), CASES.values(), ids=CASES)
def test_inputs_of_every_form_are_followed_and_cut_exactly(make, example):
    torch.manual_seed(0)
    model = make()
    before = [X.clone(), Y.clone()]
    structure = find_structure(model, example)
    assert [(g.name, len(g.units)) for g in structure.groups] == [
        ("one", 12),
        ("other", 10),
    ]
    for seed in range(3):
        assert check_exact(model, structure, example, seed=seed) <= 1e-12
    check_cut(model, structure, example, half_mask(structure, 0))
    assert Structure.from_json(structure.to_json()) == structure
    assert torch.equal(X, before[0])
    assert torch.equal(Y, before[1])
    assert not isinstance(example, dict) or "x" in example


REFUSED = {
    "too few": (Two, (X,), "takes 'y', for which there is no example"),
    "a gap without a default": (Two, {"y": Y}, "takes 'x', for which there is no"),
    "too many": (Two, (X, Y, X), r"takes 2 inputs \['x', 'y'\], and the example has 3"),
    "as keywords only": (
        ByNameOnly,
        {"x": X, "y": Y},
        r"takes \['y'\] as keywords only",
    ),
    "other keys": (Two, {"a": X, "b": Y}, "takes 'y', for which"),
    "another shape": (OfAny, (Y, Y), r"shape \[3, 4\] and \[3, 4\]: "),
    "shapes in a dict": (Taking, {"x": Y, "y": Y}, r"shape x \[3, 4\] and y \[3, 4\]"),
}


@pytest.mark.parametrize(("make", "example", "text"), REFUSED.values(), ids=REFUSED)
def test_inputs_that_do_not_fit_are_refused_by_name(make, example, text):
    with pytest.raises(StructureError, match=text):
        examine(make(), example)
    structure = find_structure(Two(), (X, Y))
    with pytest.raises(StructureError):
        check_exact(make(), structure, example)


def test_tensors_in_an_object_of_a_class_of_its_own_are_no_input():
    @dataclass
    class Batch:
        x: torch.Tensor

    with pytest.raises(StructureError, match="holds tensors in a Batch; want"):
        examine(OfNested(), (Batch(x=X),))


@dataclass
class Result:
    first: object
    second: object = None


class Pair(NamedTuple):
    first: object
    second: object


class Holder:
    def __init__(self, item):
        self.inside = {"items": [item]}


def linked(first, second):
    chain = [Holder(first)]
    for _ in range(40):  # 2**40 ways through it
        chain.append(Holder((chain[-1], [chain[-1], second])))
    chain[0].last = chain[-1]
    return chain[-1]


class Sealed:
    __slots__ = ("item",)

    def __init__(self, item):
        self.item = item


class Branches(nn.Module):
    """Two heads on one hidden layer; the outputs are put into an object."""

    def __init__(self, put):
        super().__init__()
        self.inner = nn.Linear(6, 12)
        self.one, self.other = nn.Linear(12, 3), nn.Linear(12, 5)
        self.put = put

    def forward(self, x):
        x = functional.relu(self.inner(x))
        return self.put(self.one(x), self.other(x))


OUTPUTS = {
    "a tuple": lambda a, b: (a, b),
    "nested lists with None and numbers": lambda a, b: [a, (None, [b, 3])],
    "a dict": lambda a, b: {"a": a, "b": b},
    "a dict of numbers": lambda a, b: {0: a, 1: b},
    "a dataclass": Result,
    "a named tuple": Pair,
    "an object inside": lambda a, b: (a, Holder(b)),
    "objects that refer to each other": linked,
    "a distribution": lambda a, b: (
        a,
        torch.distributions.Categorical(logits=b, validate_args=False),
    ),
}


@pytest.mark.parametrize("put", OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_of_every_form_stay_whole_and_are_compared(put):
    torch.manual_seed(0)
    model = Branches(put)
    structure = find_structure(model, X)
    assert [(g.name, len(g.units)) for g in structure.groups] == [("inner", 12)]
    for seed in range(3):
        assert check_exact(model, structure, X, seed=seed) <= 1e-12


@pytest.mark.parametrize("put", [Result, lambda a, b: (a, Holder(b))])
def test_a_wrong_cut_is_seen_in_outputs_of_every_form(put):
    class Mean(Branches):
        def forward(self, x):
            x = self.inner(x)
            return self.put(self.one(x), x.mean(1))

    structure = find_structure(Branches(Pair), X)
    with pytest.raises(StructureError, match="differs by"):
        check_exact(Mean(put), structure, X)


def test_an_object_that_hides_its_tensors_is_refused():
    with pytest.raises(StructureError, match="a Sealed among the outputs"):
        examine(Branches(lambda a, b: (a, Sealed(b))), X)


def test_a_network_without_outputs_is_not_called_exact():
    model = Branches(lambda *_: None)
    structure = find_structure(Branches(Pair), X)
    with pytest.raises(StructureError, match="outputs hold no tensor"):
        check_exact(model, structure, X)


class Words(nn.Module):
    """Tokens and positions, a mean over the tokens that the mask names."""

    def __init__(self, padding=None):
        super().__init__()
        self.words = nn.Embedding(20, 8, padding_idx=padding)
        self.places = nn.Embedding(5, 8)
        self.inner, self.out = nn.Linear(8, 16), nn.Linear(16, 3)
        self.register_buffer("place", torch.arange(5)[None])

    def forward(self, ids, attention_mask=None):
        x = self.words(ids) + self.places(self.place[:, : ids.shape[1]])
        x = functional.relu(self.inner(x))
        if attention_mask is None:
            return self.out(x.mean(1))
        mask = attention_mask[..., None].to(x.dtype)
        return self.out((x * mask).sum(1) / mask.sum(1))


TEXTS = {
    "tokens": TOKENS,
    "a mask of integers": (TOKENS, MASK),
    "a mask of bools": (TOKENS, MASK.bool()),
    "as keywords": {"attention_mask": MASK, "ids": TOKENS},
}


@pytest.mark.parametrize("example", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("padding", [None, 0])
def test_tokens_and_their_masks_pass_through(example, padding):
    torch.manual_seed(0)
    model = Words(padding)
    structure = find_structure(model, example)
    assert [(g.name, len(g.units)) for g in structure.groups] == [
        ("words", 8),
        ("inner", 16),
    ]
    for seed in range(3):
        assert check_exact(model, structure, example, seed=seed) <= 1e-12


def test_attention_that_returns_none_for_its_weights_takes_a_mask():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(20, 16)
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
            self.out = nn.Linear(16, 3)

        def forward(self, ids, mask, padding):
            x = self.words(ids)
            found, weights = self.attention(
                x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False
            )
            out = self.out(found)
            return (out,) if weights is None else (out, weights)

    torch.manual_seed(0)
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    example = (TOKENS, causal, MASK == 0)
    model = Masked()
    structure = find_structure(model, example)
    assert structure.units == 36
    assert check_exact(model, structure, example) <= 1e-12


def test_blocks_are_dropped_in_networks_of_several_inputs_and_outputs():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(12, 20), nn.Linear(20, 12)

        def forward(self, x):
            return x + self.two(functional.relu(self.one(x)))

    class Deep(Two):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(12, 2)
            self.other = nn.Linear(4, 12)
            self.first, self.second = Block(), Block()

        def forward(self, x, y):
            x = self.second(self.first(self.one(x) + self.other(y)))
            return {"out": self.out(x), "more": [x.mean(1), None]}

    torch.manual_seed(0)
    model, example = Deep(), {"y": torch.zeros(2, 4), "x": torch.zeros(2, 6)}
    assert find_blocks(model, example) == ("first", "second")
    structure = find_structure(model, example, blocks=True)
    assert structure.blocks == ("first", "second")
    assert check_exact(model, structure, example) <= 1e-12


def test_a_forward_that_a_library_has_replaced_is_the_one_that_is_followed():
    torch.manual_seed(0)
    model = Branches(Pair)
    model.forward = MethodType(lambda net, x: net.one(net.inner(x).softmax(1)), model)
    notes = examine(model, X).notes
    assert any("softmax" in note for note in notes)


def test_only_tensors_with_a_batch_are_repeated_for_training():
    class Scaled(Two):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x, y, square):
            return self.norm(super().forward(x, y)) @ square

    torch.manual_seed(0)
    model, example = Scaled(), (X[:1], Y[:1], torch.randn(3, 3))
    structure = find_structure(model, example)
    assert structure.units == 22
    assert check_exact(model, structure, example) <= 1e-12
