"""The figures of a run: those that it wrote, and those that each tracker has of it."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from fedprune.common.config import TrackerName
from fedprune.server.runs.events import MAIN, NetworkCut, of_kind, read_events
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.tracking.progress import read_done
from fedprune.server.runs.tracking.to_mlflow import STORE
from fedprune.simulations.benchmarks.kit.trackers.wandb_file import read_wandb


class Point(NamedTuple):
    """Place of one figure: the federation, its round, the name of the figure."""

    run: str
    round: int
    name: str


Found: TypeAlias = list[tuple[Point, float]]

_NOT_FIGURES = ("run", "round", "phase")
_PREFIXES = ("cut/", "check/", "mask/", "privacy/", "width/")


def written(folder: RunFolder) -> dict[Point, float]:
    """Return the figures of every round in ``metrics.csv``, and the widths of cuts."""
    found = {}
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in _NOT_FIGURES:
                    place = Point(row["run"], int(row["round"]), name)
                    found[place] = float(value)
    for cut in of_kind(read_events(folder.events), NetworkCut):
        for group, width in cut.widths.items():
            found[Point(cut.run, cut.round, f"width/{group}")] = float(width)
    return found


def in_tensorboard(folder: RunFolder) -> Found:
    """Return what TensorBoard reads of a run."""
    from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415
        EventAccumulator,
    )

    found: Found = []
    for place in sorted((folder.tracking / "tensorboard").iterdir()):
        events = EventAccumulator(str(place), size_guidance={"scalars": 0})
        events.Reload()
        found += [
            (Point(place.name, point.step, tag), point.value)
            for tag in events.Tags()["scalars"]
            for point in events.Scalars(tag)
        ]
    return found


def in_mlflow(folder: RunFolder) -> Found:
    """Return what MLflow's client reads of a run, from the store beside its folder."""
    from mlflow import MlflowClient  # noqa: PLC0415 - optional

    store = f"sqlite:///{folder.path.resolve().parent / STORE}"
    client = MlflowClient(tracking_uri=store)
    token = read_done(folder.tracking / "mlflow.json").token
    return [
        (_place(point.step, name), point.value)
        for name in client.get_run(token).data.metrics
        for point in client.get_metric_history(token, name)
    ]


def in_wandb(folder: RunFolder) -> Found:
    """Return the history in the files that Weights & Biases wrote offline."""
    token = read_done(folder.tracking / "wandb.json").token
    paths = folder.path.resolve().parent.glob(f"wandb/offline-run-*-{token}/*.wandb")
    return [point for path in sorted(paths) for point in _history(path)]


def _history(path: Path) -> Iterator[tuple[Point, float]]:
    for record in read_wandb(path):
        items = {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for name, value in items.items():
            prefix = name.partition("/")[0] if _of_control(name) else ""
            round_ = items.get(f"{prefix}/round" if prefix else "round")
            if round_ is not None and not name.startswith("_"):
                place = _place(int(round_), name)
                if place.name != "round":
                    yield place, float(value)


def _of_control(name: str) -> bool:
    return "/" in name and not name.startswith(_PREFIXES)


def _place(round_: int, name: str) -> Point:
    """Return the place of a figure whose name has the control's in front."""
    if name.startswith("result/") or not _of_control(name):
        return Point(MAIN, round_, name)
    control, _, rest = name.partition("/")
    return Point(control, round_, rest)


STORED: Mapping[TrackerName, Callable[[RunFolder], Found]] = {
    "tensorboard": in_tensorboard,
    "mlflow": in_mlflow,
    "wandb": in_wandb,
}
