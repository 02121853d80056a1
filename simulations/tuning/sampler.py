"""The next point of a search: a tree-structured Parzen estimator (TPE) of Optuna.

The sampler is made anew for each trial, from all trials before it and a seed of its
number.  So nothing of Optuna's is stored, and a search that was stopped draws the
points that it would have drawn.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from fedprune.common.errors import ConfigError
from fedprune.common.text import not_installed
from fedprune.simulations.tuning.space import (
    Choice,
    Dimension,
    Point,
    Space,
    Value,
    has,
)

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial

_RANDOM = 6  # first trials that are no guide yet
_SEEDS = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An earlier trial, as the sampler knows it.

    Attributes:
        point: Its point.
        status: "done"; "stopped" = clearly worse; "failed" = as bad as can be.
        cost: Of a trial that is done: smaller is better.
        rungs: Of one that was stopped: round -> mean metric, negative where a lower
            one is better.
    """

    point: Point
    status: Literal["done", "stopped", "failed"]
    cost: float | None = None
    rungs: Mapping[int, float]


def check_sampler() -> None:
    """Refuse an installation without Optuna.

    Raises:
        ConfigError: With the command that installs it.
    """
    if find_spec("optuna") is None:
        raise ConfigError(not_installed("fedprune tune", "optuna", "tune"))


def next_point(space: Space, seen: Sequence[Seen], seed: int) -> Point:
    """Return the point of the next trial: the first ones of the space, then TPE's.

    Args:
        space: The space.
        seen: All earlier trials, in order.
        seed: Seed of the search.
    """
    first = space.first()
    if len(seen) < len(first):
        return first[len(seen)]
    import optuna  # noqa: PLC0415 - it is an extra

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    drawn = (seed * 1_000_003 + len(seen)) % _SEEDS
    sampler = optuna.samplers.TPESampler(seed=drawn, n_startup_trials=_RANDOM)
    study = optuna.create_study(sampler=sampler, direction="minimize")
    study.add_trials(_as_trial(space, one) for one in seen)
    trial = study.ask()
    point: dict[str, Value] = {}
    for one in space.dimensions(point):
        point[one.key] = _asked(trial, one)
    return point


def _asked(trial: "Trial", dimension: Dimension) -> Value:
    if isinstance(dimension, Choice):
        return str(trial.suggest_categorical(dimension.key, dimension.values))
    drawn = trial.suggest_float(dimension.key, dimension.low, dimension.high, log=True)
    # Three digits: a TOML file that somebody reads.
    rounded = float(f"{drawn:.3g}")
    return min(max(rounded, dimension.low), dimension.high)


def _as_trial(space: Space, seen: Seen) -> "FrozenTrial":
    """Return an earlier trial as Optuna's; one without a cost was worse than all."""
    from optuna.trial import TrialState, create_trial  # noqa: PLC0415

    known = [d for d in space.dimensions(seen.point) if _knows(d, seen.point)]
    done = seen.status == "done" and seen.cost is not None
    return create_trial(
        state=TrialState.COMPLETE if done else TrialState.PRUNED,
        value=seen.cost if done else None,
        params={one.key: seen.point[one.key] for one in known},
        distributions=dict(_distributions(known)),
        intermediate_values={step: -value for step, value in seen.rungs.items()},
    )


def _knows(dimension: Dimension, point: Point) -> bool:
    return dimension.key in point and has(dimension, point[dimension.key])


def _distributions(
    dimensions: Iterable[Dimension],
) -> "Iterable[tuple[str, BaseDistribution]]":
    from optuna import distributions  # noqa: PLC0415

    made: Any
    for one in dimensions:
        if isinstance(one, Choice):
            made = distributions.CategoricalDistribution(one.values)
        else:
            made = distributions.FloatDistribution(one.low, one.high, log=True)
        yield one.key, made
