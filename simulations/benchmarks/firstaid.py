"""Robustness of whole runs: accuracy, votes, pretrained weights, hostile clients.

``python -m fedprune.simulations.benchmarks.firstaid [--rows ROW ...] [--seeds N]
[--work DIR]``,
with ``--json FILE`` and ``--check`` of every benchmark.  The rows are digits, votes,
pretrained and attacks, all by default.  Raw results stay in DIR and are not measured
again: a stopped benchmark continues where it was; an empty DIR starts it over.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from fedprune.common.config import load_config
from fedprune.server.runs.events import (
    RoundFinished,
    WarningGiven,
    of_kind,
    of_run,
    read_events,
)
from fedprune.simulations.benchmarks.kit import resnet20
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.poisoning import ATTACKS, measure_attack
from fedprune.simulations.benchmarks.kit.rows import (
    Raw,
    RowStore,
    interval,
    origin,
    over_seeds,
    spread_text,
)
from fedprune.simulations.benchmarks.kit.runs import describe, summaries
from fedprune.simulations.benchmarks.kit.votes import measure_votes
from fedprune.simulations.runs.run import run

SEEDS = 5  # folds of the digits: each image is tested once
WORK = Path("build") / "firstaid"
PRETRAINED = {
    "task.model": resnet20.MODEL,
    "task.data": resnet20.DATA,
    "prune.budget.flops": 0.5,
    "prune.importance": "fisher",
    "update.update_density": 0.05,
    "client.lr": 0.01,
    "rounds.warmup": 2,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 3,
    "rounds.final": 4,
    "run.engine": "inprocess",
}
_ONE = "n = 1; ResNet-20, 10 000 images of CIFAR-10 (JPEG), FLOPs to a half"


def digits(store: RowStore, seeds: range) -> list[Figure]:
    """Return the accuracy lost against dense FedAvg on every fold."""
    found = [store.get(f"digits-{s}", lambda s=s: _digits(s)) for s in seeds]  # type: ignore[misc]
    gaps = [100 * (r["accuracy_final"] - r["accuracy_control"]) for r in found]
    gap = over_seeds(gaps)
    return [
        Figure(
            name="digits: final - control",
            value=gap.mean,
            low=gap.low,
            high=gap.high,
            unit="points",
            goal=">= -0.5",
            reference="dense FedAvg of the same run",
            detail=spread_text(gaps) + origin(found),
        )
    ]


def votes(store: RowStore, seeds: range) -> list[Figure]:
    """Return the rank correlation of the first cut's votes with the loss rises."""
    del seeds
    found = store.get("votes", _votes)
    groups = found["groups"].values()
    return [
        Figure(
            name="votes: rank correlation with the rise of the loss",
            value=found["all"],
            goal=">= 0.80",
            reference="0.847 at a29d834",
            detail=f"Spearman, n = 1 run (seed 0), {found['units']} units, "
            f"{found['distinct']} values; truth on the training part, moments "
            f"refitted{origin([found])}",
        ),
        Figure(
            name="votes: rank correlation within pruning groups, mean",
            value=sum(groups) / len(groups),
            detail=f"{len(groups)} groups, {min(groups):.2f} to {max(groups):.2f}",
        ),
        Figure(
            name="votes: rank correlation, truth with the moments of the file",
            value=found["as_broadcast"],
            goal=">= 0.80",
            reference="0.732 at a29d834",
            detail="model/before_cut.safetensors unchanged: as clients scored it",
        ),
    ]


def pretrained(store: RowStore, seeds: range) -> list[Figure]:
    """Return the figures of a pretrained network, or that its weights are missing."""
    del seeds
    if resnet20.weights_file() is None:
        why = f"not run: FEDPRUNE_DATA has no {resnet20.WEIGHTS}"
        return [Figure(name="pretrained: runs", value=0, detail=why)]
    found = store.get("pretrained", _pretrained)
    parts = (
        ("rollbacks", "rollbacks", 1, "", "== 0"),
        ("warnings", "warnings", 1, "", "== 0"),
        ("rounds", "rounds", 1, "", "== 13"),
        ("accuracy before the first cut", "accuracy_before_cut", 100, "%", ""),
        ("final accuracy", "accuracy_final", 100, "%", ""),
        ("dense control's accuracy", "accuracy_control", 100, "%", ""),
        ("channels kept", "channel_density", 100, "%", ""),
    )
    text = f"{_ONE}{origin([found])}"
    return [
        Figure(
            name=f"pretrained: {name}",
            value=factor * found[key],
            unit=unit,
            goal=goal,
            detail="; ".join([text, *found["texts"]]) if key == "warnings" else text,
        )
        for name, key, factor, unit, goal in parts
    ]


def attacks(store: RowStore, seeds: range) -> list[Figure]:
    """Return the accuracy lost to one hostile client of ten, for each attack."""
    honest = [_attacked(store, "", seed) for seed in seeds]
    accuracies = [100 * r["accuracy_final"] for r in honest]
    figures = [
        Figure(
            name="attacks: accuracy with honest clients only",
            value=interval(accuracies)[0],
            unit="%",
            detail=spread_text(accuracies) + origin(honest),
        )
    ]
    for attack in ATTACKS:
        found = [_attacked(store, attack, seed) for seed in seeds]
        lost = [
            fair - 100 * r["accuracy_final"]
            for fair, r in zip(accuracies, found, strict=True)
        ]
        over = over_seeds(lost)
        figures.append(
            Figure(
                name=f"attacks: {attack}, accuracy lost",
                value=over.mean,
                low=over.low,
                high=over.high,
                unit="points",
                goal="<= 2",
                reference="the same run with honest clients only",
                detail=f"{spread_text(lost)}; {_ends(found)}{origin(found)}",
            )
        )
    return figures


ROWS: dict[str, Callable[[RowStore, range], list[Figure]]] = {
    "digits": digits,
    "votes": votes,
    "pretrained": pretrained,
    "attacks": attacks,
}


def _digits(seed: int) -> Raw:
    # One process: the same bits as on Ray, and one core.
    (summary,) = summaries([seed], ["run.engine=inprocess"])
    return {key: summary[key] for key in ("accuracy_final", "accuracy_control")}


def _votes() -> Raw:
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        return measure_votes(Path(folder))


def _pretrained() -> Raw:
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        places = {"run.dir": folder, "task.weights": str(resnet20.weights_file())}
        result = run(load_config(None, {**PRETRAINED, **places}))
        events = read_events(result.directory / "events.jsonl")
    print(describe(result.summary), flush=True)
    rounds = of_run(events, RoundFinished)
    texts = [event.text for event in of_kind(events, WarningGiven)]
    keys = ("rollbacks", "rounds", "accuracy_before_cut", "accuracy_final")
    kept = {key: result.summary[key] for key in (*keys, "accuracy_control")}
    return kept | {
        "channel_density": rounds[-1].channel_density,
        "warnings": len(texts),
        "texts": texts,
        "accuracies": [event.accuracy for event in rounds],
    }


def _attacked(store: RowStore, attack: str, seed: int) -> Raw:
    name = re.sub(r"\W+", "-", attack) or "none"
    return store.get(f"attack-{name}-{seed}", lambda: measure_attack(attack, seed))


def _ends(found: Sequence[Raw]) -> str:
    """Return rounds, rollbacks and refusals of an attack's runs."""
    failed = sum("failed" in raw for raw in found)
    rounds = ", ".join(str(raw.get("rounds", "failed")) for raw in found)
    back = sum(int(raw.get("rollbacks", 0)) for raw in found)
    refused = sum(int(raw.get("refused", 0)) for raw in found)
    text = f"rounds {rounds}; {back} rollbacks, {refused} answers refused"
    return f"{text}, {failed} runs failed" if failed else text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen rows; stored results are not measured again."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=SEEDS, choices=range(1, SEEDS + 1))
    parser.add_argument("--work", type=Path, default=WORK)
    own, rest = parser.parse_known_args(arguments)
    store, seeds = RowStore(own.work), range(own.seeds)

    def measure() -> list[Figure]:
        return [figure for row in own.rows for figure in ROWS[row](store, seeds)]

    return benchmark("firstaid", measure)(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
