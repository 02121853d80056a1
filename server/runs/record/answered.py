"""Events of the answers of a round: a line a client, or counts by bin of many."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

import numpy as np

from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.server.runs.events import ClientAnswered, ClientsAnswered, Event, RunName

MOST_LINES = 256  # events of one round that are about one client each
_BINS = 16


def answer_events(
    run: RunName, round_: int, records: Sequence[ClientRecord], *, closing: bool
) -> list[Event]:
    """Return the events of a round's answers.

    Every client has its own where they are few, and in the closing round, whose
    validations are compared client by client.  In other rounds of more than 256 clients
    the first 256 that were not accepted have one, with the reason; all others are
    counted.

    Args:
        run: The federation.
        round_: Its round, from 1.
        records: One for each client that was asked, in order.
        closing: Whether it is the closing round.
    """
    if closing or len(records) <= MOST_LINES:
        return [_event(run, round_, record) for record in records]
    missing = [r for r in records if r.status is not Status.ACCEPTED][:MOST_LINES]
    named = {record.client_id for record in missing}
    rest = [record for record in records if record.client_id not in named]
    alone = [_event(run, round_, record) for record in missing]
    return [*alone, _summary(run, round_, rest)]


def outcomes(events: Iterable[Event], run: RunName) -> Counter[str]:
    """Return the answers of a run by status, those of failed attempts too."""
    found: Counter[str] = Counter()
    for event in events:
        if isinstance(event, ClientAnswered) and event.run == run:
            found[event.status.value] += 1
        elif isinstance(event, ClientsAnswered) and event.run == run:
            found.update(event.statuses)
    return found


def _event(run: RunName, round_: int, record: ClientRecord) -> ClientAnswered:
    return ClientAnswered(
        run=run,
        round=round_,
        client=record.client_id,
        status=record.status,
        reason=record.reason,
        **_figures(record),
        validation_examples=0 if record.validation is None else record.validation.count,
    )


def _digits(value: float) -> float:
    """Return a value with 9 significant digits, as many as a float32 has."""
    return float(f"{value:.9g}")


def _figures(record: ClientRecord) -> dict[str, Any]:
    """Return the figures of an answer by their names in its event."""
    found = record.validation
    count = 0 if found is None else found.count
    return {
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "num_examples": record.num_examples,
        "norm": _digits(record.norm),
        "factor": round(record.factor, 6),
        "loss": _digits(record.loss),
        "seconds": round(record.seconds, 4),
        "validation_loss": _digits(found.loss_sum / count) if found and count else None,
        "validation_metric": _digits(found.metric_sum / count)
        if found and count
        else None,
    }


def _summary(
    run: RunName, round_: int, records: Sequence[ClientRecord]
) -> ClientsAnswered:
    statuses = Counter(record.status.value for record in records)
    columns: dict[str, list[float]] = {}
    for record in records:
        if record.status is Status.ACCEPTED:
            for name, value in _figures(record).items():
                if value is not None and isfinite(value):
                    columns.setdefault(name, []).append(float(value))
    bins = {name: histogram(values) for name, values in columns.items()}
    return ClientsAnswered(
        run=run,
        round=round_,
        statuses={status.value: statuses[status.value] for status in Status},
        means={name: float(np.mean(values)) for name, values in columns.items()},
        edges={name: edges for name, (edges, _) in bins.items()},
        counts={name: counts for name, (_, counts) in bins.items()},
    )


def histogram(values: Sequence[float]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the borders of bins of equal width, and the values in each.

    Args:
        values: Finite values, at least one.

    Examples:
        >>> histogram([3.0, 3.0])
        ((3.0, 3.0), (2,))
        >>> edges, counts = histogram([0.0, 0.1, 16.0])
        >>> len(edges), counts[0], counts[-1], sum(counts)
        (17, 2, 1, 3)
    """
    least, most = min(values), max(values)
    if not isfinite(most - least):
        return (least, most), (len(values),)
    # Each border once: between values that are near to each other there are few.
    edges = np.unique(np.linspace(least, most, _BINS + 1))
    if len(edges) == 1:
        return (least, most), (len(values),)
    places = np.searchsorted(edges, values, side="right") - 1
    counts = np.bincount(np.minimum(places, len(edges) - 2), minlength=len(edges) - 1)
    return tuple(edges.tolist()), tuple(counts.tolist())
