"""Prometheus metrics of a server: the run that was started last, in figures.

``python -m fedprune.server.devices.metrics HOST:PORT STATE_FOLDER``; read from the
run's events, so it costs the run nothing.  Needs ``fedprune[ops]``.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from prometheus_client import REGISTRY, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from fedprune.common.errors import FedPruneError
from fedprune.server.devices.superlink import CURRENT
from fedprune.server.rounds.records import Status, Verdict
from fedprune.server.runs.events import (
    ClientAnswered,
    ClientsAnswered,
    CutChecked,
    Event,
    NetworkCut,
    RoundFinished,
    of_kind,
    read_events,
)
from fedprune.server.runs.folder import RunFolder, read_json_object

MOST_CLIENTS = 256  # with figures of their own
OTHERS = "(others)"  # no client has this name

_Figure: TypeAlias = Callable[[RoundFinished], float | None]
_GAUGES: dict[str, tuple[str, _Figure]] = {
    "validation_accuracy": (
        "Share of validation examples classified rightly",
        lambda last: last.validation_accuracy,
    ),
    "validation_loss": (
        "Mean loss on the clients' validation parts",
        lambda last: last.validation_loss,
    ),
    "density": (
        "Share of the dense network's parameters that is left",
        lambda last: last.density,
    ),
    "channel_density": (
        "Share of the prunable channels that is left",
        lambda last: last.channel_density,
    ),
    "seconds": ("Length of the last round", lambda last: last.seconds),
}


class RunCollector(Collector):
    """Figures of the run that a server started last.

    Args:
        state: The server's state folder.
    """

    def __init__(self, state: Path) -> None:
        self._state = state

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield the figures as they are now; none before the first run."""
        try:
            current = read_json_object(self._state / CURRENT)
            folder = RunFolder(Path(str(current["folder"])))
            yield from figures(read_events(folder.events))
            up = 1.0 if folder.holder() is not None else 0.0
            yield _gauge("running", "Whether a run is at work", up)
        except (FedPruneError, KeyError):
            return


def figures(events: Sequence[Event]) -> Iterator[Metric]:
    """Yield the figures of a run's events."""
    rounds = list(of_kind(events, RoundFinished))
    answers = Counter(event.status.value for event in of_kind(events, ClientAnswered))
    for event in of_kind(events, ClientsAnswered):
        answers.update(event.statuses)
    cuts = len(list(of_kind(events, NetworkCut)))
    yield _counter("rounds", "Rounds completed", len(rounds))
    yield _counter("cuts", "Cuts made, those rolled back included", cuts)
    text = "Outcomes of the clients that were asked"
    yield _counters("answers", text, {one.value: answers[one.value] for one in Status})
    checks = Counter(event.verdict for event in of_kind(events, CutChecked))
    text = "Checks of the guard by verdict"
    yield _counters("checks", text, {one.value: checks[one] for one in Verdict})
    up = sum(event.bytes_up for event in rounds)
    yield _counter("bytes_up", "Bytes from clients", up)
    down = sum(event.bytes_down for event in rounds)
    yield _counter("bytes_down", "Bytes to clients", down)
    for name, (text, figure) in _GAUGES.items():
        value = figure(rounds[-1]) if rounds else None
        if value is not None:
            yield _gauge(name, text, value)
    yield from of_clients(of_kind(events, ClientAnswered))


def of_clients(events: Iterable[ClientAnswered]) -> Iterator[Metric]:
    """Yield the figures of each client; of many, those after the first 256 are one.

    A time series for each of a hundred thousand clients would fill a Prometheus.
    """
    answers: Counter[tuple[str, ...]] = Counter()
    sent: Counter[tuple[str, ...]] = Counter()
    last: dict[tuple[str, ...], int] = {}
    named: set[str] = set()
    for event in events:
        if len(named) < MOST_CLIENTS:
            named.add(event.client)
        name = event.client if event.client in named else OTHERS
        answers[name, event.status.value] += 1
        sent[(name,)] += event.bytes_up
        if event.status is Status.ACCEPTED:
            last[(name,)] = max(event.round, last.get((name,), 0))
    text = "Outcomes of a client's rounds"
    yield _of_clients(CounterMetricFamily, "answers", text, answers, more=("of",))
    yield _of_clients(CounterMetricFamily, "bytes_up", "Bytes from a client", sent)
    text = "Last round with an accepted answer of a client"
    yield _of_clients(GaugeMetricFamily, "last_round", text, last)


def _of_clients(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    values: Mapping[tuple[str, ...], int],
    more: tuple[str, ...] = (),
) -> Metric:
    """Return a figure for each client, and for each of ``more`` labels."""
    family = kind(f"fedprune_client_{name}", text, labels=["client", *more])
    for labels, value in values.items():
        family.add_metric(list(labels), value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"fedprune_{name}", text, value=value)


def _counters(name: str, text: str, values: Mapping[str, int]) -> Metric:
    """Return one counter for each label ``of``."""
    family = CounterMetricFamily(f"fedprune_{name}", text, labels=["of"])
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"fedprune_{name}", text, value=value)


def main() -> None:
    """Serve until the process is ended."""
    address, state = sys.argv[1], Path(sys.argv[2])
    host, _, port = address.rpartition(":")
    REGISTRY.register(RunCollector(state))
    start_http_server(int(port), addr=host.strip("[]"))
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
