"""The choice among trials: their order, the Pareto set, the advice."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from fedprune.simulations.tuning.record import Figures, Record, Trial
from fedprune.simulations.tuning.space import starts_small
from fedprune.simulations.tuning.target import DROP, Target

_Axes: TypeAlias = tuple[float, float, float]

_FAR = 1e6  # cost of a figure that is not known
_MISSED = 1e3  # more than any cost of a trial that meets its target
_ERRORS = 2.0  # standard errors within which a difference is not resolved


def cost(figures: Figures, target: Target) -> float:
    """Return what a search makes small.

    First how far the target is missed, then, where it is met: the size if the target
    says how much accuracy may be lost, else the loss of accuracy.

    Args:
        figures: Of a trial that is done.
        target: The target.
    """
    excess = target.excess(figures.by_name)
    if excess > 0.0:
        return _FAR if math.isinf(excess) else min(_MISSED + excess, _FAR)
    if not target.bounds_accuracy:
        return figures.drop
    named = [figures.by_name[name] for name in target.sizes] or [figures.params]
    known = [share for share in named if share is not None]
    return sum(known) / len(known)


def chosen(record: Record, target: Target) -> Record:
    """Return the record with the Pareto set, the recommended trial and the advice."""
    done = [one for one in record.trials if one.figures is not None]
    best = min(done, key=lambda one: _order(one, target), default=None)
    return record.model_copy(
        update={
            "pareto": tuple(one.number for one in pareto(done)),
            "recommended": best.number if best is not None else None,
            "meets_target": best is not None and _meets(best, target),
            "advice": " ".join(_advice(best, done, target)),
        }
    )


def pareto(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that no other one beats, smallest first.

    One beats another if it is no worse in parameters, accuracy and bytes, and better
    in one of them; of equal ones the first counts.
    """
    found: dict[_Axes, Trial] = {}
    for one in trials:
        if one.figures is not None:
            found.setdefault(_axes(one.figures), one)
    return [
        one
        for axes, one in sorted(found.items(), key=lambda item: item[0])
        if not any(_beats(other, axes) for other in found)
    ]


def _axes(figures: Figures) -> _Axes:
    return (figures.params, figures.drop, figures.bytes)


def _beats(one: _Axes, other: _Axes) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _order(trial: Trial, target: Target) -> tuple[float, ...]:
    """Return the rank of a trial that is done: its cost, then accuracy and bytes."""
    figures = trial.figures
    if figures is None:
        return (math.inf,)
    return (cost(figures, target), figures.drop, figures.bytes, trial.number)


def _meets(trial: Trial, target: Target) -> bool:
    figures = trial.figures
    return figures is not None and target.excess(figures.by_name) == 0.0


def _advice(best: Trial | None, done: Sequence[Trial], target: Target) -> list[str]:
    if best is None or best.figures is None:
        return ["No trial has come to its end."]
    found = []
    if not _meets(best, target):
        missed = ", ".join(_missed(best.figures, target))
        found.append(f"No trial meets the target; the nearest one misses {missed}.")
    if starts_small(best.point):
        found.append(
            "Start small: fresh weights of the final widths do best here, so the "
            "recommended run has a short dense phase, one cut, and trains the small "
            'network from the start (prune.restart = "fresh").'
        )
    elif any(starts_small(one.point) for one in done):
        found.append("To start small was tried and does less well here.")
    return [*found, *_not_resolved(best.figures, target)]


def _not_resolved(figures: Figures, target: Target) -> list[str]:
    """Return a sentence where validation does not tell whether accuracy is enough."""
    bound, drop = target.bounds.get(DROP), figures.drop
    if bound is None:
        return []
    if figures.error is None:
        return [f"Too few clients validated for an error of {DROP}."]
    if abs(drop - bound) > _ERRORS * figures.error:
        return []
    text = f"{DROP} is {drop:.2f} points with a standard error of {figures.error:.2f}: "
    text += f"whether it is below {bound:g} is not resolved; more validation examples "
    return [f"{text}(client.validation) or another seed would tell."]


def _missed(figures: Figures, target: Target) -> list[str]:
    """Return the bounds that are exceeded, each with the value found."""
    values = figures.by_name
    return [
        f"{name}<={bound:g} (found {'nothing' if value is None else f'{value:.3g}'})"
        for name, bound in target.bounds.items()
        for value in (values[name],)
        if value is None or value > bound
    ]
