"""Trials that are clearly worse end early: asynchronous halving with two safeguards.

At each rung, a round after the last cut, a trial goes on if it is among the better half
of the trials that came there before it (ASHA, Li et al. 2020, arXiv:1810.05934, with a
factor of 2).  The safeguards: it also goes on unless the last one of that half is
better by more than two standard errors on the clients' validation parts; and it is
compared only with trials of the same phases whose budget is no larger, since a network
that was drawn anew, or is larger, is not worse for its accuracy at one round.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedprune.common.config import Config
from fedprune.common.errors import FedPruneError
from fedprune.server.rounds.records import Validations
from fedprune.server.runs.controls.verdict import compare, metrics_of
from fedprune.server.runs.events import (
    ClientAnswered,
    Event,
    RoundFinished,
    RunResumed,
    RunStarted,
    of_run,
    read_events,
)
from fedprune.simulations.tuning.figures import higher_is_better, mean_metric

_QUARTERS = (1, 2)  # of the final rounds, after which a trial is compared


class TrialStopped(FedPruneError):  # noqa: N818 - a decision, not an error
    """A trial is clearly worse than others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Another trial at the same rung.

    Attributes:
        number: Its number.
        found: Its validations there.
    """

    number: int
    found: Validations


def rungs(config: Config) -> tuple[int, ...]:
    """Return the rounds after which a trial of a configuration is compared, rising.

    >>> rungs(Config())
    (25, 28)
    """
    rounds = config.rounds
    head = rounds.total - rounds.final
    return tuple(sorted({head + -(-rounds.final * n // 4) for n in _QUARTERS} - {head}))


def alike(ours: Config, theirs: Config) -> bool:
    """Return whether a trial may be compared with another one at a rung."""
    same = ours.prune.restart == theirs.prune.restart
    phases = ("warmup", "sparsify", "finetune", "cuts", "final")
    same &= all(getattr(ours.rounds, p) == getattr(theirs.rounds, p) for p in phases)
    mine = ours.prune.budget.model_dump(exclude_none=True)
    other = theirs.prune.budget.model_dump(exclude_none=True)
    return same and all(other.get(kind, 1.0) <= share for kind, share in mine.items())


def clearly_worse(
    ours: Validations, rivals: Sequence[Rival], *, higher: bool
) -> Rival | None:
    """Return the rival that a trial is clearly worse than; None if it goes on.

    Args:
        ours: The trial's validations at a rung.
        rivals: Those of earlier trials.
        higher: Whether a higher metric is better.
    """
    ranked = sorted(
        (one for one in rivals if one.found.clients),
        key=lambda one: _rank(one.found, higher=higher),
    )
    better = [
        one
        for one in ranked
        if _rank(one.found, higher=higher) < _rank(ours, higher=higher)
    ]
    half = (len(ranked) + 2) // 2  # of the rivals and the trial itself, rounded up
    if not ours.clients or len(better) < half:
        return None
    last = better[half - 1]
    found = compare("", ours, last.found, higher_is_better=higher)
    return last if found is not None and found.outcome == "lost" else None


def _rank(found: Validations, *, higher: bool) -> float:
    mean = mean_metric(found) or 0.0
    return -mean if higher else mean


@dataclass(slots=True, kw_only=True)
class Watch:
    """Listener to a trial's events, which ends it where it is clearly worse.

    Attributes:
        rungs: Rounds after which it is compared.
        rivals: Returns the earlier trials that have come to a rung.
        started: Called with the run's folder when it is known.
        compared: Called with round and mean metric at each rung.
    """

    rungs: Sequence[int]
    rivals: Callable[[int], Sequence[Rival]]
    started: Callable[[Path], None]
    compared: Callable[[int, float], None]
    _folder: Path | None = None

    def on_event(self, event: Event) -> None:
        """Receive one event of the run.

        Raises:
            TrialStopped: With the round and the rival.
        """
        if isinstance(event, RunStarted | RunResumed):
            self._folder = Path(event.directory)
            self.started(self._folder)
        # The figures of a round are those of the broadcast that opened it.
        if isinstance(event, RoundFinished) and event.round - 1 in self.rungs:
            self._compare(event.round)

    def _compare(self, round_: int) -> None:
        if self._folder is None:
            return
        events = read_events(self._folder / "events.jsonl")
        ours = at_round(events, round_)
        mean = mean_metric(ours)
        if mean is None:
            return
        self.compared(round_ - 1, mean)
        worse = clearly_worse(
            ours, self.rivals(round_), higher=higher_is_better(events)
        )
        if worse is not None:
            theirs = mean_metric(worse.found)
            msg = f"after round {round_ - 1} clearly worse than trial {worse.number}: "
            msg += f"{mean:.4f} against {theirs:.4f}"
            raise TrialStopped(msg)


def at_round(events: Sequence[Event], round_: int) -> Validations:
    """Return what clients validated in a round of a run, maybe nothing."""
    return metrics_of(of_run(events, ClientAnswered), round_)
