"""The figures of a trial, read from its run folder and that of the dense reference.

Accuracies are those of the clients' validation parts; a trial has no figure of the
test data (``run.evaluate_every = 0``).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedprune.common.errors import FedPruneError
from fedprune.server.rounds.records import Validations
from fedprune.server.runs.controls.verdict import closing_metrics, compare
from fedprune.server.runs.events import (
    MAIN,
    Event,
    RunStarted,
    of_kind,
    read_events,
)
from fedprune.server.runs.folder import RunFolder, read_json_object
from fedprune.simulations.tuning.record import Figures

_POINTS = 100.0


def measured(run: Path, reference: Path) -> Figures:
    """Return the figures of a finished run.

    Args:
        run: Its folder.
        reference: That of the dense run.

    Raises:
        FedPruneError: If no client validated both.
        IntegrityError: If a file of theirs is damaged.
    """
    ours, theirs = RunFolder.open(run), RunFolder.open(reference)
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
    summary, dense = (read_json_object(one.summary) for one in (ours, theirs))
    error = _POINTS * found.standard_error
    # Sums of floats: of equal networks the difference is not always exactly 0.
    drop = round(-_POINTS * found.difference, 4) + 0.0
    used = summary.get("budget_used")
    return Figures(
        accuracy=found.run_value,
        drop=drop,
        error=error if math.isfinite(error) else None,
        clients=found.clients,
        params=_share(summary, "params_final", "params_dense"),
        flops=_share(summary, "flops_final", "flops_dense"),
        size=_share(summary, "model_bytes_final", "model_bytes_dense"),
        latency=used.get("latency") if isinstance(used, Mapping) else None,
        bytes=_sent(summary) / max(_sent(dense), 1.0),
    )


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


def _share(summary: Mapping[str, Any], part: str, whole: str) -> float:
    return float(summary[part]) / max(float(summary[whole]), 1.0)


def _sent(summary: Mapping[str, Any]) -> float:
    return float(summary["bytes_up"]) + float(summary["bytes_down"])
