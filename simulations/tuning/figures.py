"""The figures of a trial, read from its run folder and that of the dense reference.

Accuracies are those of the clients' validation parts; a trial has no figure of the
test data (``run.evaluate_every = 0``).
"""

import math
from collections.abc import Sequence
from pathlib import Path

from fedprune.common.artifacts import read_plan_file
from fedprune.common.config import load_config
from fedprune.common.errors import FedPruneError, IntegrityError
from fedprune.common.pruning.cost import shares
from fedprune.common.pruning.latency import load_table
from fedprune.common.structure.structure import Structure
from fedprune.server.rounds.records import Validations
from fedprune.server.runs.controls.verdict import closing_metrics, compare
from fedprune.server.runs.events import (
    MAIN,
    Event,
    RoundFinished,
    RunStarted,
    of_kind,
    of_run,
    read_events,
)
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.tuning.record import Figures

_POINTS = 100.0
_SAME = ("data_fingerprint", "graph", "task_code", "weights_sha256")
_DIGITS = 9  # of a share


def measured(run: Path, reference: Path) -> Figures:
    """Return the figures of a finished run.

    Args:
        run: Its folder.
        reference: That of the dense run.

    Raises:
        FedPruneError: If no client validated both.
        IntegrityError: If they had other data, another network or other code, or a
            file of theirs is damaged.
    """
    ours, theirs = RunFolder.open(run), RunFolder.open(reference)
    _check_same(ours, theirs)
    events = read_events(ours.events)
    found = compare(
        run.name,
        closing_metrics(events, MAIN),
        closing_metrics(read_events(theirs.events), MAIN),
        higher_is_better=higher_is_better(events),
    )
    if found is None:
        msg = f"no client validated both {run.name} and the dense reference; want more "
        msg += "examples for each client, or a larger client.validation"
        raise FedPruneError(msg)
    error = _POINTS * found.standard_error
    # Sums of floats: of equal networks the difference is not always exactly 0.
    drop = round(-_POINTS * found.difference, 4) + 0.0
    reached, sent = _reached(ours), _sent(ours) / max(_sent(theirs), 1.0)
    return Figures(
        accuracy=found.run_value,
        drop=drop,
        error=error if math.isfinite(error) else None,
        clients=found.clients,
        params=reached["params"],
        flops=reached["flops"],
        size=reached["bytes"],
        latency=reached.get("latency"),
        bytes=sent,
    )


def _check_same(ours: RunFolder, theirs: RunFolder) -> None:
    """Refuse to compare runs of other data, networks or code."""
    mine, other = ours.read_manifest(), theirs.read_manifest()
    changed = [key for key in _SAME if mine.get(key) != other.get(key)]
    if changed:
        msg = (
            f"{', '.join(changed)} changed since the dense reference ran: they do not "
        )
        msg += "compare; put back what it was, or start a new search"
        raise IntegrityError(msg)


def _reached(run: RunFolder) -> dict[str, float]:
    """Return the shares of the dense network that a run's final one has.

    They are those that ``prune.budget`` bounds, "latency" where the run has a table.
    """
    structure = Structure.from_json(run.structure.read_bytes())
    table = load_table(run.own(load_config(run.config)))
    found = shares(structure, read_plan_file(run.plan).keep, table)
    # A budget is met up to rounding (``is_met``), and so is a target.
    return {kind: round(share, _DIGITS) for kind, share in found.items()}


def mean_metric(validations: Validations) -> float | None:
    """Return the mean headline metric, weighted by examples; None without clients."""
    total = int(validations.counts.sum())
    if total == 0:
        return None
    return float((validations.metrics * validations.counts).sum() / total)


def closing_accuracy(run: Path) -> float | None:
    """Return the mean headline metric of a run's final network, None if unknown."""
    events = read_events(RunFolder.open(run).events)
    return mean_metric(closing_metrics(events, MAIN))


def higher_is_better(events: Sequence[Event]) -> bool:
    """Return the direction of the headline metric of a run that has started."""
    started = next(of_kind(events, RunStarted), None)
    return started is None or started.better == "higher"


def _sent(run: RunFolder) -> float:
    """Return the bytes up and down of a run."""
    rounds = of_run(read_events(run.events), RoundFinished)
    return float(sum(event.bytes_up + event.bytes_down for event in rounds))
