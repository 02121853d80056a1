"""Data of a report: the folder of one run, read once.

A run that is not finished has fewer events and no summary; nothing here fails for
that: an unknown figure is None.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from fedprune.common.errors import IntegrityError
from fedprune.common.text import fit_to_print
from fedprune.server.report.names import code_name, given_name
from fedprune.server.runs.events import (
    DENSE,
    MAIN,
    ClientAnswered,
    ClientsAnswered,
    ClientsConnected,
    CutRolledBack,
    Event,
    NetworkCut,
    OfRound,
    RoundFinished,
    RunFinished,
    RunName,
    RunStarted,
    of_kind,
    of_run,
    read_events,
)
from fedprune.server.runs.folder import RunFolder, read_json_object

R = TypeVar("R", bound=OfRound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Accuracy of one broadcast.

    Attributes:
        rounds: Rounds that were complete when it was sent, >= 0.
        accuracy: Its accuracy, 0..1.
        bytes_up: What all clients together had sent by then.
    """

    rounds: int
    accuracy: float
    bytes_up: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One cut.

    Attributes:
        event: Its event.
        before: Kept channels of each group when it was made.
        after: Kept channels of each group afterwards.
        undone: Whether it was rolled back.
    """

    event: NetworkCut
    before: Mapping[str, int]
    after: Mapping[str, int]
    undone: bool = False

    @property
    def stands(self) -> bool:
        """True if it cut a channel and was not rolled back."""
        return not self.undone and self.after != self.before


@dataclass(frozen=True, kw_only=True)
class RunData:
    """One run, as read from its folder.

    Attributes:
        path: The folder.
        manifest: Its manifest.
        config: Text of its configuration.
        events: All events in order.
        summary: The figures of a finished run; of an unfinished one those in its
            events.
        finished: Whether the run came to its end.
    """

    path: Path
    manifest: Mapping[str, Any]
    config: str
    events: tuple[Event, ...]
    summary: Mapping[str, Any]
    finished: bool

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.manifest.get("run_id", self.path.name))

    @property
    def code_name(self) -> str:
        """Two words for the run, always the same ones."""
        return code_name(self.name)

    @property
    def title(self) -> str:
        """Name that the user gave it, if any, and its two words."""
        given = given_name(self.name)
        return f"{given} · {self.code_name}" if given else self.code_name

    @cached_property
    def started(self) -> RunStarted | None:
        """The start of the run; None when it has not started."""
        return next(of_kind(self.events, RunStarted), None)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The configuration in the event of the start; empty when unknown."""
        return self.started.config if self.started else {}

    @property
    def task(self) -> Mapping[str, Any]:
        """The task among the settings; empty when unknown."""
        found = self.settings.get("task")
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def on_devices(self) -> bool:
        """True of a run of devices, which have data of their own."""
        return any(of_kind(self.events, ClientsConnected))

    @cached_property
    def groups(self) -> Mapping[str, int]:
        """Channels of each group of the original network, empty when unknown."""
        return self.started.groups if self.started else {}

    @cached_property
    def tested(self) -> bool:
        """True if the accuracy of its rounds is that on test data.

        Otherwise it is that of the clients' validation.
        """
        rounds = of_kind(self.events, RoundFinished)
        return any(event.accuracy is not None for event in rounds)

    @property
    def metric(self) -> str:
        """Metric that "accuracy" stands for in this run, such as "accuracy" or "r2"."""
        known = self.started.metric if self.started else "accuracy"
        return str(self.summary.get("metric", known))

    @property
    def lower_is_better(self) -> bool:
        """True if a lower headline metric is better."""
        return self.started is not None and self.started.better == "lower"

    def rounds(self, run: RunName = MAIN) -> list[RoundFinished]:
        """Return the rounds of the run, or of one of its controls."""
        return self._of_run(RoundFinished, run)

    def answers(self, run: RunName = MAIN) -> list[ClientAnswered]:
        """Return the outcomes of clients that have an event each, by round."""
        return self._of_run(ClientAnswered, run)

    def summaries(self, run: RunName = MAIN) -> list[ClientsAnswered]:
        """Return the outcomes of the clients of large rounds, in order."""
        return self._of_run(ClientsAnswered, run)

    @cached_property
    def _found(self) -> dict[tuple[type[OfRound], RunName], list[Any]]:
        return {}  # what was looked for before: many parts of a page ask for the same

    def _of_run(self, kind: type[R], run: RunName) -> list[R]:
        key = (kind, run)
        if key not in self._found:
            self._found[key] = of_run(self.events, kind, run)
        return self._found[key]

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Every cut in order, with the widths it started from."""
        return tuple(_cuts(self.events, self.groups))

    @property
    def validation(self) -> float | None:
        """The last score on the clients' validation parts; None without one."""
        known = number(self.summary, "validation_accuracy_final")
        if known is not None:
            return known
        found = [event.validation_accuracy for event in self.rounds()]
        return next((value for value in reversed(found) if value is not None), None)

    @property
    def delivered(self) -> float | None:
        """The score of the delivered network on the devices' own test data, or None."""
        return number(self.summary, "accuracy_delivered")

    @property
    def final_score(self) -> tuple[float | None, bool]:
        """The final score, and whether it is that on test data.

        Of devices it is that on their own test data, or else their validation.
        """
        found = number(self.summary, "accuracy_final")
        if found is not None or self.tested:
            return found, True
        if self.delivered is not None:
            return self.delivered, True
        return self.validation, False

    def accuracy(self, event: RoundFinished) -> float | None:
        """Return the accuracy of a round, on test data or of clients' validation."""
        return event.accuracy if self.tested else event.validation_accuracy

    def curve(self, run: RunName = MAIN) -> list[Point]:
        """Return accuracy by rounds and by bytes.

        A round event has the accuracy of the broadcast that OPENED the round, so it
        stands at the rounds and the bytes before it; the accuracy of the last network
        comes from the summary.
        """
        points, sent, last = [], 0.0, 0
        for event in self.rounds(run):
            last, accuracy = event.round, self.accuracy(event)
            if accuracy is not None:
                points.append(Point(rounds=last - 1, accuracy=accuracy, bytes_up=sent))
            sent += event.bytes_up
        final = number(
            self.summary, "accuracy_final" if run == MAIN else "accuracy_control"
        )
        if self.finished and final is not None and last and self.tested:
            points.append(Point(rounds=last, accuracy=final, bytes_up=sent))
        return points


def read_run(path: Path) -> RunData:
    """Read a run folder, finished or not.

    Raises:
        ConfigError: If there is no run folder.
        IntegrityError: If one of its files is broken.
    """
    folder = RunFolder.open(path)
    events = tuple(read_events(folder.events))
    return run_data(folder, events, _summary(folder, events))


def live_run(folder: RunFolder, events: Sequence[Event]) -> RunData:
    """Return a run by the events that it has so far, which are printable already.

    Raises:
        IntegrityError: If its manifest is broken.
    """
    ends = list(of_kind(events, RunFinished))
    run = run_data(folder, tuple(events), ends[-1].summary if ends else {})
    return replace(run, manifest=fit_to_print(run.manifest))


def printable_run(run: RunData) -> RunData:
    """Return a run with every text in it printable and of bounded length."""
    return replace(
        run,
        manifest=fit_to_print(run.manifest),
        events=tuple(fit_to_print(event) for event in run.events),
        summary=fit_to_print(run.summary),
    )


def run_data(
    folder: RunFolder, events: tuple[Event, ...], summary: Mapping[str, Any]
) -> RunData:
    """Return a run whose events and final figures are known.

    Args:
        folder: Its folder.
        events: All events in order.
        summary: The figures of a finished run, else empty.
    """
    config = ""
    if folder.config.exists():  # shown, not read: bytes that are not UTF-8 are replaced
        config = folder.config.read_text(encoding="utf-8", errors="replace")
    return RunData(
        path=folder.path,
        manifest=folder.read_manifest(),
        config=config,
        events=events,
        summary={**_partial_summary(events), **summary},
        finished=bool(summary),
    )


def number(source: Mapping[str, Any], key: str) -> float | None:
    """Return a number of a summary, None when absent or no finite number."""
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _cuts(events: tuple[Event, ...], full: Mapping[str, int]) -> list[Cut]:
    """Return the cuts; a rollback undoes the last one that still stands."""
    cuts: list[Cut] = []
    for event in of_run(events, OfRound):
        standing = [place for place, cut in enumerate(cuts) if not cut.undone]
        if isinstance(event, NetworkCut):
            before = cuts[standing[-1]].after if standing else full
            cuts.append(Cut(event=event, before=before, after=event.widths))
        elif isinstance(event, CutRolledBack) and standing:
            cuts[standing[-1]] = replace(cuts[standing[-1]], undone=True)
    return cuts


def _summary(folder: RunFolder, events: tuple[Event, ...]) -> Mapping[str, Any]:
    if folder.summary.exists():
        summary = read_json_object(folder.summary)
        for path, held in ((folder.events, events), (folder.summary, summary)):
            if not held:
                msg = f"{path} is missing or holds nothing, and the run has finished: "
                msg += "the file was damaged; put it back"
                raise IntegrityError(msg)
        return summary
    ends = list(of_kind(events, RunFinished))
    return ends[-1].summary if ends else {}


def _partial_summary(events: tuple[Event, ...]) -> dict[str, Any]:
    """Return the figures that the events of a run have so far."""
    out: dict[str, Any] = {}
    for started in of_kind(events, RunStarted):
        out["params_dense"] = started.params_dense
        out["flops_dense"] = started.flops_dense
        out["clients"] = started.clients
    cuts, rollbacks = of_run(events, NetworkCut), of_run(events, CutRolledBack)
    out |= {"cuts": len(cuts) - len(rollbacks)} if cuts else {}
    out |= {"rollbacks": len(rollbacks)} if rollbacks else {}
    main, control = (
        of_run(events, RoundFinished),
        of_run(events, RoundFinished, DENSE),
    )
    if main:
        last = main[-1]
        out |= {
            "bytes_up": sum(event.bytes_up for event in main),
            "bytes_down": sum(event.bytes_down for event in main),
            "rounds": last.round,
            "accuracy_final": last.accuracy,
            "refused": sum(event.refused for event in main),
            "params_final": last.params,
            "flops_final": last.flops,
        }
    if control:
        out["accuracy_control"] = control[-1].accuracy
    if control and out.get("rounds") == control[-1].round:  # else: no comparison
        out["bytes_up_control"] = sum(event.bytes_up for event in control)
        out["bytes_down_control"] = sum(event.bytes_down for event in control)
    return out
