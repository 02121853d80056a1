"""``metrics.csv``: one row a round."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.server.runs.events.base import Event
from fedprune.server.runs.events.kinds import (
    RoundFinished,
    of_kind,
)

COLUMNS = (
    "run",
    "round",
    "cycle",
    "phase",
    "loss",
    "accuracy",
    "validation_loss",
    "validation_accuracy",
    "density",
    "params",
    "flops",
    "channel_density",
    "bytes_up",
    "bytes_down",
    "bytes_fixed",
    "bytes_simulation",
    "asked",
    "accepted",
    "refused",
    "failed",
    "late",
    "zero_share",
    "seconds",
    "virtual_seconds",
)


def write_metrics_csv(events: Iterable[Event], path: Path) -> None:
    """Write one row a round, ``COLUMNS`` wide; unknown values are empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for event in of_kind(events, RoundFinished):
        writer.writerow(getattr(event, name) for name in COLUMNS)
    write_bytes_atomic(path, text.getvalue().encode())
