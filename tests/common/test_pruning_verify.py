"""The whole network's own answer, where the walk over it is wrong."""

import math
from dataclasses import fields
from types import MappingProxyType

import pytest
import torch
from torch import nn

from common.errors import StructureError
from common.pruning.structure import DimUnits, Structure
from common.pruning.trace import find_structure
from common.pruning.verify import check_exact, half_mask
from tests.common.pruning_nets import NETS, build


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


def test_a_network_that_overflows_is_not_judged():
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
