"""Central training of the decoder of ``language.py``, before its federation.

``FEDPRUNE_DATA=FOLDER python -m fedprune.simulations.experiments.pretrain_language
[FILE] [--steps N]``.  Half of each batch is from SST-2's training sentences, half from
the roles that are no clients.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn import functional

from fedprune.common.data.places import find_folder
from fedprune.common.models.weights_file import save_weights
from fedprune.common.seeding import Use, generator
from fedprune.simulations.experiments.language import (
    TOKENS,
    Decoder,
    central_roles,
    examples,
    texts,
)

WEIGHTS = Path("build") / "language-model.safetensors"
STEPS = 600

_HALF = 32  # examples of each of the two sources in a batch
_RATE = 1e-3
_WARMUP = 50  # steps
_SAID = 100  # steps between two lines


def pretrain(path: Path, steps: int = STEPS) -> float:
    """Train the decoder and write its weights; return the mean loss of the end.

    Args:
        path: The safetensors file.
        steps: Number of batches, >= 1.
    """
    sources = _sources()
    torch.manual_seed(0)
    model = Decoder().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE)
    rng = generator(0, 0, "pretrain", Use.SHUFFLE)
    recent: list[float] = []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, steps)
        chosen = [one[rng.integers(0, len(one), _HALF)] for one in sources]
        rows = torch.cat(chosen)
        scores = model(rows[:, :-1])
        loss = functional.cross_entropy(
            scores.reshape(-1, TOKENS), rows[:, 1:].reshape(-1)
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        recent = [*recent, float(loss.detach())][-_SAID:]
        if step % _SAID == _SAID - 1:
            print(f"step {step + 1}: loss {np.mean(recent):.4f}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, model, {"steps": str(steps)})
    return float(np.mean(recent))


def _sources() -> tuple[Tensor, Tensor]:
    """Return the examples of both sources, int64[n, LENGTH + 1] each."""
    table = pq.read_table(find_folder("sst2", "") / "train.parquet")
    sentences = "\n".join(table.column("sentence").to_pylist())
    folder = find_folder("shakespeare", "")
    said = texts(folder, "train")
    roles = [said[role] for role in sorted(central_roles(folder))]
    both = (examples([sentences]), examples(roles))
    rows = [torch.cat([x[:, :1], y], dim=1) for x, y in (one.tensors for one in both)]
    return rows[0], rows[1]


def _rate(step: int, steps: int) -> float:
    """Return the learning rate of a step: a linear rise, then a cosine to 0."""
    rise = min(1.0, (step + 1) / _WARMUP)
    return _RATE * rise * 0.5 * (1.0 + float(np.cos(np.pi * step / steps)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and write the file."""
    parser = argparse.ArgumentParser(prog="pretrain_language")
    parser.add_argument("file", type=Path, nargs="?", default=WEIGHTS)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args(arguments)
    loss = pretrain(given.file, given.steps)
    print(f"wrote {given.file}: loss {loss:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
