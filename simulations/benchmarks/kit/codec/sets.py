"""Reference updates of fixed training runs: LeNet-5 and ResNet-18 on digits.

``python -m fedprune.simulations.benchmarks.kit.codec.sets [FIRST LAST]`` lists the
LeNet-5 of seeds.

Plain FedAvg of two clients with an L1 proximal step on everything with two or more
dimensions; the update of client 0 in the last round is the one that is coded.  All of
it follows from a seed; other processors may differ.

The training of LeNet-5 is chaotic: its update has 32 000 to 208 000 entries by seed and
the denser it is, the longer is its code for each of them.  The figures that it is
compared with come from an update of 37 178 entries, so the seeds here are those of 0 to
399 that come within 5 % of it.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from fedprune.common.messages import SparseDelta
from fedprune.common.spec import ModelSpec, TensorSpec, Vector

_LR, _MOMENTUM, _CLIP = 0.05, 0.9, 5.0
_SHRINK = _LR * 2e-3  # of the proximal step
_TRAINED = 1440  # images; the other 357 are for tests
_ENTRIES, _NEAR = 37_178, 0.05  # of the published update, and the relative tolerance
LENETS = (97, 112, 133, 241, 248)  # seeds
State = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Weights of a client of a reference run in its last round.

    Attributes:
        spec: Tensors with two or more dimensions.
        base: Weights that it received, float32[size].
        weights: Weights after its training.
    """

    spec: ModelSpec
    base: Vector
    weights: Vector

    def update(self) -> SparseDelta:
        """Return the delta on the weights that are not 0."""
        return _sparse((self.weights - self.base) * (self.weights != 0))

    def top(self, share: float) -> SparseDelta:
        """Return the largest entries of the delta, over all tensors."""
        delta = self.weights - self.base
        count = int(share * len(delta))
        least = np.partition(np.abs(delta), len(delta) - count)[len(delta) - count]
        return _sparse(np.where(np.abs(delta) >= least, delta, np.float32(0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    make: Callable[[], nn.Module]
    side: int  # pixels of an image
    batch: int
    warmup: int  # epochs on all data
    rounds: int
    epochs: int  # of a client


def lenet(seed: int) -> Reference:
    """Return a LeNet-5 of 430 500 weights; some 5 seconds."""
    training = _Training(make=LeNet, side=28, batch=32, warmup=8, rounds=4, epochs=2)
    return _train(training, seed)


def resnet() -> Reference:
    """Return the ResNet-18 of 11 163 200 weights; a minute or two."""
    training = _Training(make=ResNet, side=16, batch=64, warmup=4, rounds=3, epochs=1)
    return _train(training, 0)


class LeNet(nn.Module):
    """LeNet-5-Caffe."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.f1, self.f2 = nn.Linear(800, 500), nn.Linear(500, 10)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return logits of images."""
        x = functional.max_pool2d(self.c2(functional.max_pool2d(self.c1(x), 2)), 2)
        found: Tensor = self.f2(functional.relu(self.f1(x.flatten(1))))
        return found


class Block(nn.Module):
    """A basic block with GroupNorm."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.n1 = nn.GroupNorm(8, outputs)
        self.c2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.n2 = nn.GroupNorm(8, outputs)
        self.sc: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            across = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.sc = nn.Sequential(across, nn.GroupNorm(8, outputs))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        h = self.n2(self.c2(functional.relu(self.n1(self.c1(x)))))
        return functional.relu(h + self.sc(x))


class ResNet(nn.Module):
    """ResNet-18 for small grey images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 64, 3, 1, 1, bias=False)
        self.n = nn.GroupNorm(8, 64)
        blocks, inputs = [], 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(512, 10)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return logits of images."""
        found: Tensor = self.fc(
            self.blocks(functional.relu(self.n(self.stem(x)))).mean((2, 3))
        )
        return found


def _train(training: _Training, seed: int) -> Reference:
    """Train two clients for some rounds; keep the last round of the first."""
    torch.manual_seed(seed)
    images, labels = _digits(training.side)
    model = training.make()
    _fit(model, images, labels, training.warmup, training.batch)
    shared = [_copy(model)]
    first: State = {}
    for _ in range(training.rounds):
        answers = []
        for client in range(2):
            model.load_state_dict(shared[-1])
            part = (images[client::2], labels[client::2])
            _fit(model, *part, training.epochs, training.batch)
            answers.append(_copy(model))
        first = answers[0]
        shared.append({k: (first[k] + answers[1][k]) / 2 for k in first})
    chosen = {n: tuple(p.shape) for n, p in model.named_parameters() if p.dim() > 1}
    spec = ModelSpec(
        tensors=tuple(TensorSpec(name=n, shape=s) for n, s in chosen.items()),
        moments=0,
        units=0,
    )
    base, weights = (_flat(s, chosen) for s in (shared[-2], first))
    return Reference(spec=spec, base=base, weights=weights)


def _digits(side: int) -> tuple[Tensor, Tensor]:
    found = load_digits()
    order = np.random.RandomState(0).permutation(len(found.target))[:_TRAINED]
    images = torch.tensor(found.images / 16.0, dtype=torch.float32)[order, None]
    size = (side, side)
    images = functional.interpolate(
        images, size=size, mode="bilinear", align_corners=False
    )
    return images, torch.tensor(found.target)[order]


def _fit(
    model: nn.Module, images: Tensor, labels: Tensor, epochs: int, batch: int
) -> None:
    """Train with a fresh optimiser; shrink the weights after every step."""
    optimiser = torch.optim.SGD(model.parameters(), lr=_LR, momentum=_MOMENTUM)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(labels)), batch):
            optimiser.zero_grad()
            functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
            optimiser.step()
            with torch.no_grad():
                for p in model.parameters():
                    if p.dim() > 1:
                        p.copy_(p.sign() * (p.abs() - _SHRINK).clamp(min=0))


def _copy(model: nn.Module) -> State:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _flat(state: State, chosen: dict[str, tuple[int, ...]]) -> Vector:
    flat: Vector = np.concatenate([state[name].numpy().ravel() for name in chosen])
    return flat


def _sparse(dense: Vector) -> SparseDelta:
    indices = np.flatnonzero(dense)
    values: Vector = dense[indices].astype(np.float32)
    return SparseDelta(size=len(dense), indices=indices, values=values)


def main(first: int, last: int) -> None:
    """Print the seeds whose LeNet-5 has an update as large as the published one."""
    torch.set_num_threads(1)
    for seed in range(first, last + 1):
        entries = len(lenet(seed).update().indices)
        if abs(entries - _ENTRIES) <= _NEAR * _ENTRIES:
            print(f"seed {seed}: {entries} entries", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m fedprune.simulations.benchmarks.kit.codec.sets"
    )
    parser.add_argument("first", type=int, nargs="?", default=0)
    parser.add_argument("last", type=int, nargs="?", default=399)
    main(**vars(parser.parse_args()))
