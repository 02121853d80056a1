"""The law of exactness, and what cutting must leave as it is."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from helpers.pruning_nets import (
    NETS,
    LeNet,
    ResNet,
    build,
    flat,
    mask_model,
    random_mask,
)
from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import find_structure


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NETS)
def test_the_cut_network_equals_the_masked_dense_network(name, seed):
    model, example, structure = build(name, seed)
    keep = random_mask(structure, seed, density=(0.2, 0.5, 0.8, 0.95)[seed])
    masked = copy.deepcopy(model)
    mask_model(masked, structure, keep)
    with torch.no_grad():
        wanted = masked(example)
        found = apply_plan(copy.deepcopy(model), structure, keep)(example)
        dense = model(example)
    scale = wanted.abs().max()
    assert (found - wanted).abs().max() <= 1e-12 * scale
    # Otherwise the mask touched nothing and the law was not tried.
    assert (dense - wanted).abs().max() > 1e-6 * scale


@pytest.mark.parametrize("name", NETS)
def test_the_cut_network_is_as_small_as_the_spec_says(name):
    model, _, structure = build(name)
    keep = random_mask(structure, 3)
    apply_plan(model, structure, keep)
    spec = structure.spec(keep)
    found = [(name, tuple(item.shape)) for name, item in model.named_parameters()]
    assert found == [(tensor.name, tensor.shape) for tensor in spec.tensors]
    means = [len(b) for n, b in model.named_buffers() if n.endswith("running_mean")]
    variances = [len(b) for n, b in model.named_buffers() if n.endswith("running_var")]
    assert sum(means) == sum(variances) == spec.moments
    assert spec.units == keep.sum()


@pytest.mark.parametrize("name", NETS)
def test_module_attributes_follow_the_cut(name):
    model, _, structure = build(name)
    apply_plan(model, structure, random_mask(structure, 5))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            wanted = (module.out_features, module.in_features)
            assert module.weight.shape == wanted
        elif isinstance(module, nn.Conv1d | nn.Conv2d):
            wanted = (module.out_channels, module.in_channels // module.groups)
            assert module.weight.shape[:2] == wanted
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert len(module.running_mean) == module.num_features
        elif isinstance(module, nn.GroupNorm):
            assert len(module.weight) == module.num_channels
            share = 8 if module.num_channels > 8 else 4
            assert module.num_groups <= share


def test_group_norm_groups_keep_their_size():
    model, _, structure = build("groupnorm")
    sizes = [m.num_channels // m.num_groups for m in model.modules() if is_norm(m)]
    apply_plan(model, structure, random_mask(structure, 1))
    cut = [m.num_channels // m.num_groups for m in model.modules() if is_norm(m)]
    assert cut == sizes
    assert min(m.num_groups for m in model.modules() if is_norm(m)) < 4


def is_norm(module):
    return isinstance(module, nn.GroupNorm)


@pytest.mark.parametrize("training", [True, False])
def test_cutting_keeps_flags_dtype_and_contiguity(training):
    model, _, structure = build("resnet")
    model.train(training)
    model.layer1.eval()
    model.conv.weight.requires_grad_(requires_grad=False)
    flags = {name: module.training for name, module in model.named_modules()}
    grads = {name: item.requires_grad for name, item in model.named_parameters()}
    assert apply_plan(model, structure, random_mask(structure, 0)) is model
    assert {n: m.training for n, m in model.named_modules()} == flags
    assert {n: p.requires_grad for n, p in model.named_parameters()} == grads
    assert not model.conv.weight.requires_grad
    for item in model.state_dict().values():
        assert item.is_contiguous()
    assert model.conv.weight.dtype == torch.float64


def test_the_cut_network_trains():
    model, example, structure = build("resnet")
    apply_plan(model, structure, random_mask(structure, 0))
    before = flat(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()(example).square().sum().backward()
    optimizer.step()
    assert not np.array_equal(before, flat(model))


class Tied(nn.Module):
    """Two linear layers with one weight between them, and a decoder tied to it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6, bias=False)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, 2)
        self.begin = nn.Linear(4, 6)

    def forward(self, x):
        return self.head(self.second(self.first(self.begin(x)).relu()).relu())


def test_tied_tensors_stay_one_object_and_the_law_holds():
    model = Tied().double()
    example = torch.randn(3, 4, dtype=torch.float64)
    structure = find_structure(model, example)
    # One weight: its rows and its columns are the same 6 channels.
    assert structure.units == 6
    keep = np.array([True, False, True, True, False, True])
    masked = copy.deepcopy(model)
    mask_model(masked, structure, keep)
    cut = apply_plan(copy.deepcopy(model), structure, keep)
    assert cut.first.weight is cut.second.weight
    assert cut.first.weight.shape == (4, 4)
    torch.testing.assert_close(cut(example), masked(example), rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_nothing_of_a_network_stays_alive_after_it_was_traced_and_cut():
    model = LeNet()
    structure = find_structure(model, torch.randn(1, 1, 14, 14))
    apply_plan(model, structure, random_mask(structure, 0))
    watch = weakref.ref(model), weakref.ref(model.conv1)
    del model
    gc.collect()
    assert [item() for item in watch] == [None, None]


def test_two_structures_share_no_state():
    first = find_structure(LeNet(), torch.randn(1, 1, 14, 14))
    second = find_structure(ResNet(), torch.randn(1, 3, 8, 8))
    assert first == find_structure(LeNet(), torch.randn(1, 1, 14, 14))
    assert first != second
    assert not {g.name for g in first.groups} & {g.name for g in second.groups}


def test_a_plan_is_never_applied_to_another_network():
    model, _, structure = build("lenet")
    with pytest.raises(StructureError, match="not the dense network"):
        apply_plan(ResNet(), structure, structure.full())
    keep = random_mask(structure, 0)
    apply_plan(model, structure, keep)
    with pytest.raises(StructureError, match=r"conv1\.weight"):
        apply_plan(model, structure, keep)


def test_a_device_cuts_by_the_json_alone():
    model, example, structure = build("resnet")
    keep = random_mask(structure, 2)
    received = Structure.from_json(structure.to_json())
    here = apply_plan(copy.deepcopy(model), structure, keep)
    there = apply_plan(copy.deepcopy(model), received, keep)
    assert torch.equal(here(example), there(example))
