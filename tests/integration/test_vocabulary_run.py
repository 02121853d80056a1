"""A run whose embedding loses the rows of tokens that no client has."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import fedprune

TOKENS, USED, LENGTH = 48, 16, 6


class Words(nn.Module):
    """The sum of the words' vectors; tokens come as floats."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(TOKENS, 12)
        self.one, self.out = nn.Linear(12, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.one(self.words(x.long()).sum(1)).relu())


def data():
    """Sentences of the first tokens; the class says which half of them is in most."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, USED, (400, LENGTH))
    y = ((x < USED // 2).mean(1) > 0.5).astype(np.int64)
    inputs = x.astype(np.float32)
    return inputs[:320], y[:320], inputs[320:], y[320:]


@pytest.mark.slow
def test_the_rows_that_no_client_uses_go_first(tmp_path):
    settings = {
        "task.clients": 4,
        "task.vocabulary": ["words"],
        "rounds.cohort": 4,
        "rounds.minimum": 2,
        "rounds.warmup": 2,
        "rounds.cuts": 1,
        "rounds.final": 1,
        "client.epochs": 1,
        "prune.budget.params": 0.5,
        "prune.floor": 1,
        "prune.step_cap": 1.0,
        "prune.width_multiple": 1,
        "run.engine": "inprocess",
        "run.controls": [],
        "run.dir": str(tmp_path),
    }
    result = fedprune.simulate(Words, data(), settings)
    network = fedprune.load_model(
        result.directory / "model" / "final.safetensors", factory=Words
    )
    rows = network.words.kept
    assert rows.shape == (TOKENS,)
    used, unused = rows[:USED] >= 0, rows[USED:] >= 0
    assert used.all()
    assert int(unused.sum()) <= 8
    tokens = torch.full((1, LENGTH), float(TOKENS - 1))
    assert network(tokens).isfinite().all()
    assert json.loads((result.directory / "plan.json").read_text())["groups"]
