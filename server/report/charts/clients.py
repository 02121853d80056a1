"""Bars on clients: their answers by round, whose data have which classes, recall."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedprune.common.text import printable
from fedprune.server.report.data import RunData
from fedprune.server.report.parts import Chart, Spec
from fedprune.server.runs.events import LabelsCounted, of_kind

_MOST_CLIENTS = 60  # whose classes are drawn
_MOST_CLASSES = 40
_HUES = 10  # colours of classes
_LONGEST = 40  # letters of a class's name
_ANSWERS = ("accepted", "late", "refused", "failed")


def answers(run: RunData) -> Chart | None:
    """Return the outcomes of the asked clients by round, None before any."""
    rounds = run.rounds()
    if not rounds:
        return None
    found = [(name, [getattr(event, name) for event in rounds]) for name in _ANSWERS]
    spec = bars(
        [str(event.round) for event in rounds],
        [(name, name, values) for name, values in found if any(values)],
        axis="round",
        stacked=True,
    )
    label = "Clients that were accepted, late, refused or failed, by round"
    return Chart(name="answers", label=label, views={"": spec}, tall=220)


def labels(run: RunData) -> Chart | None:
    """Return the examples of each class that the clients have, None where unknown."""
    told = next(of_kind(run.events, LabelsCounted), None)
    if told is None or len(told.classes) > _MOST_CLASSES:
        return None
    clients = sorted(told.counts)[:_MOST_CLIENTS]
    spec = bars(
        clients,
        [
            (name, f"hue{place % _HUES}", [told.counts[one][place] for one in clients])
            for place, name in enumerate(told.classes)
        ],
        axis="training examples",
        stacked=True,
        sideways=True,
    )
    label = "Training examples of each class, by client"
    tall = 110 + 20 * len(clients)
    return Chart(name="labels", label=label, views={"": spec}, tall=max(tall, 300))


def unlabelled(run: RunData) -> int:
    """Return the number of clients whose classes are known and not drawn."""
    told = next(of_kind(run.events, LabelsCounted), None)
    return 0 if told is None else max(len(told.counts) - _MOST_CLIENTS, 0)


def recall(run: RunData) -> Chart | None:
    """Return the recall of each class, None where it was not measured."""
    found = recalls(run.summary)
    if not found:
        return None
    names = class_names(run, len(next(iter(found.values()))))
    spec = bars(
        list(names),
        [(name, _ROLES[name], values) for name, values in found.items()],
        axis="class",
        unit="share",
    )
    return Chart(name="recall", label="Recall of each class", views={"": spec})


_ROLES = {"FedPrune": "own", "FedAvg, dense": "dense"}


def recalls(summary: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """Return the recall of each class, 0..1, by network; empty where unknown."""
    keys = dict(zip(_ROLES, ("recall_final", "recall_control"), strict=True))
    found = {name: summary.get(key) for name, key in keys.items()}
    return {
        name: [_share(value) for value in values]
        for name, values in found.items()
        if isinstance(values, list) and 0 < len(values) <= _MOST_CLASSES
    }


def class_names(run: RunData, count: int) -> Sequence[str]:
    """Return the names of the classes, their numbers where they have none."""
    told = next(of_kind(run.events, LabelsCounted), None)
    if told is not None and len(told.classes) == count:
        return told.classes
    return [str(number) for number in range(count)]


def bars(
    names: Sequence[str],
    found: Sequence[tuple[str, str, Sequence[float | None]]],
    *,
    axis: str,
    unit: str = "count",
    stacked: bool = False,
    sideways: bool = False,
) -> Spec:
    """Return bars of one or more series: name, colour and values of each."""
    return {
        "kind": "bars",
        "names": names,
        "unit": unit,
        "axis": axis,
        "series": [
            {"name": printable(name, _LONGEST), "role": role, "values": list(values)}
            for name, role, values in found
        ],
        "stacked": stacked,
        "sideways": sideways,
        "overlay": False,
        "texts": [],
    }


def _share(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None
