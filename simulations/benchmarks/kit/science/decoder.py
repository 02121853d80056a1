"""The row ``decoder``: a pretrained language model, half of its blocks' FLOPs cut.

Next character of Shakespeare's roles, one client a role: 66 clients, ten a round.  The
decoder is pretrained on SST-2 and on the roles that are no clients
(``experiments.pretrain_language``), once, into ``build/``; every piece stores the
digest of the weights it started from.  Needs ``FEDPRUNE_DATA``.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from fedprune.common.errors import ConfigError
from fedprune.common.models.weights_file import METADATA_KEY
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.compared import by_seed, listed
from fedprune.simulations.benchmarks.kit.science.ended import ended
from fedprune.simulations.benchmarks.kit.science.intervals import interval
from fedprune.simulations.benchmarks.kit.science.losses import (
    losses,
    pack_losses,
    unpack_losses,
)
from fedprune.simulations.benchmarks.kit.science.rows import (
    Found,
    Piece,
    Row,
    figure,
    run_pieces,
)
from fedprune.simulations.experiments import FOLDER
from fedprune.simulations.experiments.pretrain_language import (
    STEPS,
    WEIGHTS,
    pretrain,
)

FILE = FOLDER / "language-model.toml"
BASICS: Mapping[str, object] = {"run.controls": ["dense", "scratch", "one-shot"]}
# Goals of pruned - other in nats a character.
_GOALS = {"one-shot": "<= -0.02", "scratch": "<= -0.1", "dense": "<= 0.05"}
_NETWORKS = ("before_cut", "final", *_GOALS)

Losses = Mapping[int, NDArray[np.float64]]  # seed -> loss of each test example


def pieces(seeds: Sequence[int]) -> list[Piece]:
    """Return one run with its controls for each seed."""
    text = FILE.read_text(encoding="utf-8")
    said = {**BASICS, "file": digest(text.encode()), "pretraining": STEPS}
    return run_pieces(seeds, said, _measure)


def figures(found: Found) -> list[Figure]:
    """Return test losses, and differences between methods with their intervals."""
    runs = by_seed(found, "run")
    if not runs:
        return []
    each = {name: _losses(runs, name) for name in _NETWORKS}
    shown = [_loss(name, values, runs) for name, values in each.items()]
    for other, goal in _GOALS.items():
        gaps = [one - each[other][seed] for seed, one in each["final"].items()]
        name = f"decoder: test loss, pruned - {other}"
        value = interval(gaps, same_examples=True)
        shown.append(figure(name, value, unit="nats", goal=goal))
    return [*shown, *(_bytes(way, runs) for way in ("up", "down"))]


def _bytes(way: str, runs: Mapping[int, Raw]) -> Figure:
    """Return the bytes that the pruned run sent one way, mean of the seeds."""
    each = [raw[f"bytes_{way}"] / 1e6 for raw in runs.values()]
    return Figure(
        name=f"decoder: bytes {way}, pruned",
        value=sum(each) / len(each),
        unit="MB",
        detail=f"n = {len(each)}: " + ", ".join(f"{one:.1f}" for one in each),
    )


def digest(data: bytes) -> str:
    """Return a short sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def _measure(seed: int) -> Raw:
    weights = _weights()
    with ended({**BASICS, "task.weights": str(weights)}, seed, FILE) as run:
        kept = ("rounds", "rollbacks", "budget_met", "bytes_up", "bytes_down")
        sizes = ("params_dense", "params_final", "flops_dense", "flops_final")
        raw = run.figures(*kept, *sizes)
        raw["weights"] = digest(weights.read_bytes())
        for name in _NETWORKS:
            raw[name] = pack_losses(losses(run.network(name), run.task))
    return raw


def _weights() -> Path:
    """Return the file of the pretrained weights, trained where it is missing.

    Raises:
        ConfigError: If it was trained with another number of steps.
    """
    if not WEIGHTS.is_file():
        pretrain(WEIGHTS)
    with safe_open(WEIGHTS, framework="pt") as file:
        said = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    if said.get("steps") != str(STEPS):
        msg = f"{WEIGHTS} was trained for {said.get('steps')} steps; want {STEPS}: "
        msg += "delete it, and it is trained anew"
        raise ConfigError(msg)
    return WEIGHTS.resolve()


def _losses(runs: Mapping[int, Raw], name: str) -> Losses:
    return {seed: unpack_losses(raw, name) for seed, raw in runs.items()}


def _loss(name: str, values: Losses, runs: Mapping[int, Raw]) -> Figure:
    """Return the mean test loss of a network; every example has as many characters."""
    means = [float(one.mean()) for one in values.values()]
    title = {"final": "pruned", "before_cut": "before the first cut"}.get(name, name)
    text = f"n = {len(means)}: {listed(means, 4)}"
    if name == "final":
        shares = [raw["flops_final"] / raw["flops_dense"] for raw in runs.values()]
        starts = len({str(raw["weights"]) for raw in runs.values()})
        text += f"; {listed(shares, 3)} of the FLOPs; {starts} pretrained network(s)"
    return Figure(
        name=f"decoder: test loss, {title}",
        value=float(np.mean(means)),
        unit="nats",
        detail=text,
    )


ROW = Row(
    name="decoder",
    budget="about 1 h of one core for three seeds",
    pieces=pieces,
    figures=figures,
)
