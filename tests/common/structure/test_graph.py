"""The name of a traced network: equal for equal computation, whatever its weights."""

import subprocess
import sys
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


@pytest.mark.slow
def test_the_name_is_the_same_in_another_process():
    code = f"import runpy; here = runpy.run_path({__file__!r}); "
    code += "Net, Attending, named = (here[x] for x in ('Net', 'Attending', 'named')); "
    code += "print(named(Net()), named(Attending(2), (5, 16)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=SOURCES,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(SOURCES)},
    )
    assert done.stdout.split() == [named(Net()), named(Attending(2), (5, 16))]
