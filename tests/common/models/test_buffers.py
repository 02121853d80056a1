"""Buffers that a federation would lose are refused, the others are kept."""

import pytest
import torch
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.models.buffers import running_buffers


class Holding(nn.Module):
    """A linear layer behind something that holds state."""

    def __init__(self, inner, *shape):
        super().__init__()
        self.inner, self.head = inner, nn.LazyLinear(3)
        self.head(inner(torch.rand(shape)).flatten(1))

    def forward(self, x):
        return self.head(self.inner(x).flatten(1))


class Scale(nn.Module):
    """A running scale, or a counter, or a cache: what ``kind`` says."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        kept = kind != "cache"
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.zeros(3), persistent=kept)

    def forward(self, x):
        if self.training and self.kind == "count":
            self.seen += 1
        if self.training and self.kind in {"scale", "cache"}:
            self.scale = 0.9 * self.scale + 0.1 * x.detach().abs().mean(0)
        return x + self.scale


IMAGE = (2, 3, 4, 4)
REFUSED = {
    "instance norm": (
        lambda: Holding(nn.InstanceNorm2d(3, track_running_stats=True), *IMAGE),
        IMAGE,
        r"'inner.running_mean', 'inner.running_var'",
    ),
    "own scale": (lambda: Holding(Scale("scale"), 2, 3), (2, 3), "'inner.scale'"),
    "counter": (lambda: Holding(Scale("count"), 2, 3), (2, 3), "'inner.seen'"),
    "spectral norm": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
        (2, 4),
        "_u'",
    ),
}
ACCEPTED = {
    "batch norm": (lambda: Holding(nn.BatchNorm2d(3), *IMAGE), IMAGE),
    "batch norm alone": (lambda: nn.BatchNorm2d(3), IMAGE),
    "untracked": (
        lambda: Holding(nn.BatchNorm2d(3, track_running_stats=False), *IMAGE),
        IMAGE,
    ),
    "instance norm": (lambda: Holding(nn.InstanceNorm2d(3), *IMAGE), IMAGE),
    "constant": (lambda: Holding(Scale("none"), 2, 3), (2, 3)),
    "cache": (lambda: Holding(Scale("cache"), 2, 3), (2, 3)),
}


@pytest.mark.parametrize(("make", "shape", "names"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("fill", [torch.rand, torch.zeros])
def test_a_buffer_that_training_changes_is_refused_by_name(make, shape, names, fill):
    with pytest.raises(
        ConfigError, match=f"^training changes .*{names}.* want buffers"
    ):
        running_buffers(make(), fill(shape))


@pytest.mark.parametrize(("make", "shape"), ACCEPTED.values(), ids=ACCEPTED)
def test_pooled_and_constant_buffers_are_accepted_and_nothing_moves(make, shape):
    model = make().eval()
    before = {name: item.clone() for name, item in model.state_dict().items()}
    state = torch.random.get_rng_state()
    running_buffers(model, torch.rand(shape, generator=torch.Generator()))
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
