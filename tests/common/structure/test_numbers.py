"""Numbers that a network's code makes of sizes: a cut must not change what they do."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fedprune.common.errors import StructureError
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import check_exact
from fedprune.common.structure.tracing.find import examine

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SERIES = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(1))


class Scaled(nn.Module):
    """A convolution whose 12 channels are scaled by a number made of that 12."""

    def __init__(self, number):
        super().__init__()
        self.number = number
        self.conv = nn.Conv2d(3, 12, 1)
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        x = self.conv(x)
        return self.head((x * self.number(x.shape[1])).mean((2, 3)))


class Attribute(nn.Module):
    """A linear layer scaled by a number made of an attribute that counts its rows."""

    def __init__(self, number):
        super().__init__()
        self.number = number
        self.width = 24
        self.body = nn.Linear(12, 24)
        self.head = nn.Linear(24, 2)

    def forward(self, x):
        x = self.body(x).view(*x.shape[:2], self.width)
        return self.head(x * self.number(self.width)).mean(1)


NUMBERS = {
    "a rest that is 0": lambda n: 2 if n % 4 == 0 else 3,
    "a rest as a condition": lambda n: 2 if n % 4 else 3,
    "a difference above 0": lambda n: 2 if n - 2 > 0 else 3,
    "a difference as a condition": lambda n: 2 if n - 12 else 3,
    "a shift": lambda n: n >> 1,
    "a bit": lambda n: 1 + (n & 3),
    "quotient and rest": lambda n: sum(divmod(n, 2)),
    "an absolute value": abs,
    "a rounded number": round,
    "a whole number above": math.ceil,
    "its bits": lambda n: n.bit_length(),
    "a logarithm": lambda n: 1 + math.log(n),
    "a logarithm to base 2": lambda n: 1 + math.log2(n),
    "a whole root": lambda n: 1 + math.isqrt(n),
    "a common divisor": lambda n: math.gcd(n, 16),
    "a list": lambda n: len([0] * n),
}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize(("net", "example"), [(Scaled, IMAGE), (Attribute, SERIES)])
def test_channels_stay_where_code_calculates_with_their_number(net, example, number):
    found = examine(net(number), example)
    assert found.structure.units == 0
    assert any("the network calculates with" in note for note in found.notes)


@pytest.mark.parametrize("net", [Scaled, Attribute])
def test_a_size_is_above_0_after_any_cut(net):
    example = IMAGE if net is Scaled else SERIES
    model = net(lambda n: 2 if n else 3)
    structure = examine(model, example).structure
    assert structure.units == {Scaled: 12, Attribute: 24}[net]
    for seed in range(3):
        check_exact(model, structure, example, seed=seed)


def test_functions_of_math_are_those_of_python_again():
    before = math.log
    examine(Scaled(lambda n: math.log(n) + 1), IMAGE)
    assert math.log is before


class Spread(nn.Module):
    """A parameter that is spread over channels, by a number made of their number."""

    def __init__(self, number):
        super().__init__()
        self.number = number
        self.conv = nn.Conv2d(3, 12, 1)
        self.shift = nn.Parameter(torch.randn(1, 1, 8, 8))
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        x = self.conv(x)
        x = x + self.shift.expand(x.shape[0], self.number(x.shape[1]), 8, 8)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("number", "units"), [(lambda n: n, 12), (lambda n: n // 3 * 3, 0)]
)
def test_one_position_is_spread_over_as_many_channels_as_are_left(number, units):
    model = Spread(number)
    structure = examine(model, IMAGE).structure
    assert structure.units == units
    keep = structure.full()
    keep[1:] = False
    apply_plan(model, structure, keep)(IMAGE)  # of one channel, n // 3 is 0


@pytest.mark.parametrize("times", [(2,), (2, 1), (2, 1, 1), (1, 2, 1, 1)])
def test_tile_repeats_the_last_dimensions(times):
    channels = 12 * (times[0] if len(times) == 3 else times[-3] if times[3:] else 1)

    class Tiled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 12, 1)
            self.head = nn.Linear(channels, 2)

        def forward(self, x):
            return self.head(torch.tile(self.conv(x), times).mean((2, 3)))

    model = Tiled()
    structure = examine(model, IMAGE).structure
    assert structure.units == 12
    check_exact(model, structure, IMAGE)


class Heads(nn.Module):
    """Attention whose heads become the width again by an operation of its own."""

    def __init__(self, merge):
        super().__init__()
        self.merge = merge
        self.heads, self.width = 3, 4
        self.body, self.out = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x):
        y = self.body(x).view(*x.shape[:2], self.heads, self.width).transpose(1, 2)
        y = (y @ y.transpose(-1, -2)).softmax(-1) @ y
        return x + self.out(self.merge(y.transpose(1, 2), x))


def test_only_view_and_reshape_leave_a_length_to_torch():
    freed = examine(Heads(lambda y, x: y.reshape(x.shape)), SERIES).structure
    assert [len(group.units) for group in freed.groups] == [3]
    assert freed.free
    structure = examine(Heads(lambda y, x: y.reshape_as(x)), SERIES).structure
    assert structure.units == 0
    assert not structure.free


class Listed(Heads):
    """A class that asks its subclasses for a name."""

    names: list[str] = []  # noqa: RUF012 - a registry

    def __init_subclass__(cls, *, name):
        super().__init_subclass__()
        Listed.names.append(name)


class Known(Listed, name="known"):
    """A class on the list."""


def test_a_module_that_leaves_a_length_to_torch_is_on_no_list_of_classes():
    model = Known(lambda y, x: y.reshape(x.shape))
    structure = examine(model, SERIES).structure
    assert structure.free
    check_exact(model, structure, SERIES)
    assert Listed.names == ["known"]


class Slotted(Heads):
    """A class that keeps an attribute in a slot."""

    __slots__ = ("kept",)


def test_a_class_that_cannot_have_such_a_subclass_is_named():
    model = Slotted(lambda y, x: y.reshape(x.shape))
    structure = examine(model, SERIES).structure
    with pytest.raises(StructureError, match="class Slotted cannot have a subclass"):
        check_exact(model, structure, SERIES)


class Turned(nn.Module):
    """Attention whose queries are channels."""

    def __init__(self, mask=None, *, causal=False):
        super().__init__()
        self.queries, self.keys = nn.Linear(12, 9), nn.Linear(12, 7)
        self.head = nn.Linear(9, 2)
        self.mask = None if mask is None else nn.Parameter(mask)
        self.causal = causal

    def forward(self, x):
        one, two = (f(x).transpose(1, 2)[:, None] for f in (self.queries, self.keys))
        y = functional.scaled_dot_product_attention(
            one, two, two, attn_mask=self.mask, is_causal=self.causal
        )
        return self.head(y[:, 0].transpose(1, 2)).mean(1)


@pytest.mark.parametrize("mask", [None, torch.randn(9, 7), torch.randn(1, 7)])
def test_queries_that_are_channels_are_cut_with_their_mask(mask):
    model = Turned(mask)
    structure = examine(model, SERIES).structure
    assert structure.units == 9
    for seed in range(3):
        check_exact(model, structure, SERIES, seed=seed)


def test_queries_that_see_keys_by_their_number_are_not_cut():
    found = examine(Turned(causal=True), SERIES)
    assert found.structure.units == 0
    assert any("each query sees the keys" in note for note in found.notes)


READERS = {
    "numpy multiplies a shape": lambda x: x.view(-1, np.prod(x.shape[1:])),
    "numpy reads a shape": lambda x: x * np.array(x.shape[1:]).sum(),
    "torch reads a shape": lambda x: x * torch.tensor(x.shape)[1],
    "torch reads a part of a shape": lambda x: x * torch.as_tensor(x.size()[1:]).sum(),
    "torch reads a number": lambda x: x * torch.tensor(x.shape[1] ** 0.5),
}


class Read(nn.Module):
    """Twelve channels whose number another library reads, behind eight of its own."""

    def __init__(self, reader):
        super().__init__()
        self.reader = reader
        self.body, self.inner = nn.Linear(5, 8), nn.Linear(8, 12)
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        return self.head(self.reader(self.inner(self.body(x).relu())))


@pytest.mark.parametrize("name", READERS)
def test_a_shape_that_another_library_reads_stays_and_the_rest_is_cut(name):
    model, example = Read(READERS[name]), torch.ones(3, 5)
    found = examine(model, example)
    assert found.structure.widths(found.structure.full()) == {"body": 8}
    assert check_exact(model, found.structure, example) <= 1e-12


def test_a_tensor_made_of_another_one_is_left_uncut_and_named():
    model = Read(lambda x: x * torch.as_tensor(x, dtype=torch.float64).to(x.dtype))
    found = examine(model, torch.ones(3, 5))
    assert found.structure.widths(found.structure.full()) == {"body": 8}
    assert any("as_tensor" in note for note in found.notes)


def test_findings_print_a_line_for_each_group_and_each_note():
    found = examine(Read(lambda x: x * x.shape[1]), torch.ones(3, 5))
    assert str(found).splitlines() == [
        "groups: 1, units: 8",
        "  body: 8",
        "not cut: the network calculates with a size, 12",
    ]


def test_a_name_that_a_tensor_lacks_is_named_with_its_type():
    with pytest.raises(StructureError, match="'Tensor' has no attribute 'breadth'"):
        examine(Read(lambda x: x.breadth), torch.ones(3, 5))
