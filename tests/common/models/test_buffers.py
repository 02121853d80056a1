"""Buffers that training changes are averaged or refused, the others are constant."""

import pytest
import torch
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.models.buffers import changed_buffers, running_buffers


class Holding(nn.Module):
    """A linear layer behind something that holds state."""

    def __init__(self, inner, *shape):
        super().__init__()
        self.inner, self.head = inner, nn.LazyLinear(3)
        self.head(inner.eval()(torch.rand(shape)).flatten(1))
        self.train()

    def forward(self, x):
        return self.head(self.inner(x).flatten(1))


class Scale(nn.Module):
    """A running scale, or a counter, or a cache: what ``kind`` says."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        kept = kind != "cache"
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("any", torch.zeros(3, dtype=torch.bool))
        self.register_buffer("scale", torch.zeros(3), persistent=kept)
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.change(x.detach())
        return x + self.scale.sum()

    def change(self, x):
        if self.kind == "count":
            self.seen += 1
        if self.kind == "counted by its usual name":
            self.num_batches_tracked += 1
        if self.kind == "flags":
            self.any |= x.abs().amax(0) > 0
        if self.kind in {"scale", "cache"}:
            self.scale = 0.9 * self.scale + 0.1 * x.abs().mean(0)
        if self.kind == "queue":
            self.scale = torch.cat([self.scale, x.mean(0)])
        if self.kind == "half":
            self.scale = self.scale.half()
        if self.kind == "infinite":
            self.scale = self.scale - torch.inf


IMAGE = (2, 3, 4, 4)
ROW = (2, 3)
REFUSED = {
    "count": (r"'inner.seen' \(int64\)"),
    "flags": (r"'inner.any' \(bool\)"),
    "queue": (r"'inner.scale' \(whose shape or type changes\)"),
    "half": (r"'inner.scale' \(whose shape or type changes\)"),
    "infinite": (r"'inner.scale' \(which becomes infinite or NaN\)"),
}
RUNNING = {
    "own scale": (lambda: Holding(Scale("scale"), *ROW), ROW, ["inner.scale"]),
    "instance norm": (
        lambda: Holding(nn.InstanceNorm2d(3, track_running_stats=True), *IMAGE),
        IMAGE,
        ["inner.running_mean", "inner.running_var"],
    ),
    "spectral norm": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
        (2, 4),
        ["parametrizations.weight.0._u", "parametrizations.weight.0._v"],
    ),
}
CONSTANT = {
    "batch norm": (lambda: Holding(nn.BatchNorm2d(3), *IMAGE), IMAGE),
    "batch norm alone": (lambda: nn.BatchNorm2d(3), IMAGE),
    "untracked": (
        lambda: Holding(nn.BatchNorm2d(3, track_running_stats=False), *IMAGE),
        IMAGE,
    ),
    "instance norm": (lambda: Holding(nn.InstanceNorm2d(3), *IMAGE), IMAGE),
    "constant": (lambda: Holding(Scale("none"), *ROW), ROW),
    "cache": (lambda: Holding(Scale("cache"), *ROW), ROW),
    "counter": (lambda: Holding(Scale("counted by its usual name"), *ROW), ROW),
}


@pytest.mark.parametrize(("kind", "names"), REFUSED.items(), ids=REFUSED)
@pytest.mark.parametrize("fill", [torch.rand, torch.zeros])
def test_a_changing_buffer_without_an_average_is_refused_by_name(kind, names, fill):
    with pytest.raises(
        ConfigError,
        match=f"^training changes {names}, which .* want a buffer of floats",
    ):
        running_buffers(Holding(Scale(kind), *ROW), fill(ROW))


def test_a_buffer_that_training_makes_is_refused_by_name():
    class Late(nn.Linear):
        def forward(self, x):
            if self.training and "late" not in dict(self.named_buffers()):
                self.register_buffer("late", x.detach().mean(0))
            return super().forward(x)

    with pytest.raises(ConfigError, match=r"'late' \(which is not there before\)"):
        running_buffers(Late(4, 3), torch.rand(2, 4))


@pytest.mark.parametrize(("make", "shape", "names"), RUNNING.values(), ids=RUNNING)
@pytest.mark.parametrize("fill", [torch.rand, torch.zeros])
def test_buffers_of_floats_that_training_changes_are_averaged(make, shape, names, fill):
    assert running_buffers(make(), fill(shape)) == tuple(names)


def test_a_change_is_found_afterwards_unless_it_is_averaged():
    model = Holding(Scale("count"), *ROW)
    first = {name: item.clone() for name, item in model.named_buffers()}
    assert changed_buffers(first, model, ()) == ""
    model.inner.seen += 1
    model.inner.scale += 1
    model.inner.num_batches_tracked += 1
    assert changed_buffers(first, model, ["inner.scale"]) == "'inner.seen'"


@pytest.mark.parametrize(("make", "shape"), CONSTANT.values(), ids=CONSTANT)
def test_pooled_and_constant_buffers_are_accepted_and_nothing_moves(make, shape):
    model = make().eval()
    before = {name: item.clone() for name, item in model.state_dict().items()}
    state = torch.random.get_rng_state()
    assert running_buffers(model, torch.rand(shape, generator=torch.Generator())) == ()
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert all(item.grad is None for item in model.parameters())


@pytest.mark.parametrize(
    ("buffer", "what"),
    [
        (torch.ones(2, dtype=torch.bfloat16), "bfloat16"),
        (torch.ones(2, dtype=torch.complex128), "complex128"),
        (torch.full((2,), -torch.inf), "not finite"),
    ],
)
def test_a_buffer_that_no_file_holds_is_refused_before_the_run(buffer, what):
    model = nn.Linear(4, 3)
    model.register_buffer("mask", buffer, persistent=False)
    running_buffers(model, torch.rand(2, 4))
    model.register_buffer("table", buffer)
    with pytest.raises(ConfigError, match=f"tensor 'table' .*{what}"):
        running_buffers(model, torch.rand(2, 4))


def test_a_network_that_cannot_train_is_refused():
    class Broken(nn.Linear):
        def forward(self, x):
            return super().forward(x[:, :2] if self.training else x)

    with pytest.raises(ConfigError, match="does not run in training mode: mat1"):
        running_buffers(Broken(4, 3), torch.rand(2, 4))


def test_inputs_may_be_several_and_outputs_without_gradients():
    class Nearest(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.rand(3, 4))

        def forward(self, x, y):
            return {"class": ((x + y) @ self.weight.T).argmax(1)}

    running_buffers(Nearest(), (torch.rand(2, 4), torch.rand(2, 4)))
    assert not any(p.grad is not None for p in Nearest().parameters())
