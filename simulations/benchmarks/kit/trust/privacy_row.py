"""The row ``privacy``: accuracy and bytes under noise, and what one update tells.

A hundred clients hold 20 images each, of equal parts.  Noise is planned for epsilon 8
at delta 1e-5; the key of each piece is its own.  Beside it stands the same federation
without noise, and with the same bounds (equal weights, clip) by a huge epsilon.

What one update tells: the correlation of a client's label counts with the sums of its
delta over the rows of the last layer, one row a class (10 clients, Dirichlet 0.5),
without noise and with that of ``privacy.preset = "strict"``.

What the final network tells: how well a threshold on the loss parts the examples that
it was trained on from those of the test (Yeom et al. 2018, arXiv:1709.01604).
"""

import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import nan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedprune.common import codec
from fedprune.common.codec import SideInformation
from fedprune.common.messages import ClientUpdate
from fedprune.common.spec import ModelSpec
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw, over_seeds, spread_text
from fedprune.simulations.benchmarks.kit.science.ended import Ended, ended
from fedprune.simulations.benchmarks.kit.science.losses import losses
from fedprune.simulations.benchmarks.kit.science.rows import Found, Piece, Row, figure
from fedprune.simulations.benchmarks.kit.trust.cases import Case

_MANY: Mapping[str, object] = {
    "task.clients": 100,
    "rounds.cohort": 100,
    "rounds.minimum": 50,
    "rounds.warmup": 16,
    "rounds.final": 8,
    "client.epochs": 4,
    "client.batch": 8,
    "update.choice": "shared",
    "update.update_density": 0.5,
}
_SIDES: Mapping[str, Mapping[str, object]] = {
    "open": {},
    "bounded": {"privacy.epsilon": 1e6, "privacy.clip": 1.0},
    "private": {"privacy.epsilon": 8.0, "privacy.clip": 1.0},
}
_ALL_SIDES: Mapping[str, str] = {  # piece -> what it is in the table
    "open": "100 clients, no noise",
    "private": "100 clients, epsilon 8",
    "leak": "10 clients, no noise",
    "strict": '10 clients, privacy.preset = "strict"',
}
_KEPT = ("accuracy_final", "bytes_up", "bytes_down", "model_bytes_final", "privacy")
_WATCHED = 5  # round whose updates are looked at
_GOAL_LEAK = "<= 0.2"


def row() -> Row:
    """Return the row."""
    return Row(name="privacy", budget="1 CPU hour", pieces=_pieces, figures=_figures)


def _settings(side: str) -> dict[str, object]:
    return Case(network="norm", split="iid").settings | dict(_MANY) | dict(_SIDES[side])


# Piece -> its settings, and what they are in the table.
_WATCHED_SIDES: Mapping[str, tuple[Mapping[str, object], str]] = {
    "leak": ({}, "no noise"),
    "strict": ({"privacy.preset": "strict"}, 'privacy.preset = "strict"'),
}


def _watched(side: str) -> dict[str, object]:
    settings = Case(network="norm", split="dirichlet").settings
    return settings | dict(_WATCHED_SIDES[side][0])


def _pieces(seeds: Sequence[int]) -> list[Piece]:
    noise = [
        Piece(
            name=f"{side}-{seed}",
            settings=_settings(side) | {"seed": seed},
            work=partial(_noised, side, seed),
        )
        for seed in seeds
        for side in _SIDES
    ]
    told = [
        Piece(
            name=f"{side}-{seed}",
            settings=_watched(side) | {"seed": seed, "round": _WATCHED},
            work=partial(_leak, side, seed),
        )
        for seed in seeds
        for side in _WATCHED_SIDES
    ]
    return [*noise, *told]


def _noised(side: str, seed: int) -> Raw:
    with _with_key(_settings(side)) as settings, ended(settings, seed) as run:
        return run.figures(*_KEPT) | {"membership": _membership(run)}


@contextmanager
def _with_key(settings: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """Yield settings with a key of their own, where they have noise."""
    if not any(key.startswith("privacy.") for key in settings):
        yield dict(settings)
        return
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        key = Path(folder) / "noise.key"
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32), encoding="ascii")
        yield {**settings, "privacy.key": str(key)}


Sums = NDArray[np.float64]  # of a delta, over the last layer's row of each class


@contextmanager
def _watching(seen: dict[str, Sums]) -> Iterator[None]:
    """Keep the sums of the deltas that are encoded in the watched round."""
    encode = codec.encode_update

    def keeping(update: ClientUpdate, side_info: SideInformation) -> bytes:
        if update.round == _WATCHED:
            spec = side_info.layout.spec
            sent = codec.dequantise_delta(update.delta, spec)
            dense = np.zeros(spec.size)
            dense[sent.indices] = sent.values
            seen[update.client_id] = _sums(dense, spec)
        return encode(update, side_info)

    codec.encode_update = keeping
    try:
        yield
    finally:
        codec.encode_update = encode


def _sums(dense: NDArray[np.float64], spec: ModelSpec) -> Sums:
    """Return the sum over each row of the last layer, its weights and its bias."""
    weight, bias = spec.tensors[-2:]
    outputs = bias.size
    rows = dense[-(weight.size + outputs) : -outputs].reshape(outputs, -1)
    found: Sums = rows.sum(axis=1) + dense[-outputs:]
    return found


def _leak(side: str, seed: int) -> Raw:
    seen: dict[str, Sums] = {}
    with (
        _with_key(_watched(side)) as settings,
        _watching(seen),
        ended(settings, seed) as run,
    ):
        kept = run.figures("accuracy_final") | {"membership": _membership(run)}
        task = run.task
        counts = {
            client: np.bincount(
                np.asarray(task.client_data(client).train.targets),
                minlength=task.num_outputs,
            )
            for client in sorted(seen)
        }
    single = [_correlation(seen[client], counts[client]) for client in counts]
    mean = np.mean([seen[client] for client in counts], axis=0)
    of_sum = [_correlation(mean, counts[client]) for client in counts]
    return {
        "single": float(np.mean(single)),
        "of_sum": float(np.mean(of_sum)),
        **kept,
    }


def _membership(run: Ended) -> float:
    """Return the area under the curve of the attack by the loss; 0.5 = it is blind."""
    model, task = run.network(), run.task
    parts = [task.client_data(client).train for client in task.clients]
    members = [losses(model, task, part) for part in parts if len(part)]
    return smaller(np.concatenate(members), losses(model, task))


def smaller(ones: NDArray[np.floating], others: NDArray[np.floating]) -> float:
    """Return the share of pairs whose first value is smaller; half of it for ties.

    >>> smaller(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.875
    """
    ordered = np.sort(others)
    above = len(ordered) - np.searchsorted(ordered, ones, side="right")
    least = len(ordered) - np.searchsorted(ordered, ones, side="left")
    return float((above + least).mean() / (2 * len(ordered)))


def _correlation(change: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    if not np.ptp(change) or not np.ptp(counts):
        return 0.0
    return float(np.corrcoef(change, counts)[0, 1])


def _figures(found: Found) -> list[Figure]:
    shown: list[Figure] = []
    accuracy = {
        side: {
            name.rpartition("-")[2]: 100 * float(raw["accuracy_final"])
            for name, raw in found.items()
            if name.startswith(f"{side}-")
        }
        for side in _SIDES
    }
    for side in ("bounded", "private"):
        seeds = sorted(accuracy[side].keys() & accuracy["open"].keys())
        lost = [accuracy["open"][seed] - accuracy[side][seed] for seed in seeds]
        if lost:
            reached = ", ".join(f"{accuracy[side][seed]:.2f}" for seed in seeds)
            what = "epsilon 8" if side == "private" else "the same bounds without noise"
            shown.append(
                figure(
                    f"privacy: accuracy lost by {what}, 100 clients",
                    over_seeds(lost),
                    unit="points",
                    note=f"{spread_text(lost)}; reached {reached} %",
                )
            )
    for side in _WATCHED_SIDES:
        shown += _told(side, found)
    for side, words in _ALL_SIDES.items():
        areas = [
            float(raw["membership"])
            for name, raw in found.items()
            if name.rpartition("-")[0] == side and "membership" in raw
        ]
        if areas:
            name = f"privacy: membership inference by the loss, AUC, {words}"
            shown.append(figure(name, over_seeds(areas), note=spread_text(areas)))
    return shown


def _told(side: str, found: Found) -> list[Figure]:
    """Return what updates tell without noise, or under the preset."""
    raws = [raw for name, raw in found.items() if name.rpartition("-")[0] == side]
    if not raws:
        return []
    words = _WATCHED_SIDES[side][1]
    accuracies = [100 * float(raw.get("accuracy_final", nan)) for raw in raws]
    reached = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
    return [
        figure(
            f"privacy: correlation of label counts with {what}, {words}",
            over_seeds([float(raw[key]) for raw in raws]),
            goal=_GOAL_LEAK,
            note=f"{spread_text([float(raw[key]) for raw in raws])}; "
            f"accuracy {reached} %",
        )
        for key, what in (("single", "one update"), ("of_sum", "the mean of ten"))
    ]
