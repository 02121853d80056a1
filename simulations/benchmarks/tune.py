"""``fedprune tune`` on digits: its choice against the defaults at the same target.

``python -m fedprune.simulations.benchmarks.tune [--seeds 0,1,2] [--smoke]``, with
``--json FILE`` and ``--check`` of every benchmark.  The target is the default budget,
params<=0.3, flops<=0.35, so that the first trial of a search is the default run; the
choice goes by the clients' validation parts, and both networks are then scored once on
the test fold of their seed.  ``--measure`` plays the pieces, one search for each seed:
each is one file of ``docs/results/tune``; a search that is stopped keeps its trials in
``--searches DIR``.  ``--smoke`` plays two trials of a tiny federation elsewhere.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from fedprune.common.config import load_config
from fedprune.common.errors import FedPruneError
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.rows import Raw, RowStore
from fedprune.simulations.benchmarks.kit.science.compared import (
    by_seed,
    listed,
    right_of,
)
from fedprune.simulations.benchmarks.kit.science.correct import packed_correct
from fedprune.simulations.benchmarks.kit.science.intervals import interval, paired
from fedprune.simulations.benchmarks.kit.science.rows import (
    Found,
    Piece,
    Row,
    figure,
    measure,
    shown,
)
from fedprune.simulations.benchmarks.science import read_seeds
from fedprune.simulations.tuning.folder import new_folder, open_folder
from fedprune.simulations.tuning.record import TRIALS, Record, Trial
from fedprune.simulations.tuning.search import Search
from fedprune.simulations.tuning.space import point_text
from fedprune.simulations.tuning.target import parse_target

WORK = Path("docs") / "results" / "tune"
SEARCHES = Path("runs") / "tune-benchmark"
TARGET = "params<=0.3, flops<=0.35"
_TRIALS = 10
_QUIET: Mapping[str, object] = {"run.engine": "inprocess"}
_TINY: Mapping[str, object] = {
    **_QUIET,
    "task.clients": 3,
    "task.model": "mlp",
    "client.epochs": 1,
    "rounds.cohort": 3,
    "rounds.minimum": 2,
    "rounds.warmup": 1,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 1,
    "rounds.final": 1,
}
_FIRST = 1  # number of the trial with the default settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and show the figures; return the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--searches", type=Path, default=SEARCHES)
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    own, rest = parser.parse_known_args(arguments)

    def figures() -> list[Figure]:
        if own.smoke:
            with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
                return _figures(
                    _row(Path(folder), 2, _TINY), [0], RowStore(Path(folder))
                )
        row, seeds = _row(own.searches, _TRIALS, _QUIET), read_seeds(own.seeds)
        store = RowStore(own.work)
        return _figures(row, seeds, store) if own.measure else shown(row, seeds, store)

    return benchmark("tune", figures)(rest)


def _figures(row: Row, seeds: Sequence[int], store: RowStore) -> list[Figure]:
    measure(row, seeds, store)
    return shown(row, seeds, store)


def _row(searches: Path, trials: int, settings: Mapping[str, object]) -> Row:
    """Return the row of one search for each seed."""

    def pieces(seeds: Sequence[int]) -> list[Piece]:
        asked = {**settings, "target": TARGET, "trials": trials}
        return [
            Piece(
                name=f"search-{seed}",
                settings={**asked, "seed": seed},
                work=partial(_searched, searches, trials, settings, seed),
            )
            for seed in seeds
        ]

    return Row(
        name="digits",
        budget="about 45 CPU minutes with three seeds, by estimate",
        pieces=pieces,
        figures=compared,
    )


def compared(found: Found) -> list[Figure]:
    """Return the test accuracies of the choice and of the default, and the gap."""
    pieces = by_seed(found, "search")
    choice, default = right_of(pieces, "choice"), right_of(pieces, "default")
    if not pieces:
        return []
    gap = interval(paired(choice, default)).scaled(100.0)
    means = [
        [100.0 * float(one.mean()) for one in r.values()] for r in (choice, default)
    ]
    small = sum(bool(raw["starts_small"]) for raw in pieces.values())
    met = sum(bool(raw["met"]) for raw in pieces.values())
    names = ("test accuracy, choice", "test accuracy, default")
    return [
        *(
            Figure(
                name=f"digits: {name}",
                value=sum(each) / len(each),
                unit="%",
                detail=f"n = {len(each)}: {listed(each)}",
            )
            for name, each in zip(names, means, strict=True)
        ),
        figure(
            f"digits: accuracy at {TARGET}, choice - default",
            gap,
            unit="points",
            note="; ".join(str(raw["settings_chosen"]) for raw in pieces.values()),
        ),
        Figure(
            name="digits: searches whose choice meets the target",
            value=met,
            detail=f"of {len(pieces)}; {small} of them start small",
        ),
    ]


def _searched(
    searches: Path, trials: int, settings: Mapping[str, object], seed: int
) -> Raw:
    """Play the search of a seed, or what is left of it, and score both networks."""
    folder = searches / f"seed-{seed}"
    config = load_config(None, {**settings, "run.seed": seed})
    if (folder / TRIALS).is_file():
        record = open_folder(folder, trials, trust_code=False)
    else:
        _, record = new_folder(config, parse_target(TARGET), trials, folder)
    record = Search(folder=folder, record=record, say=_say).run()
    chosen, default = (_trial(record, n) for n in (record.recommended, _FIRST))
    task = LoadedTask(config)
    return {
        "choice": packed_correct(_network(folder, chosen), task),
        "default": packed_correct(_network(folder, default), task),
        "met": record.meets_target,
        "starts_small": chosen.point.get("prune.restart") == "fresh",
        "settings_chosen": f"trial {chosen.number}: {point_text(chosen.point)}",
        "statuses": [one.status for one in record.trials],
    }


def _say(line: str) -> None:
    print(line, flush=True)


def _network(folder: Path, trial: Trial) -> Path:
    return folder / trial.run / "model" / "final.safetensors"


def _trial(record: Record, number: int | None) -> Trial:
    """Return a trial that has come to its end.

    Raises:
        FedPruneError: If it has not: there is nothing to compare.
    """
    found = next((t for t in record.trials if t.number == number), None)
    if found is None or found.figures is None:
        why = found.reason if found is not None else "no trial has come to its end"
        msg = f"trial {number} of {record.search} has no network: {why}"
        raise FedPruneError(msg)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
