"""What a report knows of one run: its folder, read once.

A run that is not finished has fewer events and no summary; nothing here fails for
that, a figure that is unknown is None.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from fedprune.common.errors import IntegrityError
from fedprune.common.text import printable
from fedprune.server.runs.events import CONTROL, MAIN, read_events
from fedprune.server.runs.folder import RunFolder, read_json_object

Event: TypeAlias = Mapping[str, Any]


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

    event: Event
    before: Mapping[str, int]
    after: Mapping[str, int]
    undone: bool = False

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks that it dropped."""
        found = self.event.get("blocks")
        return [str(name) for name in found] if isinstance(found, list) else []

    @property
    def stands(self) -> bool:
        """Whether it took something away and was not rolled back."""
        return not self.undone and self.after != self.before


@dataclass(frozen=True, kw_only=True)
class RunData:
    """One run as its folder tells it.

    Attributes:
        path: The folder.
        manifest: Its manifest.
        config: Text of its configuration.
        events: All events in order.
        summary: The figures of a finished run; of an unfinished one those that its
            events tell.
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
    def title(self) -> str:
        """Name of the run without the time that it begins with."""
        return re.sub(r"^\d{4}-\d\d-\d\dT[\d-]{8}-", "", self.name)

    @cached_property
    def started(self) -> Event:
        """The first event, empty when it never came."""
        return next(self.of("run_started"), {})

    @cached_property
    def groups(self) -> Mapping[str, int]:
        """Channels of each group of the original network, empty when unknown."""
        return _widths(self.started, "groups")

    @cached_property
    def measure(self) -> str:
        """Which accuracy the run measured by round: on test or validation data."""
        rounds = [*self.rounds(MAIN), *self.rounds(CONTROL)]
        tested = any(number(event, "accuracy") is not None for event in rounds)
        return "accuracy" if tested else "validation_accuracy"

    @property
    def metric(self) -> str:
        """What "accuracy" means in this run: "accuracy" or "r2"."""
        config = self.started.get("config")
        task = config.get("task") if isinstance(config, Mapping) else None
        loss = task.get("loss") if isinstance(task, Mapping) else None
        return str(self.summary.get("metric", "r2" if loss == "mse" else "accuracy"))

    def of(self, kind: str) -> Iterator[Event]:
        """Yield the events of one kind in order."""
        return (event for event in self.events if event["event"] == kind)

    def rounds(self, run: str = MAIN) -> list[Event]:
        """Return the round events of "main" or "control"."""
        return [event for event in self.of("round") if event.get("run", MAIN) == run]

    def clients(self, run: str = MAIN) -> list[Event]:
        """Return the client events of "main" or "control"."""
        return [event for event in self.of("client") if event.get("run", MAIN) == run]

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Every cut in order, with the widths it started from."""
        return tuple(_cuts(self.events, self.groups))

    def curve(self, run: str = MAIN) -> list[Point]:
        """Return accuracy by rounds and by bytes.

        A round event tells the accuracy of the broadcast that OPENED the round, so it
        stands at the rounds and the bytes before it; the accuracy of the last network
        comes from the summary.
        """
        points, sent, last = [], 0.0, 0
        for event in self.rounds(run):
            last = int(number(event, "round") or last + 1)
            accuracy = number(event, self.measure)
            if accuracy is not None:
                points.append(Point(rounds=last - 1, accuracy=accuracy, bytes_up=sent))
            sent += number(event, "bytes_up") or 0
        final = number(
            self.summary, "accuracy_final" if run == MAIN else "accuracy_control"
        )
        if self.finished and final is not None and last and self.measure == "accuracy":
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
    config = ""
    if folder.config.exists():  # shown, not read: what is no UTF-8 is replaced
        config = folder.config.read_text(encoding="utf-8", errors="replace")
    summary = _summary(folder, events)
    partial = _partial_summary(events)
    return RunData(
        path=path,
        manifest=folder.read_manifest(),
        config=config,
        events=events,
        summary={**partial, **summary},
        finished=bool(summary),
    )


def number(source: Mapping[str, Any], key: str) -> float | None:
    """Return a number of an event or summary, None when absent or no finite number."""
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _widths(event: Event, key: str) -> dict[str, int]:
    """Return channels by group; nothing where the event has none.

    Raises:
        IntegrityError: If they are no counts: the log was changed.
    """
    found = event.get(key)
    if not isinstance(found, Mapping):
        return {}
    for name, width in found.items():
        if type(width) is not int or width < 0:
            msg = f"events.jsonl: '{key}' of a '{printable(event['event'])}' event says"
            msg += f" {printable(repr(width), 60)} for '{printable(name)}'; want a"
            msg += " count of channels"
            raise IntegrityError(msg)
    return dict(found)


def _cuts(events: tuple[Event, ...], full: Mapping[str, int]) -> list[Cut]:
    """Return the cuts; a rollback undoes the last one that still stands."""
    cuts: list[Cut] = []
    for event in events:
        standing = [place for place, cut in enumerate(cuts) if not cut.undone]
        if event["event"] == "cut":
            before = cuts[standing[-1]].after if standing else full
            after = _widths(event, "widths")
            cuts.append(Cut(event=event, before=before, after=after))
        elif event["event"] == "rollback" and standing:
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
    ends = [event for event in events if event["event"] == "run_finished"]
    summary = ends[-1].get("summary", {}) if ends else {}
    if not isinstance(summary, Mapping):
        msg = f"{folder.events}: run_finished holds no summary object"
        raise IntegrityError(msg)
    return summary


def _partial_summary(events: tuple[Event, ...]) -> dict[str, Any]:
    """Return what the events alone tell of a run so far."""
    out: dict[str, Any] = {}
    for event in events:
        if event["event"] == "run_started":
            out["params_dense"] = event.get("params_dense")
            out["flops_dense"] = event.get("flops_dense")
            out["clients"] = event.get("clients")
        elif event["event"] == "round":
            _add_round(out, event)
        elif event["event"] in ("cut", "rollback"):
            name = f"{event['event']}s"
            out[name] = out.get(name, 0) + 1
    if out.pop("rounds_control", None) != out.get("rounds"):
        for key in ("bytes_up_control", "bytes_down_control"):
            out.pop(key, None)  # of fewer rounds: no comparison
    return out


def _add_round(out: dict[str, Any], event: Event) -> None:
    control = event.get("run", MAIN) == CONTROL
    end = "_control" if control else ""
    for key in ("bytes_up", "bytes_down"):
        out[key + end] = out.get(key + end, 0) + (number(event, key) or 0)
    out["rounds" + end] = event.get("round")
    out["accuracy_control" if control else "accuracy_final"] = event.get("accuracy")
    if control:
        return
    out["refused"] = out.get("refused", 0) + (number(event, "refused") or 0)
    out["params_final"] = event.get("params")
    out["flops_final"] = event.get("flops")
