"""The row ``lenet``: ways to a small LeNet-5, and what the verdict makes of them.

MNIST, 10 000 images on 20 clients, Dirichlet 0.5; 5 % and 1.5 % of the parameters stay.
*keep* is a run that keeps its weights after the last cut, *fresh* one that draws them
anew; beside *keep* run the controls of its final size, each with as many rounds and
with as many bytes.  The mode that is picked follows the clients' validation parts
alone, by the rule of the verdict.  Needs ``FEDPRUNE_DATA``.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from fedprune.server.rounds.records import Measured, Validations, validations_from
from fedprune.server.runs.controls.verdict import (
    Comparison,
    closing_metrics,
    compare,
    picked,
)
from fedprune.server.runs.events import MAIN, RunName
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science import images
from fedprune.simulations.benchmarks.kit.science.compared import (
    Right,
    accuracy,
    by_seed,
    gap,
    right_of,
)
from fedprune.simulations.benchmarks.kit.science.correct import correct
from fedprune.simulations.benchmarks.kit.science.ended import Ended, ended
from fedprune.simulations.benchmarks.kit.science.intervals import pack
from fedprune.simulations.benchmarks.kit.science.rows import (
    Found,
    Piece,
    Row,
    figure,
)

SHARES = (5, 1.5)  # percent of the parameters
BASICS: Mapping[str, object] = {
    "task.model": "lenet5",
    "task.data": f"{images.__name__}:mnist",
    "task.partition": {"kind": "dirichlet", "alpha": 0.5},
    "task.clients": 20,
    "rounds.warmup": 8,
    "rounds.sparsify": 1,
    "rounds.finetune": 2,
    "rounds.cuts": 4,
    "rounds.final": 20,
    "rounds.cohort": 10,
    "client.epochs": 1,
    "client.penalty": "group",
    "prune.schedule": "geometric",
    "prune.step_cap": 0.6,
    "prune.width_multiple": 1,
}
MODES = ("keep", "fresh", "scratch", "uniform", "one-shot")
_CONTROLS = ("scratch", "uniform", "one-shot")
_BYTES = "@bytes"
_MOST = 0.3  # points that the mode which is picked may lose against the best


def pieces(seeds: Sequence[int]) -> list[Piece]:
    """Return two runs for each share and seed: with all controls, and *fresh*."""
    return [
        Piece(
            name=f"{mode}-{share:g}-{seed}",
            settings={**_settings(mode, share), "seed": seed},
            work=partial(_measure, mode, share, seed),
        )
        for seed in seeds
        for share in SHARES
        for mode in ("keep", "fresh")
    ]


def figures(found: Found) -> list[Figure]:
    """Return the accuracies of all modes, and what the pick loses against the best."""
    return [one for share in SHARES for one in _of_share(share, found)]


def _settings(mode: str, share: float) -> dict[str, object]:
    controls = [name for kind in _CONTROLS for name in (kind, kind + _BYTES)]
    return {
        **BASICS,
        "prune.budget": {"params": share / 100},
        "prune.restart": mode,
        "run.controls": controls if mode == "keep" else [],
    }


def _measure(mode: str, share: float, seed: int) -> Raw:
    with ended(_settings(mode, share), seed) as run:
        own = {mode: _network(run, "final", MAIN, run.summary)}
        controls = run.summary["controls"]
        others = {n: _network(run, n, n, controls[n]) for n in controls}
        kept = ("rollbacks", "params_dense", "params_final", "budget_met")
        return run.figures(*kept) | {"modes": own | others}


def _network(run: Ended, file: str, name: RunName, costs: Mapping[str, object]) -> Raw:
    """Return right test examples, validation of the closing round, and the costs."""
    raw: Raw = {key: costs[key] for key in ("rounds", "bytes_up", "bytes_down")}
    raw["params"] = costs.get("params", run.summary["params_final"])
    raw |= {key: costs.get(key, False) for key in ("capped", "over")}
    raw["validation"] = _stored(closing_metrics(run.events, name))
    return raw | {"correct": pack(correct(run.network(file), run.task))}


def _of_share(share: float, found: Found) -> list[Figure]:
    modes = _modes(share, found)
    head = f"lenet, {share:g} % of the parameters"
    right = {name: right_of(raws) for name, raws in modes.items()}
    shown = [
        one
        for name, raws in modes.items()
        for one in accuracy(
            f"{head}: test accuracy, {name}", right[name], detail=_costs(name, modes)
        )
    ]
    for name in modes:
        value = gap(right.get("keep", {}), right[name]) if name != "keep" else None
        if value is not None:
            title = f"{head}: accuracy, keep - {name}"
            shown.append(figure(title, value, unit="points"))
    return [*shown, *_picked(head, modes)]


def _modes(share: float, found: Found) -> dict[str, dict[int, Raw]]:
    """Return what was measured of each mode, by seed; *keep* first."""
    modes: dict[str, dict[int, Raw]] = {}
    for start in ("keep", "fresh"):
        for seed, raw in by_seed(found, f"{start}-{share:g}").items():
            for name, one in raw["modes"].items():
                modes.setdefault(name, {})[seed] = one
    return modes


def _costs(name: str, modes: Mapping[str, Mapping[int, Raw]]) -> str:
    """Return rounds, size and bytes over those of *keep* on the same seeds."""
    raws = modes[name]
    rounds = ", ".join(str(raw["rounds"]) for raw in raws.values())
    sizes = ", ".join(str(raw["params"]) for raw in raws.values())
    text = f"{rounds} rounds, {sizes} parameters"
    keep = modes.get("keep", {})
    both = [(_bytes(raws[seed]), _bytes(keep[seed])) for seed in raws if seed in keep]
    if both and name != "keep":
        ratio = float(np.mean([mine / theirs for mine, theirs in both]))
        text += f", {ratio:.2f} of the bytes of keep"
    for key, words in (("capped", "by the cap"), ("over", "above the bytes")):
        count = sum(bool(raw[key]) for raw in raws.values())
        text += f", {count} {words}" if count else ""
    return text


def _bytes(raw: Raw) -> int:
    return int(raw["bytes_up"]) + int(raw["bytes_down"])


def _picked(head: str, modes: Mapping[str, Mapping[int, Raw]]) -> list[Figure]:
    """Return what the picks lose on test data; none without a seed of all modes."""
    whole = {name: modes.get(name, {}) for name in MODES}
    seeds = sorted(set.intersection(*({*raws} for raws in whole.values())))
    if not seeds:
        return []
    each = {n: right_of({s: raws[s] for s in seeds}) for n, raws in whole.items()}
    best = max(MODES, key=lambda name: _mean(each[name]))
    picks = {s: pick_of({n: whole[n][s]["validation"] for n in MODES}) for s in seeds}
    value = gap(each[best], {seed: each[name][seed] for seed, name in picks.items()})
    if value is None:
        return []
    name = f"{head}: points that the pick loses against the best mode"
    note = f"best on test data: {best}; picked: {', '.join(picks.values())}"
    return [figure(name, value, unit="points", goal=f"<= {_MOST}", note=note)]


def pick_of(validation: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the mode that the verdict picks.

    Args:
        validation: Mode -> client -> its metric and examples in the closing round.

    >>> data = {f"c{n}": (0.9, 50) for n in range(5)}
    >>> better = {f"c{n}": (0.95, 50) for n in range(5)}
    >>> pick_of({"keep": data, "fresh": better, "scratch": data})
    'fresh'
    """
    pairs = [_pair(name, validation) for name in validation if name != "keep"]
    return picked([one for one in pairs if one is not None]) or "keep"


def _pair(
    name: str, validation: Mapping[str, Mapping[str, Sequence[float]]]
) -> Comparison | None:
    ours, theirs = (_read(validation[mode]) for mode in ("keep", name))
    return compare(name, ours, theirs, higher_is_better=True)


def _stored(found: Validations) -> Raw:
    """Return metric and examples of each client."""
    rows = zip(found.clients, found.metrics, found.counts, strict=True)
    return {client: [float(metric), int(count)] for client, metric, count in rows}


def _read(stored: Mapping[str, Sequence[float]]) -> Validations:
    return validations_from(
        Measured(client=client, loss=0.0, metric=metric, count=int(count))
        for client, (metric, count) in stored.items()
    )


def _mean(right: Right) -> float:
    return float(np.mean([one.mean() for one in right.values()]))


ROW = Row(
    name="lenet",
    budget="about 2.5 h of one core for three seeds",
    pieces=pieces,
    figures=figures,
)
