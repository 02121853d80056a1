"""The name of a traced network: equal for equal computation, whatever its weights."""

import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import fedprune
from fedprune.common.structure.tracing.find import find

SOURCES = Path(fedprune.__file__).parents[1]


class Net(nn.Module):
    """A convolution, dropout and a head, with settings in code and in modules."""

    def __init__(self, **changes):
        super().__init__()
        found = {"act": torch.relu, "kernel": 3, "p": 0.1, "after": 0.1, "slope": 0.01}
        found |= {"width": 8, "start": 0} | changes
        width, kernel = found["width"], found["kernel"]
        self.conv = nn.Conv2d(1, width, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(width)
        self.leaky = nn.LeakyReLU(found["slope"])
        self.dropout = nn.Dropout(found["p"])
        self.fc = nn.Linear(width, 3)
        self.act, self.after, self.start = (found[k] for k in ("act", "after", "start"))

    def forward(self, x):
        x = self.leaky(self.act(self.bn(self.conv(x[:, :, self.start :]))))
        x = self.dropout(x).mean((2, 3))
        return functional.dropout(self.fc(x), self.after, self.training)


class Attending(nn.Module):
    """Attention, which does not print its number of heads."""

    def __init__(self, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, heads, batch_first=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(self.attention(x, x, x)[0].mean(1))


OTHER = {
    "another activation": {"act": torch.tanh},
    "an activation that is a module": {"act": nn.ReLU()},
    "another kernel": {"kernel": 5},
    "another width": {"width": 9},
    "another dropout module": {"p": 0.2},
    "another dropout in code": {"after": 0.2},
    "another slope": {"slope": 0.02},
    "another slice": {"start": 1},
}


def named(model, shape=(1, 8, 8)):
    return find(model, torch.zeros(2, *shape)).graph


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER)
def test_what_a_network_computes_is_part_of_its_name(changes):
    assert named(Net(**changes)) != named(Net())


def test_weights_moments_and_the_random_state_are_not_part_of_it():
    first, second = Net(), Net()
    second.train()(torch.randn(16, 1, 8, 8))
    assert not torch.equal(first.conv.weight, second.conv.weight)
    assert not torch.equal(first.bn.running_mean, second.bn.running_mean)
    assert named(first) == named(second)


def test_heads_count_though_attention_does_not_print_them():
    names = {named(Attending(heads), (5, 16)) for heads in (2, 4, 2)}
    assert len(names) == 2


class Scaled(nn.Module):
    """A module of the user's that is called as one operation."""

    POWER = 1

    def __init__(self, scale=2.0, kept=(1, 2), act=torch.relu):
        super().__init__()
        self._scale = scale
        self.kept = [*kept]
        self.constant = torch.ones(1)
        self.act = act
        self.inner = nn.Sequential(nn.LeakyReLU(0.1))

    def forward(self, x):
        return self.act(self.inner(x)) * self._scale + self._more(x)

    def _more(self, x):
        return x * self.constant


class Hinted(nn.Module):
    """A network with such a module."""

    def __init__(self, middle, **changes):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.middle = middle
        self.fc = nn.Linear(8, 3)
        for path, value in changes.items():
            *owner, name = path.split("__")
            setattr(self.get_submodule(".".join(owner)), name, value)

    def forward(self, x):
        return self.fc(self.middle(self.conv(x)).mean((2, 3)))


def hinted(**changes):
    made = {k: v for k, v in changes.items() if "__" not in k}
    return Hinted(Scaled(**made), **{k: changes[k] for k in changes.keys() - made})


def times(factor):
    return lambda x: x * factor


@dataclass
class AttributeSize:
    """A setting in a class of its own."""

    value: float


class Kind(Enum):
    """A setting with a name."""

    A = 1
    B = 2


class Times:
    """An object that is called."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


INSIDE = {
    "a setting of a module in it": {"middle__inner__0__negative_slope": 0.2},
    "another module in it": {"middle__inner": nn.Sequential(nn.ELU(0.1))},
    "a hidden setting": {"scale": 3.0},
    "a list": {"kept": (1, 3)},
    "a constant": {"middle__constant": torch.zeros(1)},
    "a function of torch": {"act": torch.tanh},
    "a function": {"act": times(2)},
    "a function that holds another number": {"act": times(3)},
    "an own forward": {"middle__forward": times(2)},
    "a dataclass": {"middle__setting": AttributeSize(2.0)},
    "the same with another value": {"middle__setting": AttributeSize(3.0)},
    "an enum": {"middle__kind": Kind.A},
    "another of it": {"middle__kind": Kind.B},
    "a partial": {"act": partial(torch.mul, other=2)},
    "the same with another argument": {"act": partial(torch.mul, other=3)},
    "an object that is called": {"act": Times(2)},
    "the same with another attribute": {"act": Times(3)},
}


KEPT = {"kept": ({"a", "b", "c"}, {"d": torch.float32}), "act": times(2)}


def ignored(model):
    return find(model, torch.zeros(2, 1, 8, 8), ignore=["middle"]).graph


def test_what_an_ignored_module_computes_is_part_of_the_name():
    names = [ignored(hinted(**changes)) for changes in INSIDE.values()]
    assert len({ignored(hinted()), *names}) == len(INSIDE) + 1
    assert ignored(hinted()) == ignored(hinted())


def test_what_a_module_with_hints_computes_is_part_of_the_name(monkeypatch):
    monkeypatch.setattr(
        Scaled,
        "pruning_hints",
        {"inputs": [{1: "a"}], "output": {1: "a"}},
        raising=False,
    )
    names = [named(hinted(**changes)) for changes in INSIDE.values()]
    assert len({named(hinted()), *names}) == len(INSIDE) + 1


CLASS = {
    "its forward": {"forward": lambda self, x: self.act(self.inner(x)) * self._scale},
    "what its forward calls": {"_more": lambda self, x: 2 * x * self.constant},
    "a constant of its class": {"POWER": 2},
}


@pytest.mark.parametrize("change", CLASS.values(), ids=CLASS)
def test_the_code_of_an_ignored_module_is_part_of_the_name(change, monkeypatch):
    before = ignored(hinted())
    for name, item in change.items():
        monkeypatch.setattr(Scaled, name, item)
    assert ignored(hinted()) != before


def test_which_weights_are_trained_is_part_of_the_name():
    frozen = Net()
    frozen.conv.weight.requires_grad = False
    assert named(frozen) != named(Net())


class Drawn(Net):
    """A network that adds constants of its own and noise."""

    def __init__(self, constant):
        super().__init__()
        self.own = constant

    def forward(self, x):
        noise = torch.rand(3)
        return super().forward(x) * torch.tensor([1.0, 2.0, self.own]) + noise


def test_constants_of_the_code_are_part_of_the_name_and_draws_are_not():
    state = torch.get_rng_state()
    assert named(Drawn(3.0)) == named(Drawn(3.0)) != named(Drawn(4.0))
    Net()
    assert not torch.equal(state, torch.get_rng_state())
    model, state = Drawn(3.0), torch.get_rng_state()
    named(model)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.slow
def test_the_name_is_the_same_in_another_process():
    code = f"import runpy; here = runpy.run_path({__file__!r}); "
    code += "Net, Attending, named = (here[x] for x in ('Net', 'Attending', 'named')); "
    code += "ignored, hinted, kept = (here[x] for x in ('ignored', 'hinted', 'KEPT')); "
    code += "print(named(Net()), named(Attending(2), (5, 16)), ignored(hinted(**kept)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=SOURCES,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(SOURCES)},
    )
    names = [named(Net()), named(Attending(2), (5, 16)), ignored(hinted(**KEPT))]
    assert done.stdout.split() == names
