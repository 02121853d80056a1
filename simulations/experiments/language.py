"""Next character of Shakespeare's roles, one client a role: a small decoder.

Used by ``language-model.toml``; needs ``FEDPRUNE_DATA``.  Every third role belongs to
the central data of ``pretrain_language.py``; the other 66 are the clients.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from typing_extensions import override

from fedprune.common.data.places import find_folder
from fedprune.common.tasks.task import Data, Task

LENGTH = 64  # characters of an example
BLOCKS, WIDTH, HEADS = 4, 128, 8

_FIRST = ord(" ")
TOKENS = ord("~") - _FIRST + 3  # printable ASCII, the end of a line, anything else
_CENTRAL = 3  # every third role, in alphabetic order, is no client


class Block(nn.Module):
    """Causal attention and an MLP, each behind a norm and beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.head_width = HEADS, WIDTH // HEADS
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

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
    """Embeddings, four blocks and an output tied to the embedding; 0.8 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(TOKENS, WIDTH)
        self.place = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, TOKENS, bias=False)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.place.weight, std=0.02)
        self.head.weight = self.token.weight

    @override
    def forward(self, ids: Tensor) -> Tensor:
        """Return the scores of each next character, float32[n, positions, tokens]."""
        x = self.token(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(self.norm(x))
        return scores


class LanguageModel(Task):
    """The 66 roles that are no central data, under their own names."""

    @override
    def network(self) -> nn.Module:
        """Return the decoder; ``task.weights`` are those of the central training."""
        return Decoder()

    @override
    def clients(self) -> Sequence[str]:
        """Return the names of the roles."""
        central = central_roles(self._folder)
        return [role for role in texts(self._folder, "train") if role not in central]

    @override
    def train_data(self, client: str) -> Data:
        """Return what a role says, in pieces of ``LENGTH`` characters."""
        return examples([texts(self._folder, "train")[client]])

    @override
    def test_data(self) -> Data:
        """Return the last lines of the roles that are clients."""
        found = texts(self._folder, "test")
        return examples([found[role] for role in self.clients()])

    @override
    def example(self) -> Tensor:
        """Return two inputs int64[2, LENGTH]."""
        return torch.arange(2 * LENGTH).reshape(2, LENGTH) % TOKENS

    @property
    def _folder(self) -> Path:
        return find_folder("shakespeare", self.config.task.data_dir)


@lru_cache(maxsize=2)
def texts(folder: Path, split: str) -> dict[str, str]:
    """Return the text of each role in alphabetic order."""
    table = pq.read_table(folder / f"{split}.parquet", columns=["role", "text"])
    return dict(sorted((row["role"], row["text"]) for row in table.to_pylist()))


def central_roles(folder: Path) -> frozenset[str]:
    """Return the roles that the central training reads."""
    return frozenset(list(texts(folder, "train"))[::_CENTRAL])


def examples(written: Sequence[str]) -> TensorDataset:
    """Return inputs and next characters, int64[n, LENGTH] each.

    A text is cut into pieces that share one character; its last piece is left out
    where it is shorter.
    """
    pieces = [piece for text in written for piece in _pieces(text)]
    rows = torch.from_numpy(np.stack(pieces))
    return TensorDataset(rows[:, :-1], rows[:, 1:])


def _pieces(text: str) -> list[NDArray[np.int64]]:
    ids = encode(text)
    starts = range(0, len(ids) - LENGTH, LENGTH)
    return [ids[start : start + LENGTH + 1] for start in starts]


def encode(text: str) -> NDArray[np.int64]:
    """Return the token of each character, int64[n]; unknown ones share the last."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)
    ids = np.where((points >= _FIRST) & (points <= ord("~")), points - _FIRST, -1)
    ids[points == ord("\n")] = TOKENS - 2
    ids[ids < 0] = TOKENS - 1
    return ids
