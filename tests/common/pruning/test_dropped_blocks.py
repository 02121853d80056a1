"""Whole blocks under a plan: exact, nested, counted, refused where they do not fit."""

import copy
import json

import numpy as np
import pytest
import torch
from helpers.methods import names_on
from helpers.pruning_archs import encoder
from helpers.pruning_nets import (
    Block,
    Depthwise,
    LeNet,
    ResNet,
    flat,
    random_mask,
    randomise,
    table_of,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedprune.common.errors import ConfigError, PayloadError
from fedprune.common.messages import GridWeights
from fedprune.common.methods.kinds import IMPORTANCE
from fedprune.common.methods.method import Side
from fedprune.common.pruning.choose import choose_keep
from fedprune.common.pruning.choose_blocks import choose_blocks
from fedprune.common.pruning.cost import count_cost, flops, shares
from fedprune.common.pruning.importance import (
    measure_points,
    weight_scores,
    zero_units,
)
from fedprune.common.pruning.plan import (
    apply_plan,
    check_plan,
    child_plan,
    full_plan,
    rollback_plan,
)
from fedprune.common.pruning.remap import remap, remap_grid, remap_moments
from fedprune.common.structure.blocks import offer_blocks
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import find_structure

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LAST = "layer2.1"


def network():
    torch.manual_seed(0)
    model = ResNet().eval()
    randomise(model)
    return model


@pytest.fixture(scope="module")
def structure():
    return find_structure(network(), IMAGE, blocks=True)


def without(structure, *blocks, keep=None):
    """Return a mask that drops blocks."""
    mask = structure.full() if keep is None else keep.copy()
    for block in blocks:
        mask[structure.inner_units[block]] = False
    return mask


def zeroed(model, *blocks):
    """Return the network with the last norm of these blocks at zero."""
    found = copy.deepcopy(model)
    for block in blocks:
        norm = found.get_submodule(block).bn2
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)
    return found


def test_blocks_are_offered_only_where_they_are_asked_for(structure):
    plain = find_structure(network(), IMAGE)
    assert plain.blocks == ()
    assert b"blocks" not in plain.to_json()
    assert json.loads(plain.to_json())["version"] == 1
    assert structure.blocks == ("layer1.0", "layer1.1", LAST)
    assert json.loads(structure.to_json())["version"] == 3
    assert Structure.from_json(structure.to_json()) == structure
    assert structure.digest != plain.digest


@pytest.mark.parametrize(
    ("make", "example"),
    [
        (LeNet, torch.randn(2, 1, 14, 14)),
        (Depthwise, IMAGE),  # its block is no module of its own
        (encoder, torch.randn(2, 5, 16)),
    ],
)
def test_a_network_without_residual_blocks_offers_none(make, example):
    assert find_structure(make(), example, blocks=True).blocks == ()


class Odd(nn.Module):
    """Blocks that look droppable and are not: ``kind`` says why."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = Block(8, 8, nn.BatchNorm2d)
        self.other = Block(8, 8, nn.BatchNorm2d)
        self.fc = nn.Linear(8, 4)
        if kind == "tied":
            self.other.conv1.weight = self.block.conv1.weight

    def forward(self, x):
        x = self.stem(x)
        x = x if self.kind == "not rectified" else torch.relu(x)
        x = self.block(x)
        if self.kind == "twice":
            x = self.block(x)
        if self.kind == "looked into":
            x = x * self.block.conv1.stride[0]
        return self.fc(self.other(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("kind", "offered"),
    [
        ("", ("block", "other")),
        ("tied", ()),
        ("not rectified", ("other",)),
        ("twice", ("other",)),
        ("looked into", ("other",)),
    ],
)
def test_a_block_that_the_rest_needs_is_not_offered(kind, offered):
    for example in (IMAGE, torch.zeros(2, 3, 8, 8)):
        assert find_structure(Odd(kind), example, blocks=True).blocks == offered


@pytest.mark.parametrize("blocks", [(LAST,), ("layer1.0", "layer1.1", LAST)])
def test_a_network_without_blocks_equals_their_last_norm_at_zero_bit_for_bit(
    structure, blocks
):
    model = network()
    cut = apply_plan(copy.deepcopy(model), structure, without(structure, *blocks))
    assert torch.equal(cut(IMAGE), zeroed(model, *blocks)(IMAGE))
    assert not torch.equal(cut(IMAGE), model(IMAGE))
    assert structure.dropped(without(structure, *blocks)) == blocks


@pytest.mark.parametrize("seed", range(3))
def test_with_channels_cut_as_well_it_equals_the_masked_network(structure, seed):
    model = network()
    keep = random_mask(structure, seed)
    channels = apply_plan(zeroed(model, LAST), structure, keep)
    both = apply_plan(model, structure, without(structure, LAST, keep=keep))
    assert torch.equal(both(IMAGE), channels(IMAGE))


@pytest.mark.parametrize("seed", range(3))
def test_shapes_weights_and_arithmetic_are_those_of_the_network(structure, seed):
    keep = without(structure, "layer1.1", LAST, keep=random_mask(structure, seed))
    cut = apply_plan(network(), structure, keep)
    spec = structure.spec(keep)
    named = [(name, tuple(item.shape)) for name, item in cut.named_parameters()]
    assert [(tensor.name, tensor.shape) for tensor in spec.tensors] == named
    means = [b for n, b in cut.named_buffers() if n.endswith("running_mean")]
    assert spec.moments == sum(len(mean) for mean in means)
    cost = count_cost(structure, keep)
    assert cost.params == sum(item.numel() for item in cut.parameters()) == spec.size
    with FlopCounterMode(display=False) as counter:
        cut(IMAGE[:1])
    assert flops(cost) == counter.get_total_flops()
    assert cost.size == 4 * (spec.size + 2 * spec.moments)


def test_what_follows_the_weights_follows_blocks_too(structure):
    model = network()
    keep = without(structure, LAST, keep=random_mask(structure, 1))
    full, whole = structure.full(), flat(model)
    small = remap(whole, structure, full, keep)
    np.testing.assert_array_equal(small, flat(apply_plan(model, structure, keep)))
    back = remap(small, structure, keep, full)
    kept = remap(np.ones_like(small), structure, keep, full) == 1.0
    np.testing.assert_array_equal(back[kept], whole[kept])
    assert not back[~kept].any()
    moments = np.arange(1, structure.spec(full).moments + 1, dtype=np.float32)
    fewer = remap_moments(moments, structure, full, keep)
    assert len(fewer) == structure.spec(keep).moments
    more = remap_moments(fewer, structure, keep, full, fill=1.0)
    assert set(more) == {1.0, *fewer.tolist()}


def test_a_grid_loses_the_rows_of_a_block_and_gets_zeros_back(structure):
    full, keep = structure.full(), without(structure, LAST)
    spec = structure.spec(full)
    grid = GridWeights(
        codes=np.full(spec.rows, 9, np.uint8), levels=np.ones(spec.size, np.int16)
    )
    small = remap_grid(grid, structure, full, keep)
    assert len(small.codes) == structure.spec(keep).rows < spec.rows
    assert (small.codes == 9).all()
    back = remap_grid(small, structure, keep, full)
    gone = spec.size - structure.spec(keep).size
    assert len(back.levels) == spec.size
    assert (back.levels == 0).sum() == gone


def test_plans_with_blocks_are_nested_and_named_apart(structure):
    first = full_plan(structure)
    plan = child_plan(structure, first, without(structure, LAST))
    check_plan(structure, plan)
    assert plan.digest != first.digest
    with pytest.raises(ConfigError, match="units that the parent has cut come back"):
        child_plan(structure, plan, structure.full())
    back = rollback_plan(structure, plan, first)
    assert structure.dropped(back.keep) == ()
    again = child_plan(structure, back, without(structure, "layer1.0"))
    assert again.rollback


def test_a_group_is_emptied_only_with_its_whole_block():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), Wide(), nn.Conv2d(8, 2, 1))
    structure = find_structure(model, IMAGE, blocks=True)
    assert structure.blocks == ("2",)
    first, second = (g.units for g in structure.groups if g.name.startswith("2."))
    keep = structure.full()
    keep[first] = False
    with pytest.raises(ConfigError, match=r"groups \['2.a'\] keep no unit"):
        child_plan(structure, full_plan(structure), keep)
    keep[second] = False
    plan = child_plan(structure, full_plan(structure), keep)
    assert structure.dropped(plan.keep) == ("2",)
    keep[structure.groups[0].units] = False
    with pytest.raises(ConfigError, match=r"groups \['0'\] keep no unit"):
        child_plan(structure, full_plan(structure), keep)


class Wide(nn.Module):
    """A bottleneck: two groups live inside of it."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 6, 1)
        self.c = nn.Conv2d(6, 8, 1)

    def forward(self, x):
        return x + self.c(torch.relu(self.b(torch.relu(self.a(x)))))


def test_a_plan_of_the_structure_without_blocks_is_refused(structure):
    plain = find_structure(network(), IMAGE)
    with pytest.raises(PayloadError, match="structure"):
        check_plan(structure, full_plan(plain))
    keep = without(structure, LAST)
    with pytest.raises(ConfigError, match="keep no unit"):
        child_plan(plain, full_plan(plain), keep)


FORGED = {
    "no units of its own": (["bn"], "no unit lives inside of block 'bn' alone"),
    "no module at all": (["layer9"], "no unit lives inside of block 'layer9'"),
    "another order": ([LAST, "layer1.0"], "not in order of their first unit"),
    "one twice": ([LAST, LAST], "not in order of their first unit"),
    "one inside of another": (["layer1", "layer1.1"], "no unit|inside of another"),
    "not a name": ([7], "structure.blocks"),
    "a stage that makes its own stream": (["layer2"], "follows|made inside"),
}


@pytest.mark.parametrize(("blocks", "reason"), FORGED.values(), ids=FORGED)
def test_a_structure_with_forged_blocks_is_refused(structure, blocks, reason):
    found = json.loads(structure.to_json()) | {"blocks": blocks}
    data = json.dumps(found, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(PayloadError, match=reason):
        Structure.from_json(data)


@pytest.mark.parametrize("criterion", names_on(IMPORTANCE, Side.SERVER))
def test_every_criterion_of_weights_works_without_a_block(structure, criterion):
    keep = without(structure, LAST, keep=random_mask(structure, 2))
    weights = flat(apply_plan(network(), structure, keep))
    rng = np.random.default_rng(0)
    scores = weight_scores(structure, keep, weights, criterion, rng)
    assert np.isfinite(scores).all()
    assert not scores[~keep].any()
    assert scores[keep].any()
    assert not zero_units(structure, keep, weights).any()
    places = {gate.tensor for gate in measure_points(structure.living(keep))}
    assert places
    assert not any(name.startswith(LAST) for name in places)


def cheapest(structure, importance, most, final=None, keep=None, latency=None):
    found = choose_blocks(
        structure,
        structure.full() if keep is None else keep,
        importance,
        final or {"params": 0.3},
        most=most,
        latency=latency,
    )
    return structure.dropped(found)


def test_the_block_of_least_importance_for_its_cost_goes_first(structure):
    even = np.ones(structure.units, np.float32)
    assert cheapest(structure, even, 0) == ()
    # 16 channels of the last block free four times the weights of 8 before.
    assert cheapest(structure, even, 1) == (LAST,)
    costly = even.copy()
    costly[structure.inner_units[LAST]] = 9.0
    costly[structure.inner_units["layer1.1"]] = 0.5
    assert cheapest(structure, costly, 1) == ("layer1.1",)
    assert cheapest(structure, costly, 2) == ("layer1.0", "layer1.1")
    kept = without(structure, "layer1.0")
    assert cheapest(structure, costly, 1, keep=kept) == ("layer1.0",)


def test_a_block_that_would_overshoot_the_budget_stays(structure):
    even = np.ones(structure.units, np.float32)
    left = shares(structure, without(structure, LAST))["params"]
    assert cheapest(structure, even, 1, {"params": left}) == (LAST,)
    assert LAST not in cheapest(structure, even, 3, {"params": left * 1.1})
    assert cheapest(structure, even, 3, {"params": 1.0}) == ()


def test_channels_are_cut_to_the_budget_beside_dropped_blocks(structure):
    importance = np.ones(structure.units, np.float32)
    keep = without(structure, LAST)
    found = choose_keep(
        structure,
        keep,
        importance,
        {"params": 0.3},
        floor=1,
        step_cap=1.0,
        width_multiple=1,
    )
    assert not (found & ~keep).any()
    assert structure.empty_groups(found) == []
    assert structure.dropped(found) == (LAST,)
    assert 0.29 < shares(structure, found)["params"] <= 0.3


def test_a_dropped_block_takes_no_time_in_a_latency_table(structure):
    table = table_of(structure)
    keep = without(structure, LAST)
    alone = sum(
        layer.ms[-1, -1] for layer in table.layers if layer.tensor.startswith(LAST)
    )
    found = shares(structure, keep, table)["latency"]
    assert found == pytest.approx(1.0 - alone / table.dense_ms)
    even = np.ones(structure.units, np.float32)
    goal = {"latency": 0.3}
    assert cheapest(structure, even, 1, goal, latency=table) == (LAST,)
    options = {"floor": 1, "step_cap": 1.0, "width_multiple": 8, "latency": table}
    cut = choose_keep(structure, keep, even, {"latency": found * 0.7}, **options)
    assert shares(structure, cut, table)["latency"] <= found * 0.7


def test_offering_leaves_the_network_as_it_was():
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    offer_blocks(model, IMAGE, find_structure(model, IMAGE))
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
