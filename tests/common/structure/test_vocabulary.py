"""Rows of an embedding as units: tokens without a row are embedded as zeros."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fedprune.client.rounds.products import ProductMeter
from fedprune.common.data.examples import Batch
from fedprune.common.errors import ConfigError
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.cost import count_cost
from fedprune.common.pruning.importance import (
    measure_points,
    unit_sum,
    weight_scores,
    zero_units,
)
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.remap import remap
from fedprune.common.pruning.verify import check_exact, half_mask
from fedprune.common.sparsity.gates import build_gates
from fedprune.common.sparsity.penalty import PenaltySpec
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import examine, find_structure

VOCABULARY, WIDTH = 20, 8
TOKENS = torch.randint(VOCABULARY, (3, 5), generator=torch.Generator().manual_seed(0))


class Words(nn.Module):
    """Embedding, a hidden layer, a mean over the tokens."""

    def __init__(self, **settings):
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH, **settings)
        self.inner, self.out = nn.Linear(WIDTH, 16), nn.Linear(16, 3)

    def embed(self, ids):
        return self.words(ids)

    def forward(self, ids):
        return self.out(functional.relu(self.inner(self.embed(ids))).mean(1))


def found(make, **settings):
    torch.manual_seed(0)
    model = make(**settings).eval()
    return model, find_structure(model, TOKENS, vocabulary=["words"])


def groups(structure):
    return {group.name: len(group.units) for group in structure.groups}


class OfSize(Words):
    def embed(self, ids):
        return self.words((ids + 7) % self.words.num_embeddings)


class Twice(Words):
    def embed(self, ids):
        return self.words(ids) - self.words(ids.flip(1))


class WithPlaces(Words):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.places = nn.Embedding(5, WIDTH)
        self.register_buffer("place", torch.arange(5))

    def embed(self, ids):
        return self.words(ids) + self.places(self.place)


class InnerHead(Words):
    """The table is a head too, and its logits are looked at by another layer."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.words.weight
        self.inner = nn.Linear(VOCABULARY, 16)

    def embed(self, ids):
        return functional.relu(self.head(self.words(ids)))


ROWS = {
    "words": Words,
    "a padding token in the middle": partial(Words, padding_idx=7),
    "a padding token at the end": partial(Words, padding_idx=VOCABULARY - 1),
    "the size of the vocabulary in code": OfSize,
    "looked up twice": Twice,
    "tied to a layer inside": InnerHead,
}


@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_rows_are_units_and_their_cut_is_exact(make):
    model, structure = found(make)
    assert groups(structure) == {"words": VOCABULARY, "inner": 16}
    assert structure.group_of[:VOCABULARY].tolist() == [0] * VOCABULARY
    for seed in range(4):
        assert check_exact(model, structure, TOKENS, seed=seed) <= 1e-12
    assert Structure.from_json(structure.to_json()) == structure


def test_rows_and_width_are_cut_where_another_weight_makes_the_width():
    model, structure = found(WithPlaces)
    assert groups(structure) == {"words": VOCABULARY, "places": WIDTH, "inner": 16}
    for seed in range(4):
        assert check_exact(model, structure, TOKENS, seed=seed) <= 1e-12


def test_without_a_wish_rows_stay_and_the_width_is_cut():
    structure = find_structure(Words(), TOKENS)
    assert groups(structure) == {"words": WIDTH, "inner": 16}
    assert ("words.weight", 0) not in structure.lookup


class TiedOutputs(Words):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.out.weight = self.words.weight


class AsFunction(Words):
    def embed(self, ids):
        return self.words(ids) + functional.embedding(ids, self.words.weight)


class SizeOfTable(Words):
    def embed(self, ids):
        return self.words(ids % self.words.weight.shape[0])


class MeanOfTable(Words):
    def embed(self, ids):
        return self.words(ids) + self.words.weight.mean(0)


class Sibling(Words):
    """Another embedding, which is not named, has the same weight."""

    def __init__(self):
        super().__init__()
        self.sibling = nn.Embedding(VOCABULARY, WIDTH)
        self.sibling.weight = self.words.weight

    def embed(self, ids):
        return self.words(ids) + self.sibling(ids.flip(1))


WHOLE = {
    "logits of a tied head": TiedOutputs,
    "a lookup by a function": AsFunction,
    "a length in code": SizeOfTable,
    "a mean over rows": MeanOfTable,
    "another embedding": Sibling,
    "max_norm": partial(Words, max_norm=1.0),
    "gradients by frequency": partial(Words, scale_grad_by_freq=True),
    "sparse gradients": partial(Words, sparse=True),
}


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
def test_rows_stay_where_something_else_depends_on_them(make):
    model, structure = found(make)
    assert ("words.weight", 0) not in structure.lookup
    assert check_exact(model, structure, TOKENS) <= 1e-12


def test_a_name_that_is_no_embedding_is_refused():
    for name, kind in {"inner": "Linear", "nothing": "nothing"}.items():
        text = rf"vocabulary names '{name}', which is {kind}; .*\['words'\]"
        with pytest.raises(ConfigError, match=text):
            examine(Words(), TOKENS, vocabulary=["words", name])


def test_both_names_of_tied_embeddings_free_their_rows():
    torch.manual_seed(0)
    model = Sibling()
    structure = find_structure(model, TOKENS, vocabulary=["sibling", "words"])
    assert groups(structure)["words"] == VOCABULARY
    assert check_exact(model, structure, TOKENS) <= 1e-12


def cut_to(model, structure, rows):
    keep = structure.full()
    keep[:VOCABULARY] = False
    keep[list(rows)] = True
    return keep, apply_plan(copy.deepcopy(model), structure, keep)


def test_tokens_keep_their_numbers_and_those_without_a_row_are_zeros():
    model, structure = found(Words, padding_idx=11)
    _, cut = cut_to(model, structure, [2, 11, 13])
    table = model.words.weight
    assert cut.words.weight.shape == (3, WIDTH)
    assert cut.words.kept.dtype == torch.int64
    assert cut.words.kept[[2, 11, 13, 0]].tolist() == [0, 1, 2, -1]
    assert (cut.words.padding_idx, cut.words.num_embeddings) == (1, VOCABULARY)
    known = cut.words(torch.tensor([[13, 2, 0, 19]]))
    nothing = torch.zeros(2, WIDTH)
    assert torch.equal(known[0], torch.cat([table[[13, 2]], nothing]))
    with pytest.raises(IndexError):
        cut.words(torch.tensor([VOCABULARY]))


def test_a_token_without_a_row_gives_no_gradient():
    model, structure = found(Words, padding_idx=2)
    _, cut = cut_to(model, structure, [2, 5, 9])
    cut(torch.tensor([[0, 1, 2, 9, 9]])).sum().backward()
    used = cut.words.weight.grad.abs().sum(1) > 0
    assert used.tolist() == [False, False, True]


def test_an_uncut_table_stays_the_embedding_of_torch():
    model, structure = found(Words)
    keep = structure.full()
    keep[VOCABULARY:] = half_mask(structure, 0)[VOCABULARY:]
    assert type(apply_plan(model, structure, keep).words) is nn.Embedding


def test_the_state_of_a_cut_network_holds_the_map_of_tokens():
    model, structure = found(Words)
    keep, cut = cut_to(model, structure, [1, 4])
    state = cut.state_dict()
    other = apply_plan(Words(), structure, keep)
    other.load_state_dict(state)
    assert "words.kept" in state
    assert torch.equal(other(TOKENS), cut(TOKENS))


def test_weights_of_a_second_cut_are_those_of_the_direct_one():
    model, structure = found(Words)
    first, once = cut_to(model, structure, range(10))
    second, direct = cut_to(model, structure, range(0, 10, 3))
    weights = remap(get_weights(once), structure, first, second)
    assert np.array_equal(weights, get_weights(direct))


def test_rows_count_as_parameters_and_no_flops():
    model, structure = found(Words)
    keep, cut = cut_to(model, structure, [1, 4])
    whole, less = (count_cost(structure, mask) for mask in (structure.full(), keep))
    assert whole.params - less.params == (VOCABULARY - 2) * WIDTH
    assert less.params == sum(item.numel() for item in cut.parameters())
    assert whole.macs == less.macs


class Loss:
    """A task of which a meter of products takes the loss alone."""

    def loss(self, outputs, batch):
        return functional.cross_entropy(outputs, batch.targets, reduction="none")


def test_rows_that_no_example_uses_have_the_least_taylor_importance():
    model, structure = found(Words)
    model.train()
    points = measure_points(structure)
    meter = ProductMeter(model, points, Loss())
    batch = Batch(inputs=TOKENS, targets=torch.tensor([0, 2, 1]))
    assert not meter.can_use_factors(_Examples(batch))
    scores = unit_sum(structure, structure.full(), meter.sums(batch))
    used = np.zeros(VOCABULARY, dtype=bool)
    used[TOKENS.unique().numpy()] = True
    assert 0 < used.sum() < VOCABULARY
    assert (scores[:VOCABULARY][~used] == 0.0).all()
    assert (np.abs(scores[:VOCABULARY][used]) > 0.0).all()


class _Examples:
    def __init__(self, batch):
        self.whole = batch

    def __len__(self):
        return len(self.whole.targets)

    def batch(self, _):
        return self.whole


def test_the_server_scores_rows_by_their_weights_and_sees_empty_ones():
    model, structure = found(Words, padding_idx=3)
    full = structure.full()
    weights = get_weights(model)
    scores = weight_scores(structure, full, weights, "l2", np.random.default_rng(0))
    wanted = model.words.weight.detach().square().mean(1).sqrt().numpy()
    np.testing.assert_allclose(scores[:VOCABULARY], wanted, rtol=1e-6)
    assert np.flatnonzero(zero_units(structure, full, weights)).tolist() == [3]


def test_gates_on_rows_scale_the_rows_also_of_a_cut_table():
    model, structure = found(Words)
    keep = structure.full()
    keep[:VOCABULARY:3] = False
    for mask in (structure.full(), keep):
        gated = apply_plan(copy.deepcopy(model), structure, mask)
        gates = build_gates(structure, mask, PenaltySpec(name="l0", strength=0.1))
        assert gates is not None
        with torch.no_grad():
            gates.log_alpha.copy_(torch.linspace(-4.0, 4.0, len(gates.log_alpha)))
            untouched = gated(TOKENS)
            with gates.attached(gated):
                wanted = gated(TOKENS)
            torch.testing.assert_close(gated(TOKENS), wanted)  # folded
        assert (wanted - untouched).abs().max() > 1e-4
