"""Kinds of networks of sequences, sets and graphs: mixers, recurrence, experts."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence
from typing_extensions import override

from fedprune.simulations.benchmarks.kit.coverage.nets.entry import (
    Entry,
    Kinds,
    noise,
    own,
    tokens,
)

_SERIES, _VECTOR = noise(12, 16), noise(16)


def _mlp(*widths: int, between: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), between()]
    return nn.Sequential(*layers[:-1])


class _Mixer(nn.Module):
    """MLPs along positions and along channels (arXiv:2105.01601)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.places, self.channels = _mlp(12, 40, 12), _mlp(16, 64, 16)
        self.out = nn.Linear(16, 10)

    @override
    def forward(self, x: Tensor) -> object:
        x = x + self.places(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norm2(x))
        return self.out(x.mean(1))


class _GatedMlp(nn.Module):
    """A gate mixed along positions (gMLP, Liu et al. 2021, arXiv:2105.08050)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(32)
        self.into, self.place = nn.Linear(16, 64), nn.Conv1d(12, 12, 1)
        self.back, self.out = nn.Linear(32, 16), nn.Linear(16, 10)

    @override
    def forward(self, x: Tensor) -> object:
        value, gate = functional.gelu(self.into(self.norm1(x))).chunk(2, dim=-1)
        x = x + self.back(value * self.place(self.norm2(gate)))
        return self.out(x.mean(1))


class _Affine(nn.Module):
    """A scale and a shift in place of a norm (ResMLP, arXiv:2105.03404)."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones((1, 1, 24)))
        self.beta = nn.Parameter(torch.zeros((1, 1, 24)))
        self.stem, self.mix, self.out = (
            nn.Linear(16, 24),
            nn.Linear(12, 12),
            nn.Linear(24, 10),
        )

    @override
    def forward(self, x: Tensor) -> object:
        x = self.stem(x)
        y = torch.addcmul(self.beta, self.alpha, x)
        x = x + self.mix(y.transpose(1, 2)).transpose(1, 2)
        return self.out(functional.relu(x).mean(1))


class _Recurrent(nn.Module):
    """A recurrent layer of torch between linear layers.

    Args:
        layer: The layer; takes 20 features.
        width: Features that it returns.
    """

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.stem, self.layer, self.out = nn.Linear(16, 20), layer, nn.Linear(width, 10)

    @override
    def forward(self, x: Tensor) -> object:
        y, _ = self.layer(functional.relu(self.stem(x)))
        return self.out(y[:, -1])


class _CellLoop(nn.Module):
    """An LSTM cell in a loop over positions, states that are made in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.cell, self.out = 24, nn.LSTMCell(16, 24), nn.Linear(24, 10)

    @override
    def forward(self, x: Tensor) -> object:
        h = x.new_zeros(x.size(0), self.hidden)
        c = torch.zeros(x.size(0), self.hidden, dtype=x.dtype, device=x.device)
        for place in range(x.size(1)):
            h, c = self.cell(x[:, place], (h, c))
        return self.out(h)


class _OwnGru(nn.Module):
    """A gated recurrent unit written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.new = nn.Linear(16 + 24, 48), nn.Linear(16 + 24, 24)
        self.start, self.out = nn.Parameter(torch.zeros(24)), nn.Linear(24, 10)

    @override
    def forward(self, x: Tensor) -> object:
        h = self.start.expand(x.shape[0], -1)
        for step in x.unbind(1):
            z, r = torch.sigmoid(self.gates(torch.cat([step, h], -1))).chunk(2, -1)
            h = (1 - z) * h + z * torch.tanh(self.new(torch.cat([step, r * h], -1)))
        return self.out(h)


class _Crnn(nn.Module):
    """Convolutions, then a recurrent layer over columns (arXiv:1507.05717)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12))
        self.rnn = nn.GRU(12 * 4, 16, bidirectional=True, batch_first=True)
        self.out = nn.Linear(32, 11)

    @override
    def forward(self, x: Tensor) -> object:
        x = functional.max_pool2d(functional.relu(self.conv(x)), 2)
        batch, channels, height, width = x.shape
        x = x.permute(0, 3, 1, 2).reshape(batch, width, channels * height)
        return self.out(self.rnn(x)[0]).log_softmax(-1)


class _Packed(nn.Module):
    """Sequences of different lengths, packed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(64, 16), nn.LSTM(16, 24, batch_first=True)
        self.out = nn.Linear(24, 10)

    @override
    def forward(self, ids: Tensor) -> object:
        lengths = (ids > 0).sum(1).cpu()
        packed = pack_padded_sequence(
            self.embed(ids), lengths, batch_first=True, enforce_sorted=False
        )
        return self.out(self.rnn(packed)[1][0][-1])


class _ConvLstm(nn.Module):
    """A cell whose gates are convolutions (Shi et al. 2015, arXiv:1506.04214)."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.gates, self.out = nn.Conv2d(3 + 8, 32, 3, padding=1), nn.Conv2d(8, 2, 1)

    @override
    def forward(self, x: Tensor) -> object:
        shape = (x.shape[0], self.width, *x.shape[-2:])
        h, c = x.new_zeros(shape), x.new_zeros(shape)
        for step in range(x.shape[1]):
            parts = self.gates(torch.cat([x[:, step], h], 1))
            i, f, o, g = torch.split(parts, self.width, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.out(h)


class _Causal(nn.Module):
    """Dilated convolutions with weight norm, cut to the past (arXiv:1803.01271)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(16, 24, 1)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(24, 24, 3, padding=2 * rate, dilation=rate))
            for rate in (1, 2)
        )
        self.out = nn.Linear(24, 10)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.stem(x.transpose(1, 2))
        for conv in self.convs:
            y = conv(x)
            x = functional.relu(x + functional.relu(y[:, :, : x.size(2)]))
        return self.out(x[:, :, -1])


class _WaveNet(nn.Module):
    """Gated dilated convolutions with skips (arXiv:1609.03499)."""

    def __init__(self) -> None:
        super().__init__()
        self.rates, self.stem = (1, 2), nn.Conv1d(16, 20, 1)
        self.gated = nn.ModuleList(nn.Conv1d(20, 48, 2, dilation=r) for r in (1, 2))
        self.back = nn.ModuleList(nn.Conv1d(24, 20, 1) for _ in range(2))
        self.skip = nn.ModuleList(nn.Conv1d(24, 28, 1) for _ in range(2))
        self.out = nn.Conv1d(28, 8, 1)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.stem(x.transpose(1, 2))
        total: Tensor | float = 0.0
        for rate, gated, back, skip in zip(
            self.rates, self.gated, self.back, self.skip, strict=True
        ):
            y = gated(functional.pad(x, (rate, 0)))
            half = y.shape[1] // 2
            y = torch.tanh(y[:, :half]) * torch.sigmoid(y[:, half:])
            total = total + skip(y)
            x = x + back(y)
        return self.out(functional.relu(total))  # type: ignore[arg-type]


class _PointNet(nn.Module):
    """One MLP for each point, the maximum over points (arXiv:1612.00593)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(3, 24, 1), nn.Conv1d(24, 64, 1)
        self.bn1, self.bn2 = nn.BatchNorm1d(24), nn.BatchNorm1d(64)
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 10)

    @override
    def forward(self, x: Tensor) -> object:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x = torch.max(x, 2, keepdim=True)[0].view(-1, 64)
        return self.fc2(functional.relu(self.fc1(x)))


class _DeepSets(nn.Module):
    """One MLP for each element, their sum, another MLP (arXiv:1703.06114)."""

    def __init__(self) -> None:
        super().__init__()
        self.phi, self.rho = _mlp(16, 32, 24), _mlp(24, 32, 10)

    @override
    def forward(self, x: Tensor) -> object:
        return self.rho(self.phi(x).sum(dim=1))


class _Graph(nn.Module):
    """Graph convolutions by products with a normalised adjacency."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(16, 24), nn.Linear(24, 10)

    @override
    def forward(self, x: Tensor) -> object:
        near = torch.softmax(x @ x.transpose(1, 2), -1)
        x = functional.relu(torch.matmul(near, self.one(x)))
        return torch.bmm(near, self.two(x)).mean(1)


class _GraphAttention(nn.Module):
    """Scores from the sum of two projections (arXiv:1710.10903)."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(16, 24, bias=False), nn.Linear(24, 10)
        self.a, self.b = (nn.Parameter(torch.randn(24, 1) / 5) for _ in range(2))

    @override
    def forward(self, x: Tensor) -> object:
        h = self.into(x)
        scores = functional.leaky_relu(h @ self.a + (h @ self.b).transpose(1, 2), 0.2)
        return self.out(functional.elu(scores.softmax(-1) @ h)).mean(1)


class _SoftExperts(nn.Module):
    """All experts, weighted by a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 3)
        self.experts = nn.ModuleList(_mlp(16, 32, 10) for _ in range(3))

    @override
    def forward(self, x: Tensor) -> object:
        share = self.gate(x).softmax(-1)
        found = torch.stack([expert(x) for expert in self.experts], dim=1)
        return (share.unsqueeze(-1) * found).sum(1)


class _Slots(nn.Module):
    """Tokens mixed into slots, one expert each (Soft MoE, arXiv:2308.00951)."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = nn.Parameter(torch.randn(16, 4) / 4)
        self.experts = nn.ModuleList(_mlp(16, 32, 16) for _ in range(4))
        self.out = nn.Linear(16, 10)

    @override
    def forward(self, x: Tensor) -> object:
        scores = x @ self.phi
        slots = scores.softmax(1).transpose(1, 2) @ x
        found = [expert(slots[:, n]) for n, expert in enumerate(self.experts)]
        y = scores.softmax(2) @ torch.stack(found, 1)
        return self.out(y.mean(1))


class _RoutedExperts(nn.Module):
    """The best expert of each token; which one depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.out = nn.Linear(16, 3), nn.Linear(16, 10)
        self.experts = nn.ModuleList(_mlp(16, 32, 16) for _ in range(3))

    @override
    def forward(self, x: Tensor) -> object:
        best = self.gate(x).argmax(-1)
        y = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            chosen = best == number
            if chosen.any():
                y[chosen] = expert(x[chosen])
        return self.out(y.mean(1))


class _Adapted(nn.Module):
    """A linear layer with a low-rank addition (LoRA, arXiv:2106.09685)."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.out = nn.Linear(16, 32), nn.Linear(32, 10)
        self.a = nn.Parameter(torch.randn(4, 16) / 4)
        self.b = nn.Parameter(torch.zeros(32, 4))

    @override
    def forward(self, x: Tensor) -> object:
        y = self.base(x) + (x @ self.a.T) @ self.b.T * 0.5
        return self.out(functional.relu(y))


class _Selective(nn.Module):
    """A scan whose steps depend on the input (Mamba, arXiv:2312.00752)."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(16, 48), nn.Linear(24, 16)
        self.conv = nn.Conv1d(24, 24, 3, padding=2, groups=24)
        self.step, self.bc = nn.Linear(24, 24), nn.Linear(24, 8)
        self.log_a, self.d = (
            nn.Parameter(torch.zeros(24, 4)),
            nn.Parameter(torch.ones(24)),
        )
        self.out = nn.Linear(16, 10)

    @override
    def forward(self, x: Tensor) -> object:
        u, gate = self.into(x).chunk(2, -1)
        u = functional.silu(self.conv(u.transpose(1, 2))[..., : x.shape[1]]).transpose(
            1, 2
        )
        step, (b, c) = functional.softplus(self.step(u)), self.bc(u).chunk(2, -1)
        decay = torch.exp(step.unsqueeze(-1) * -torch.exp(self.log_a))
        change = (step * u).unsqueeze(-1) * b.unsqueeze(2)
        state, found = torch.zeros_like(change[:, 0]), []
        for place in range(x.shape[1]):
            state = decay[:, place] * state + change[:, place]
            found.append((state * c[:, place].unsqueeze(1)).sum(-1))
        y = (torch.stack(found, 1) + u * self.d) * functional.silu(gate)
        return self.out(self.back(y).mean(1))


def _normed(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), norm, nn.ReLU(), nn.Linear(32, 10))


KINDS: Kinds = {
    "MLP": (lambda: _mlp(16, 32, 24, 10), _VECTOR),
    "MLP, layer norm": (lambda: _normed(nn.LayerNorm(32)), _VECTOR),
    "MLP, batch norm": (lambda: _normed(nn.BatchNorm1d(32)), _VECTOR),
    "linear layer alone": (lambda: nn.Linear(16, 10), _VECTOR),
    "MLP-Mixer": (_Mixer, _SERIES),
    "gMLP": (_GatedMlp, _SERIES),
    "affine scale and shift": (_Affine, _SERIES),
    "LSTM": (lambda: _Recurrent(nn.LSTM(20, 24, batch_first=True), 24), _SERIES),
    "LSTM, two layers, both directions": (
        lambda: _Recurrent(
            nn.LSTM(20, 24, 2, batch_first=True, bidirectional=True), 48
        ),
        _SERIES,
    ),
    "LSTM, projected": (
        lambda: _Recurrent(nn.LSTM(20, 24, batch_first=True, proj_size=12), 12),
        _SERIES,
    ),
    "GRU": (lambda: _Recurrent(nn.GRU(20, 24, batch_first=True), 24), _SERIES),
    "RNN": (lambda: _Recurrent(nn.RNN(20, 24, batch_first=True), 24), _SERIES),
    "LSTM cell in a loop": (_CellLoop, _SERIES),
    "GRU by hand": (_OwnGru, _SERIES),
    "convolutions and GRU": (_Crnn, noise(1, 8, 20)),
    "packed LSTM": (_Packed, tokens(12)),
    "convolutional LSTM": (_ConvLstm, noise(4, 3, 8, 8)),
    "temporal convolution, weight norm": (_Causal, _SERIES),
    "WaveNet": (_WaveNet, _SERIES),
    "PointNet": (_PointNet, noise(3, 20)),
    "deep sets": (_DeepSets, _SERIES),
    "graph convolution": (_Graph, _SERIES),
    "graph attention": (_GraphAttention, _SERIES),
    "mixture of experts, all": (_SoftExperts, _VECTOR),
    "mixture of experts, slots": (_Slots, _SERIES),
    "mixture of experts, routed": (_RoutedExperts, _SERIES),
    "low-rank adapter": (_Adapted, _VECTOR),
    "selective scan": (_Selective, _SERIES),
}


def entries() -> list[Entry]:
    """Return the networks of this file, in the order of the list."""
    return own(KINDS, __name__)
