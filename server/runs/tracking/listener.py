"""The listener that all trackers of a run share: typed events in, figures out."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from fedprune.common.artifacts import read_model_file, write_model_file
from fedprune.common.config import Config, TrackerName
from fedprune.common.text import printable
from fedprune.server.runs.events import (
    MAIN,
    Event,
    OfRound,
    RoundFinished,
    RunFinished,
    RunName,
    RunResumed,
    RunStarted,
    WarningGiven,
)
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.tracking.base import Ended, TrackedRun, Tracker
from fedprune.server.runs.tracking.feed import Feed
from fedprune.server.runs.tracking.figures import (
    figures_of,
    result_of,
    settings_of,
    without_folders,
)
from fedprune.server.runs.tracking.progress import Done, read_done
from fedprune.server.runs.tracking.registry import open_tracker

Warn: TypeAlias = Callable[[WarningGiven], None]

_LIMIT_S = 60.0  # for what is left when the run has ended


@dataclass(slots=True)
class _Followed:
    """One tracker: itself, its thread, how far it got, whether its end was told."""

    tracker: Tracker
    feed: Feed
    path: Path
    done: Done
    told: bool = False


class Tracking:
    """The trackers of a run; ``on_event`` is their listener.

    A tracker gets each round once, as soon as it is complete: a round that a resumed
    run plays again is left out.

    Args:
        folder: The run.
        config: Its configuration.
    """

    def __init__(self, folder: RunFolder, config: Config) -> None:
        self._folder = folder
        self._config = config
        self._pending: dict[RunName, dict[str, float]] = {}
        self._round = 0
        self._warn: Warn | None = None
        self._all = [
            _Followed(
                tracker=open_tracker(name),
                feed=Feed(name),
                path=folder.tracking / name,
                done=Done(folder.tracking / f"{name}.json"),
            )
            for name in dict.fromkeys(config.run.track)
        ]

    def warn_by(self, warn: Warn) -> None:
        """Set what writes a warning into the events of the run."""
        self._warn = warn

    def on_event(self, event: Event) -> None:
        """Hand an event on, and warn of each tracker that has failed by now."""
        if isinstance(event, RunStarted | RunResumed):
            self._pending.clear()
            for each in self._all:
                each.feed.put(partial(self._start, each))
        elif isinstance(event, RunFinished):
            self._put("log_result", result_of(event.summary))
        elif isinstance(event, OfRound):
            self._of_round(event)
        self._tell()

    def _of_round(self, event: OfRound) -> None:
        """Collect the figures of a round, and hand them on once it is complete."""
        self._round = event.round
        figures = figures_of(event)
        if figures:
            self._pending.setdefault(event.run, {}).update(figures)
        if isinstance(event, RoundFinished):
            values = self._pending.pop(event.run)
            for each in self._all:
                job = partial(_log_round, each, event.run, event.round, values)
                each.feed.put(job)

    def _start(self, each: _Followed) -> None:
        each.path.mkdir(parents=True, exist_ok=True)
        each.done = read_done(each.done.path)
        each.done.token = each.tracker.start(
            TrackedRun(
                run_id=self._folder.run_id,
                folder=self._folder.path.resolve(),
                place=each.path.resolve(),
                config=settings_of(self._config),
                token=each.done.token,
                rounds=dict(each.done.rounds),
            )
        )
        each.done.write()

    def _put(self, method: str, *arguments: object) -> None:
        for each in self._all:
            each.feed.put(partial(getattr(each.tracker, method), *arguments))

    def _tell(self) -> None:
        """Write one warning about each tracker that has failed."""
        for each in self._all:
            if each.feed.failure and not each.told and self._warn is not None:
                each.told = True  # first: the warning is an event, too
                text = _failed(each.feed.name, each.feed.failure)
                self._warn(WarningGiven(run=MAIN, round=self._round, text=text))

    def end(self, ended: Ended) -> None:
        """Hand over the files of the run, and wait for all trackers, a minute at most.

        The events have ended, so a failure from now on is one line on standard error.
        """
        for each in self._all:
            if ended is Ended.FINISHED:
                each.feed.put(partial(self._log_files, each.tracker))
            each.feed.put(partial(each.tracker.end, ended))
        for each in self._all:
            failure = each.feed.close(_LIMIT_S)
            if failure and not each.told:
                line = printable(_failed(each.feed.name, failure))
                sys.stderr.write(f"warning: {line}\n")

    def _log_files(self, tracker: Tracker) -> None:
        folder, sends = self._folder, tracker.sends()
        with tempfile.TemporaryDirectory(prefix="fedprune-") as place:
            network = folder.model / "final.safetensors"
            if sends and network.is_file() and _in_folders(self._config):
                network = _public(network, Path(place))
            paths = [network, folder.plan]
            # The report names the clients; network, plan and figures do not.
            if self._config.run.track_clients or not sends:
                paths.append(folder.report)
            for path in paths:
                if path.is_file():
                    tracker.log_file(path)


def _in_folders(config: Config) -> bool:
    """Return whether the network's name says where its code lies on this machine."""
    names = (config.task.model, config.task.use)
    return any(without_folders(name) != name for name in names)


def _public(network: Path, place: Path) -> Path:
    """Return a copy of a network in a folder, whose name says no folder."""
    tensors, metadata = read_model_file(network)
    name = without_folders(metadata["model"])
    write_model_file(place / network.name, tensors, {**metadata, "model": name})
    return place / network.name


@contextmanager
def tracked(folder: RunFolder, config: Config) -> Iterator[Tracking]:
    """Yield the trackers of a run; they end with the block, however it ends."""
    tracking = Tracking(folder, config)
    ended = Ended.FAILED
    try:
        yield tracking
        ended = Ended.FINISHED
    except KeyboardInterrupt:
        ended = Ended.INTERRUPTED
        raise
    finally:
        tracking.end(ended)


def _log_round(
    each: _Followed, run: RunName, round_: int, values: dict[str, float]
) -> None:
    if each.done.has(run, round_):
        return
    each.tracker.log_round(run, round_, values)
    each.done.rounds[run] = round_
    each.done.write()


def _failed(name: TrackerName | str, why: str) -> str:
    return f"the tracker {name} has failed and gets nothing more of this run: {why}"
