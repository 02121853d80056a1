"""Small networks and data of the row: MNIST at 14 x 14, characters of Shakespeare."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from typing_extensions import override

from fedprune.common.data.places import find_folder
from fedprune.common.tasks.task import Data, Task
from fedprune.simulations.benchmarks.kit.science.images import Arrays, first_images
from fedprune.simulations.experiments.language import TOKENS, encode, texts

IMAGES, TESTED = 3000, 3000  # the first of each split
ROLES, CHARACTERS = 10, 8000  # the roles that say most, and how much of each
LENGTH = 32  # characters of an example

_WIDTH, _HEADS, _BLOCKS = 32, 4, 2


class Plain(nn.Sequential):
    """Two convolutions and two linear layers as in LeNet, without batch norm."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 9, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )


class Normed(nn.Sequential):
    """Three convolutions with batch norm, then a mean over positions."""

    def __init__(self) -> None:
        super().__init__(
            *_convolved(1, 16),
            nn.MaxPool2d(2),
            *_convolved(16, 32),
            nn.MaxPool2d(2),
            *_convolved(32, 64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


class Block(nn.Module):
    """Causal attention and an MLP, each behind a norm and beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.head_width = _HEADS, _WIDTH // _HEADS
        self.norm1, self.norm2 = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.qkv, self.proj = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.up, self.down = nn.Linear(_WIDTH, 128), nn.Linear(128, _WIDTH)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return float32[n, positions, width]."""
        count, places, _ = x.shape
        qkv = self.qkv(self.norm1(x))
        qkv = qkv.view(count, places, 3, self.heads, self.head_width)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).flatten(2))
        found: Tensor = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return found


class Decoder(nn.Module):
    """Two blocks over characters."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(TOKENS, _WIDTH)
        self.place = nn.Embedding(LENGTH, _WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(_BLOCKS))
        self.norm = nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, TOKENS)

    @override
    def forward(self, ids: Tensor) -> Tensor:
        """Return the scores of each next character, float32[n, positions, tokens]."""
        x = self.token(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(self.norm(x))
        return scores


class Characters(Task):
    """Ten roles of Shakespeare, the next character of what they say."""

    @override
    def network(self) -> nn.Module:
        """Return the decoder."""
        return Decoder()

    @override
    def clients(self) -> Sequence[str]:
        """Return the roles that say most, in alphabetic order."""
        found = self._texts("train")
        often = sorted(found, key=lambda role: (-len(found[role]), role))
        return sorted(often[:ROLES])

    @override
    def train_data(self, client: str) -> Data:
        """Return the beginning of what a role says."""
        return _pieces([self._texts("train")[client][:CHARACTERS]])

    @override
    def test_data(self) -> Data:
        """Return the last lines of the roles."""
        found = self._texts("test")
        return _pieces([found[role][: CHARACTERS // 4] for role in self.clients()])

    @override
    def example(self) -> Tensor:
        """Return two inputs int64[2, LENGTH]."""
        return torch.arange(2 * LENGTH).reshape(2, LENGTH) % TOKENS

    def _texts(self, split: str) -> dict[str, str]:
        return texts(find_folder("shakespeare", self.config.task.data_dir), split)


def mnist() -> Arrays:
    """Return the first images of both splits, the mean of each 2 x 2 pixels, 0..1."""
    return first_images(IMAGES, TESTED, halved=True)


def _pieces(written: Sequence[str]) -> TensorDataset:
    ids = [encode(text) for text in written]
    rows = np.stack(
        [
            one[start : start + LENGTH + 1]
            for one in ids
            for start in range(0, len(one) - LENGTH, LENGTH)
        ]
    )
    found = torch.from_numpy(rows)
    return TensorDataset(found[:, :-1], found[:, 1:])


def _convolved(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return conv, nn.BatchNorm2d(outputs), nn.ReLU()
