"""A search: the dense reference, then one trial after another, each a run of its own.

Nothing of it reads a figure of the test data: trials do not evaluate on them, and the
choice goes by the clients' validation parts.  A trial uses all cores by its own
engine, so trials run one at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from fedprune.common.config import Config, load_config
from fedprune.common.errors import FedPruneError
from fedprune.common.system.lock import hold
from fedprune.common.text import error_line, one_line
from fedprune.server.runs.controls.settings import dense_config
from fedprune.server.runs.events import (
    RunResumed,
    RunStarted,
    has_started,
    read_events,
)
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.runs import run as runs
from fedprune.simulations.runs.progress import Progress
from fedprune.simulations.tuning.choice import chosen, cost
from fedprune.simulations.tuning.figures import (
    closing_accuracy,
    higher_is_better,
    measured,
)
from fedprune.simulations.tuning.folder import BASE, write_recommended
from fedprune.simulations.tuning.page import write_page
from fedprune.simulations.tuning.record import (
    Record,
    Reference,
    Trial,
    write_record,
)
from fedprune.simulations.tuning.sampler import Seen, next_point
from fedprune.simulations.tuning.space import Space, point_text
from fedprune.simulations.tuning.stopping import (
    Rival,
    TrialStopped,
    Watch,
    alike,
    at_round,
    rungs,
)
from fedprune.simulations.tuning.target import parse_target

_ALIKE = 3  # trials in a row that fail with one reason end a search

# No figure of the test data, nothing beside the run, and no end but its own.
_QUIET: Mapping[str, object] = {
    "run.controls": [],
    "run.evaluate_every": 0,
    "run.limit_s": 0.0,
    "run.profile": False,
}


@dataclass(slots=True, kw_only=True)
class Search:
    """A search in its folder.

    Attributes:
        folder: The folder.
        record: Its record so far.
        say: Receives a line for each step.
        ray_address: An existing Ray cluster, or "" for a local one.
        trust_code: Whether run folders may name code that no command here started.
        space: The space that is searched.
    """

    folder: Path
    record: Record
    say: Callable[[str], None]
    ray_address: str = ""
    trust_code: bool = False
    space: Space = field(init=False)

    def __post_init__(self) -> None:
        base = load_config(self.folder / BASE)
        self.space = Space(base=base, target=parse_target(self.record.target))

    def run(self) -> Record:
        """Run the trials that are left, and return the record.

        Raises:
            FedPruneError: If the dense reference fails, which everything is compared
                with; a trial that fails is only noted.  Or if three in a row fail
                alike while more are to come: no settings are the cause of that.
            ConfigError: If another process runs this search.
        """
        with hold(self.folder / ".lock", advice="wait for it, or stop it"):
            self._reference()
            while len(self.record.ended) < self.record.trials_wanted:
                self._trial()
                self._check_alike()
            self._choose()
        return self.record

    def _check_alike(self) -> None:
        """End the search where the trials that are left would fail as the last ones."""
        last = self.record.trials[-_ALIKE:]
        failed = [one.reason for one in last if one.status == "failed"]
        left = self.record.trials_wanted - len(self.record.ended)
        if left and len(failed) == _ALIKE and len(set(failed)) == 1:
            msg = f"{_ALIKE} trials in a row failed alike: {failed[0]}; mend the cause "
            msg += f"and go on with: fedprune tune --resume {quote(str(self.folder))}"
            raise FedPruneError(msg)

    def _reference(self) -> None:
        """Run the dense network, unless it has run."""
        if self.record.reference.finished:
            return
        base = load_config(self.folder / BASE, {**_QUIET, **self._place("dense")})
        dense = dense_config(base, base.rounds.total + 1)
        pruning = dense.prune.model_copy(update={"blocks": 0})
        self.say("the dense network, which all trials are compared with")
        name = self._play(
            dense.model_copy(update={"prune": pruning}),
            self.record.reference.run,
            _Started(self._noted_reference),
        )
        accuracy = closing_accuracy(self.folder / name)
        found = Reference(run=name, finished=True, accuracy=accuracy)
        self._write(self.record.model_copy(update={"reference": found}))

    def _noted_reference(self, run: Path) -> None:
        found = Reference(run=run.name)
        self._write(self.record.model_copy(update={"reference": found}))

    def _trial(self) -> None:
        """Run one trial to its end: one that was interrupted, or a new one."""
        space, trials = self.space, self.record.trials
        trial = next((one for one in trials if one.status == "running"), None)
        if trial is None:
            dense = self.folder / self.record.reference.run / "events.jsonl"
            higher = higher_is_better(read_events(dense))
            seen = [self._seen(one, higher=higher) for one in trials]
            point = next_point(space, seen, space.base.run.seed)
            trial = Trial(number=len(trials) + 1, point=dict(point))
            self._write(self.record.with_trial(trial))
        count = f"{trial.number}/{self.record.trials_wanted}"
        self.say(f"trial {count}: {point_text(trial.point)}")
        ended = self._ended(space, trial)
        self._write(self.record.with_trial(ended))
        self._choose()
        self.say(f"trial {count}: {_outcome(ended)}")

    def _ended(self, space: Space, trial: Trial) -> Trial:
        """Play a trial and return it with its figures, or the reason of its end."""
        noted = _Noted(search=self, trial=trial)
        change: dict[str, object]
        try:
            config = self._config(space, trial)
            watch = Watch(
                rungs=rungs(config),
                rivals=lambda round_: self._rivals(space, config, trial, round_),
                started=noted.started,
                compared=noted.compared,
            )
            name = self._play(config, trial.run, watch)
            reference = self.folder / self.record.reference.run
            figures = measured(self.folder / name, reference)
            change = {"status": "done", "figures": figures}
        except TrialStopped as end:
            change = {"status": "stopped", "reason": one_line(end)}
        except FedPruneError as error:
            change = {"status": "failed", "reason": one_line(error)}
        except Exception as error:  # one that fails is not the end
            change = {"status": "failed", "reason": error_line(error)}
        return noted.trial.model_copy(update=change)

    def _rivals(
        self, space: Space, config: Config, trial: Trial, round_: int
    ) -> list[Rival]:
        """Return the earlier trials that may be compared at a rung."""
        return [
            Rival(number=one.number, found=at_round(events, round_))
            for one in self.record.trials
            if one.number < trial.number and one.run and one.status != "failed"
            if alike(config, self._config(space, one))
            for events in (read_events(self.folder / one.run / "events.jsonl"),)
        ]

    def _seen(self, trial: Trial, *, higher: bool) -> Seen:
        target = parse_target(self.record.target)
        figures = trial.figures
        status = trial.status
        return Seen(
            point=trial.point,
            status="failed" if status == "running" else status,
            cost=None if figures is None else cost(figures, target),
            rungs={n: mean if higher else -mean for n, mean in trial.rungs},
        )

    def _config(self, space: Space, trial: Trial) -> Config:
        settings = {**space.settings(trial.point), **_QUIET}
        place = self._place(f"trial-{trial.number:03d}")
        return load_config(self.folder / BASE, {**settings, **place})

    def _place(self, name: str) -> dict[str, object]:
        return {"run.dir": str(self.folder), "run.name": name}

    def _play(self, config: Config, name: str, progress: Progress) -> str:
        """Run a configuration, or resume its run folder; return the folder's name."""
        folder = self.folder / name
        if name and folder.is_dir() and has_started(RunFolder.open(folder).events):
            result = runs.resume(
                folder,
                ray_address=self.ray_address,
                progress=progress,
                trust_code=self.trust_code,
            )
        else:
            result = runs.run(config, ray_address=self.ray_address, progress=progress)
        return result.directory.name

    def _choose(self) -> None:
        """Write the choice so far, and the TOML file that it recommends."""
        target = parse_target(self.record.target)
        self._write(chosen(self.record, target))
        write_recommended(self.folder, self.space, self.record)
        write_page(self.folder, self.record)

    def _write(self, record: Record) -> None:
        self.record = record
        write_record(self.folder, record)

    def note(self, trial: Trial) -> None:
        """Write what is known of a trial on its way."""
        self._write(self.record.with_trial(trial))


@dataclass(slots=True)
class _Started:
    """Listener that is told the run's folder."""

    started: Callable[[Path], None]

    def on_event(self, event: object) -> None:
        """Receive one event."""
        if isinstance(event, RunStarted | RunResumed):
            self.started(Path(event.directory))


@dataclass(slots=True, kw_only=True)
class _Noted:
    """A trial on its way, written as it goes on."""

    search: Search
    trial: Trial

    def started(self, run: Path) -> None:
        """Note the run's folder."""
        self._note(run=run.name)

    def compared(self, round_: int, mean: float) -> None:
        """Note the figure of a rung."""
        before = [one for one in self.trial.rungs if one[0] != round_]
        self._note(rungs=(*before, (round_, mean)))

    def _note(self, **change: object) -> None:
        self.trial = self.trial.model_copy(update=change)
        self.search.note(self.trial)


def _outcome(trial: Trial) -> str:
    figures = trial.figures
    if figures is None:
        return f"{trial.status}: {trial.reason}"
    error = "" if figures.error is None else f" +- {figures.error:.2f}"
    shares = _shares(
        [("params", figures.params), ("size", figures.size), ("bytes", figures.bytes)]
    )
    return f"accuracy_drop {figures.drop:.2f}{error} points, {shares}"


def _shares(found: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in found)
