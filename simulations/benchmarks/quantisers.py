"""Accuracy and bytes of the value formats of updates: ``mnist-lenet5``, three seeds.

``FEDPRUNE_DATA=FOLDER python -m fedprune.simulations.benchmarks.quantisers``

Whole runs of the experiment on a shorter schedule, in process, without a control.  The
choice is by the final network's accuracy on the validation parts of all clients, a
tenth of the data; the test accuracy is shown too.  The codec before the entropy coder
sent levels in one byte each, so its bytes are counted for every update of the int8 runs
and of those of the default: the same integers in the same messages, only their delta
coded by it.

The kinds int4, ternary and bfloat16 were removed with version 2 of the wire: none was
shorter at equal accuracy.  Their rows are withdrawn; the last figures stand in the
detail of the row of the choice.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedprune.client.rounds.measure import validate
from fedprune.common import codec
from fedprune.common.artifacts.load import load_model
from fedprune.common.codec import VALUES, SideInformation
from fedprune.common.config import load_config
from fedprune.common.messages import ClientUpdate
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.benchmarks.kit.codec.rivals import first_codec
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.experiments import LENET
from fedprune.simulations.runs.run import run

SEEDS = range(3)
DEFAULT = "step"
FIRST = "int8"
_DELTA = 7  # index of the delta among the fields of an update
EQUAL = 0.1  # points of accuracy
SHORTER = ("rounds.warmup=8", "rounds.cuts=4", "rounds.final=12")
_WITHDRAWN = (  # of commit bf414e8b3c51: validation accuracy, bytes up of a run
    "withdrawn with their kinds: int4 97.90 %, 2593.2 kB; ternary 97.75 %, 1782.3 kB; "
    "bfloat16 97.97 %, 4542.4 kB"
)
_QUIET = ("run.controls=[]", 'run.engine="inprocess"', "run.evaluate_every=1000")
_VALIDATION = "client.validation=0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Accuracy and bytes of a finished run.

    Attributes:
        validation: Share of the validation examples of all clients that the final
            network classifies correctly.
        examples: Their number.
        loss: Its mean loss on them.
        test: The same share of the test split.
        bytes_up: All answers of all rounds.
        first: The same with every delta coded by the first codec; 0 where that codec
            has no such values.
    """

    validation: float
    examples: int
    loss: float
    test: float
    bytes_up: int
    first: int


Runs = Mapping[str, Sequence[Ended]]


def measure() -> list[Figure]:
    """Run every kind on every seed."""
    runs: dict[str, list[Ended]] = {kind: [] for kind in VALUES}
    for seed in SEEDS:
        for kind, found in runs.items():
            found.append(ended(kind, seed, SHORTER, LENET))
            print(f"seed {seed}, {kind}: {found[-1]}", flush=True)
    return figures(runs)


def ended(kind: str, seed: int, settings: Sequence[str], file: Path | None) -> Ended:
    """Run one kind on one seed and evaluate its final network.

    Args:
        kind: As ``update.values``.
        seed: As ``run.seed``.
        settings: "key=value" as for ``--set``.
        file: A TOML file, or None for the defaults.
    """
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder, _coded() as first:
        places = [f"run.seed={seed}", f'run.dir="{folder}"', f'update.values="{kind}"']
        config = load_config(file, [*_QUIET, _VALIDATION, *settings, *places])
        result = run(config)
        model = load_model(result.directory / "model" / "final.safetensors")
    task = LoadedTask(config)
    parts = [
        validate(model, task.client_data(c).validation, task) for c in task.clients
    ]
    count = sum(part.count for part in parts)
    return Ended(
        validation=sum(part.metric_sum for part in parts) / count,
        examples=count,
        loss=sum(part.loss_sum for part in parts) / count,
        test=float(str(result.summary["accuracy_final"])),
        bytes_up=int(str(result.summary["bytes_up"])),
        first=sum(first),
    )


@contextmanager
def _coded() -> Iterator[list[int]]:
    """Collect the bytes of answers of levels under the first codec."""
    encode = codec.encode_update
    sizes: list[int] = []

    def counting(update: ClientUpdate, side_info: SideInformation) -> bytes:
        data = encode(update, side_info)
        if update.delta.kind in (FIRST, DEFAULT):
            sent = codec.unseal(data, codec.Kind.UPDATE, len(data))[_DELTA]
            rest = len(data) - len(sent)
            sizes.append(rest + first_codec(update.delta))
        return data

    codec.encode_update = counting
    try:
        yield sizes
    finally:
        codec.encode_update = encode


def figures(runs: Runs) -> list[Figure]:
    """Return a row of accuracy and one of bytes for each kind, and the choice."""
    found = [figure for kind in runs for figure in _rows(kind, runs)]
    first = sum(one.first for one in runs[FIRST])
    gaps = [
        100 * (one.validation - other.validation)
        for one, other in zip(runs[DEFAULT], runs[FIRST], strict=True)
    ]
    return [
        *found,
        _choice(runs),
        Figure(
            name=f"{DEFAULT} - {FIRST}: validation accuracy",
            value=sum(gaps) / len(gaps),
            unit="points",
            goal=f">= -{EQUAL}",
            detail=", ".join(f"{gap:+.2f}" for gap in gaps),
        ),
        *(_same_integers(kind, runs) for kind in (DEFAULT, FIRST)),
        Figure(
            name=f"bytes up, {DEFAULT} / first codec with {FIRST}",
            value=_bytes(runs[DEFAULT]) / first,
            goal="<= 0.5",
            reference="bitmap or gaps, deflated",
            detail="as many rounds; accuracy as two rows above",
        ),
    ]


def _same_integers(kind: str, runs: Runs) -> Figure:
    """Return the bytes of a kind over those of the first codec for its integers."""
    return Figure(
        name=f"bytes up, {kind} / first codec, same integers",
        value=_bytes(runs[kind]) / sum(one.first for one in runs[kind]),
        goal="<= 0.80",
        reference="bitmap or gaps, deflated",
        detail="every update of every round, whole messages",
    )


def _rows(kind: str, runs: Runs) -> list[Figure]:
    mine = runs[kind]
    shares = ", ".join(f"{100 * one.validation:.2f}" for one in mine)
    tests = ", ".join(f"{100 * one.test:.2f}" for one in mine)
    loss = sum(one.loss for one in mine) / len(mine)
    share = _bytes(mine) / _bytes(runs[FIRST])
    return [
        Figure(
            name=f"{kind}: validation accuracy",
            value=_accuracy(mine),
            unit="%",
            detail=f"{shares} of {mine[0].examples} examples each; loss {loss:.4f}; "
            f"test {tests}",
        ),
        Figure(
            name=f"{kind}: bytes up of a run",
            value=_bytes(mine) / len(mine) / 1000,
            unit="kB",
            detail=f"{share:.2f} of {FIRST}; {', '.join(SHORTER)}",
        ),
    ]


def _choice(runs: Runs) -> Figure:
    """Return whether the default is the shortest of the kinds that are as accurate."""
    least = _accuracy(runs[FIRST]) - EQUAL
    others = {
        kind: _bytes(found)
        for kind, found in runs.items()
        if kind != DEFAULT and _accuracy(found) >= least
    }
    shortest = min(others, key=others.__getitem__)
    return Figure(
        name=f"bytes up, {DEFAULT} / shortest other kind as accurate as {FIRST}",
        value=_bytes(runs[DEFAULT]) / others[shortest],
        goal="<= 1.0",
        reference=shortest,
        detail=f"within {EQUAL} points of it or above: {', '.join(others)}; "
        + _WITHDRAWN,
    )


def _accuracy(runs: Sequence[Ended]) -> float:
    return 100 * sum(one.validation for one in runs) / len(runs)


def _bytes(runs: Sequence[Ended]) -> int:
    return sum(one.bytes_up for one in runs)


main = benchmark("quantisers", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
