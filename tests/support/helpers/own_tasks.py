"""Tasks of one's own that train in milliseconds: texts, mixed inputs, clients."""

import numpy as np
import torch
from torch import nn

from fedprune import Task

WORDS, LENGTH, WIDTH, CLASSES = 18, 6, 16, 3


class Texts(nn.Module):
    """An embedding bag with a mask, and a hidden layer."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH)
        self.hidden = nn.Linear(WIDTH, 24)
        self.out = nn.Linear(24, CLASSES)

    def forward(self, ids, mask):
        weights = mask[..., None].float()
        x = (self.table(ids) * weights).sum(1) / weights.sum(1).clamp(min=1.0)
        return {"logits": self.out(torch.relu(self.hidden(x)))}


class Mixed(nn.Module):
    """A category and values beside it, as two arguments."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH)
        self.values = nn.Linear(4, WIDTH)
        self.hidden = nn.Linear(WIDTH, 24)
        self.out = nn.Linear(24, CLASSES)

    def forward(self, category, values):
        x = torch.relu(self.table(category) + self.values(values))
        return self.out(torch.relu(self.hidden(x)))


class Next(nn.Module):
    """A transformer of one block that gives the next token at every position."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.mix = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.up, self.down = nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)
        self.out = nn.Linear(WIDTH, WORDS)

    def forward(self, tokens):
        x = self.norm(self.table(tokens))
        x = x + self.mix(x, x, x, need_weights=False)[0]
        return self.out(x + self.down(torch.relu(self.up(x))))


def words(count, seed=0):
    """Return texts int64[count, LENGTH] whose words tell their class, and it."""
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % CLASSES
    ids = rng.integers(0, WORDS // CLASSES, size=(count, LENGTH)) * CLASSES
    return ids + classes[:, None], classes


class OfTexts(Task):
    """Texts as dicts of integers; four natural clients of different sizes."""

    names = ("ann", "bob", "cid", "dan")

    def network(self):
        return Texts()

    def clients(self):
        return self.names

    def train_data(self, client):
        number = self.names.index(client)
        return self.rows(24 + 6 * number, seed=number)

    def test_data(self):
        return self.rows(30, seed=99)

    def rows(self, count, seed):
        ids, classes = words(count, seed)
        return [
            {"ids": torch.tensor(row), "mask": torch.tensor(row != 0), "label": label}
            for row, label in zip(ids, classes.tolist(), strict=True)
        ]


class OfMixed(Task):
    """Pairs of an integer and values; dealt out to the clients."""

    def network(self):
        return Mixed()

    def train_data(self, client):
        assert client == ""
        return self.rows(120, 0)

    def test_data(self):
        return self.rows(30, 1)

    def rows(self, count, seed):
        ids, classes = words(count, seed)
        values = np.random.default_rng(seed).normal(size=(count, 4))
        values = torch.from_numpy(values).float()
        return [
            ((torch.tensor(row[0]), one), label)
            for row, one, label in zip(ids, values, classes.tolist(), strict=True)
        ]


class OfNext(Task):
    """Numbers that are counted up, whose targets are those that follow."""

    def network(self):
        return Next()

    def train_data(self, client):
        assert client == ""
        rows = torch.arange(WORDS).repeat(2).unfold(0, LENGTH + 1, 1).repeat(4, 1)
        return [(row[:-1], row[1:]) for row in rows]

    def test_data(self):
        return self.train_data("")[:30]
