"""Tiny networks, masks and comparisons that the pruning tests share."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fedprune.common.pruning.choose import choose_keep
from fedprune.common.pruning.latency import LatencyTable, LayerLatency
from fedprune.common.pruning.trial import mask_units
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import find_structure

torch.set_num_threads(1)


class LeNet(nn.Module):
    """Convolutions without norms, flattening, three linear layers: 6+16+20+12 units."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 16, 3)
        self.fc1 = nn.Linear(16 * 2 * 2, 20)
        self.fc2 = nn.Linear(20, 12)
        self.fc3 = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        x = functional.dropout(self.fc1(x).relu(), training=self.training)
        return self.fc3(torch.sigmoid(self.fc2(x)))


Norm = Callable[[int], nn.Module]


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            shrink = nn.Conv2d(inputs, outputs, 1, bias=False)
            self.shortcut = nn.Sequential(shrink, norm(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu(out)


class ResNet(nn.Module):
    """Two stages of two blocks; with 8 and 16 channels 3 * (8 + 16) = 72 channels."""

    def __init__(self, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = norm(8)
        blocks = [Block(8, 8, norm), Block(8, 8, norm)]
        self.layer1 = nn.Sequential(*blocks)
        self.layer2 = nn.Sequential(Block(8, 16, norm), Block(16, 16, norm))
        self.fc = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn(self.conv(x)))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


def group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(4, channels)


class Depthwise(nn.Module):
    """An inverted residual: 8 (stem and projection) + 24 (hidden) units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.expand = nn.Sequential(
            nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6()
        )
        self.depth = nn.Sequential(
            nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False),
            nn.BatchNorm2d(24),
            nn.Hardswish(),
        )
        self.project = nn.Sequential(nn.Conv2d(24, 8, 1), nn.BatchNorm2d(8))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(torch.add(x, self.project(self.depth(self.expand(x)))))


class Signal(nn.Module):
    """Conv1d, BatchNorm1d and a linear layer along the time axis: 6 + 10 + 7 units."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 3)
        self.bn = nn.BatchNorm1d(6)
        self.conv2 = nn.Conv1d(6, 10, 2)
        self.fc = nn.Linear(20, 7)
        self.bn2 = nn.BatchNorm1d(7)
        self.fc2 = nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool1d(functional.gelu(self.bn(self.conv(x))), 2)
        x = functional.adaptive_avg_pool1d(self.conv2(x), 2)
        return self.fc2(self.bn2(self.fc(x.flatten(1))) * 0.5)


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet": (LeNet, (2, 1, 14, 14)),
    "resnet": (ResNet, (2, 3, 8, 8)),
    "groupnorm": (lambda: ResNet(group_norm), (2, 3, 8, 8)),
    "depthwise": (Depthwise, (2, 3, 8, 8)),
    "signal": (Signal, (2, 3, 12)),
}


def build(name: str, seed: int = 0) -> tuple[nn.Module, torch.Tensor, Structure]:
    """Return a float64 network with random norms, an example and its structure."""
    factory, shape = NETS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = factory().double().eval()
        randomise(model)
        example = torch.randn(shape, dtype=torch.float64)
    return model, example, find_structure(model, example)


def randomise(model: nn.Module) -> None:
    """Give norms scales, shifts and statistics that are neither 0 nor 1."""
    for name, tensor in model.state_dict().items():
        if "num_batches" not in name and tensor.dim() == 1:
            with torch.no_grad():
                tensor.copy_(torch.rand_like(tensor) + 0.3)


def random_mask(structure: Structure, seed: int, density: float = 0.5) -> Mask:
    """Return a mask that keeps units at random, at least one in each group."""
    rng = np.random.default_rng(seed)
    keep = rng.random(structure.units) < density
    for group in structure.groups:
        keep[rng.choice(group.units)] = True
    return keep


mask_model = mask_units


def flat(model: nn.Module) -> Vector:
    """Return the trained weights in model order."""
    parts = [item.detach().reshape(-1) for item in model.parameters()]
    return torch.cat(parts).float().numpy()


def table_of(structure, ms=lambda tensor, taken, made: taken * made, step=8):
    """Return a table whose layers take ``ms`` at each ``step`` and the full width."""
    layers = []
    for name in structure.multiplies:
        shape = structure.shapes[name]
        grids = [
            (*range(step, full, step), full) if full > step else (full,)
            for full in (shape[1], shape[0])
        ]
        times = [[float(ms(name, a, b)) for b in grids[1]] for a in grids[0]]
        layers.append(
            LayerLatency(
                tensor=name, inputs=grids[0], outputs=grids[1], ms=np.array(times)
            )
        )
    return LatencyTable(
        structure=structure.digest.hex(),
        device="a board",
        dense_ms=sum(layer.ms[-1, -1] for layer in layers),
        layers=tuple(layers),
    )


def choose(structure, importance, targets, **settings):
    given_ = {"floor": 1, "step_cap": 1.0, "width_multiple": 1} | settings
    keep = given_.pop("keep", structure.full())
    return choose_keep(
        structure, keep, np.asarray(importance, np.float32), targets, **given_
    )


def scores(structure, seed=0):
    return np.random.default_rng(seed).random(structure.units, dtype=np.float32)
