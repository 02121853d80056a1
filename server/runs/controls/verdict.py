"""The verdict: which network the clients' validation parts prefer, and how surely.

Compared is what each client measured in the closing rounds, as the guard compares two
broadcasts (``server/rounds/steps/comparison.py``): client by client on the same
examples, or the two means where the closing rounds asked mostly other clients.  Test
figures decide nothing.  The error is that of one run: another seed would give other
networks.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from fedprune.server.rounds.records import Measured, Validations, validations_from
from fedprune.server.rounds.steps.comparison import compare_metrics
from fedprune.server.runs.controls.names import FRESH, SIZED, kind_of, of_equal_bytes
from fedprune.server.runs.events import ClientAnswered, Event, RunName, of_run

Outcome = Literal["won", "lost", "not resolved"]
_ERRORS = 2.0  # standard errors within which a difference is not resolved
_FEWEST = 2  # clients that a standard error needs
_UNBOUNDED = 0.0  # no client of a simulation reports a false figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A run against one of its controls on the clients' validation parts.

    Attributes:
        control: Name of the control.
        run_value: Mean metric of the run's final network.
        control_value: That of the control's.
        difference: How much better the run is; below 0 = worse.
        standard_error: Of the difference; inf with fewer than two clients.
        clients: Clients that count: those that measured both, or the smaller cohort.
        paired: Whether each client is compared with itself.
    """

    control: str
    run_value: float
    control_value: float
    difference: float
    standard_error: float
    clients: int
    paired: bool = True

    @property
    def outcome(self) -> Outcome:
        """Win or loss of the run, where it is above two standard errors."""
        if abs(self.difference) <= _ERRORS * self.standard_error:
            return "not resolved"
        return "won" if self.difference > 0.0 else "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Result of the comparisons; each text is "" where nothing was compared.

    Attributes:
        equal_size: One sentence on the controls of the final network's size.
        equal_bytes: One sentence on the controls of the run's bytes.
        pick: The control of the final network's size that is the best guess; "" = the
            run itself.
        advice: What to do if a small network from scratch won.
        comparisons: The comparisons themselves.
    """

    equal_size: str
    equal_bytes: str
    pick: str
    advice: str
    comparisons: tuple[Comparison, ...]


def closing_metrics(events: Sequence[Event], run: RunName) -> Validations:
    """Return the validations of the closing round of one federation."""
    answers = of_run(events, ClientAnswered, run)
    return metrics_of(answers, max((event.round for event in answers), default=0))


def metrics_of(answers: Iterable[ClientAnswered], round_: int) -> Validations:
    """Return the validations of one round of a federation.

    Args:
        answers: The outcomes of its clients, of this round and maybe of others.
        round_: The round.
    """
    # By client: several attempts of the round measured the same network.
    found = {
        event.client: Measured(
            client=event.client,
            loss=event.validation_loss or 0.0,  # not compared
            metric=event.validation_metric,
            count=event.validation_examples,
        )
        for event in answers
        if event.round == round_ and event.validation_metric is not None
    }
    return validations_from(found.values())


def compare(
    name: str, ours: Validations, theirs: Validations, *, higher_is_better: bool
) -> Comparison | None:
    """Return the comparison with one control; None where one has no validation."""
    found = compare_metrics(theirs, ours, _UNBOUNDED, higher=higher_is_better)
    if found is None:
        return None
    return Comparison(
        control=name,
        run_value=found.after,
        control_value=found.before,
        difference=found.rise if higher_is_better else -found.rise,
        standard_error=found.error if found.clients >= _FEWEST else inf,
        clients=found.clients,
        paired=found.paired,
    )


def verdict_of(
    comparisons: Sequence[Comparison],
    metric: str,
    *,
    restarted: bool,
    smaller: bool = True,
    capped: Collection[str] = (),
) -> Verdict:
    """Return the verdict on a run.

    Args:
        comparisons: Those that could be made.
        metric: Name of the metric.
        restarted: Whether the run itself drew fresh weights after its last cut.
        smaller: Whether a cut of it stands: else no control is a small network.
        capped: Controls that ended at the largest number of rounds, before the bytes
            were spent: a win of the run over one of them is none at equal bytes.
    """
    by_bytes = [
        one
        for one in comparisons
        if of_equal_bytes(one.control)
        and not (one.control in capped and one.outcome == "won")
    ]
    sized = [one for one in comparisons if one.control in SIZED]
    lost = [one for one in (*sized, *by_bytes) if one.outcome == "lost"]
    fresh = any(kind_of(one.control) in FRESH for one in lost)
    return Verdict(
        equal_size=_sentence("At equal size", sized, metric),
        equal_bytes=_sentence("At equal bytes", by_bytes, metric, capped),
        pick=picked(sized),
        advice=_advice(restarted=restarted) if fresh and smaller else "",
        comparisons=tuple(comparisons),
    )


def picked(found: Collection[Comparison]) -> str:
    """Return the control that is the best guess; "" = the run itself.

    One that surely won comes first.  Where none did, the best mean decides: to take the
    run unless it surely lost would favour our own method.
    """
    sure = [one for one in found if one.outcome == "lost"]
    ahead = sure or [one for one in found if one.difference < 0.0]
    return min(ahead, key=lambda one: one.difference).control if ahead else ""


def _sentence(
    where: str,
    found: Sequence[Comparison],
    metric: str,
    capped: Collection[str] = (),
) -> str:
    """Return one sentence: who won, or that it is not resolved."""
    if not found:
        return ""
    # One that surely won comes first, whatever larger difference is not resolved.
    told = {one.outcome for one in found}
    order: tuple[Outcome, ...] = ("lost", "not resolved", "won")
    outcome = next(one for one in order if one in told)
    of_it = [one for one in found if one.outcome == outcome]
    hardest = min(of_it, key=lambda one: one.difference)
    if outcome == "lost":
        return f"{where} {hardest.control} won: {_figures(hardest, metric)}."
    if outcome == "not resolved":
        text = f"{where} it is not resolved whether this run or {hardest.control} is "
        text += f"better: {_figures(hardest, metric)}."
        return f"{text}  {_better(hardest, capped)}".rstrip()
    rest = ", the best of the others" if len(found) > 1 else ""
    text = f"{where} this run won against {hardest.control}{rest}: "
    return f"{text}{_figures(hardest, metric)}."


def _better(one: Comparison, capped: Collection[str]) -> str:
    """Return whose mean is better; "" where the control ended with fewer bytes."""
    if one.difference == 0.0:
        return "Both means are equal."
    if one.difference < 0.0:
        return f"The better mean is that of {one.control}."
    return "" if one.control in capped else "The better mean is that of this run."


def _figures(one: Comparison, metric: str) -> str:
    """Return both values, the difference and its error on the validation parts."""
    error = f"{one.standard_error:.4f}" if one.standard_error < inf else "unknown"
    whose = "" if one.paired else ", mostly other ones for each"
    return (
        f"{metric} {one.control_value:.4f} against {one.run_value:.4f} of this run on "
        f"the validation parts of {one.clients} clients{whose} (difference "
        f"{abs(one.difference):.4f}, standard error {error})"
    )


def _advice(*, restarted: bool) -> str:
    text = "A small network from scratch does better here"
    if restarted:
        return f'{text} although prune.restart = "fresh" is set: cut earlier'
    small = "start with a small network, or draw fresh weights (prune.restart = "
    small += '"fresh") behind a short dense phase and one cut'
    return f"{text}: {small}"
