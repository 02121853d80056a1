"""The space of a search: which keys are tried, with which values.

Each dimension is a key of the configuration but for ``WIDTHS``, the factor on the
budget.  A point names a value for each dimension that its other values leave open: a
network that starts small has no penalty and one cut, so no schedule.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from fedprune.common.config import Config, penalty_of
from fedprune.simulations.tuning.target import SIZES, Target

Value: TypeAlias = str | float
Point: TypeAlias = Mapping[str, Value]

RESTART: Final = "prune.restart"
WIDTHS: Final = "widths"
_PENALTY, _STRENGTH = "client.penalty", "client.strength"
_SCHEDULE, _IMPORTANCE = "prune.schedule", "prune.importance"
_VALUES, _STEP_ERROR = "update.values", "update.step_error"
_STEP = "step"
_SHORT = 10  # of the rounds, one in so many comes before the cut of a small start
_FEWEST = 4  # rounds that a small start needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A dimension of names.

    Attributes:
        key: Its key.
        values: The names that are tried.
    """

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A dimension of numbers, tried evenly over their logarithm.

    Attributes:
        key: Its key.
        low: Least value, > 0.
        high: Greatest value, > low.
    """

    key: str
    low: float
    high: float


Dimension: TypeAlias = Choice | Range

_START = Choice(key=RESTART, values=("keep", "fresh"))
_OF_CUTS = (
    Choice(key=_SCHEDULE, values=("cubic", "geometric", "linear")),
    Choice(key=_PENALTY, values=("bn-l1+group", "group", "targeted-dropout", "none")),
)
_HOW_STRONG = Range(key=_STRENGTH, low=0.1, high=0.9)
_CRITERION = Choice(key=_IMPORTANCE, values=("taylor", "fisher", "l2"))
_QUANTISER = Choice(key=_VALUES, values=(_STEP, "int8"))
_HOW_FINE = Range(key=_STEP_ERROR, low=0.04, high=0.4)
# With a bound on accuracy smaller is better; without one on sizes larger is allowed.
_SMALLER = Range(key=WIDTHS, low=0.25, high=1.0)
_ANY_SIZE = Range(key=WIDTHS, low=0.25, high=2.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The space of one search.

    Attributes:
        base: The configuration that a point changes.
        target: What is wanted: its sizes are the budget.
    """

    base: Config
    target: Target

    @property
    def can_start_small(self) -> bool:
        """True if fresh weights of the final widths can be tried.

        The guard of ``prune.max_accuracy_drop`` does not look at such a cut.
        """
        enough = self.base.rounds.total >= _FEWEST
        return enough and self.base.prune.max_accuracy_drop is None

    def dimensions(self, point: Point) -> Iterator[Dimension]:
        """Yield the dimensions in order; a later one may depend on the values before.

        Args:
            point: The values so far, at least those of the dimensions yielded before.
        """
        if self.can_start_small:
            yield _START
        if not starts_small(point):
            yield from map(self._with_own, _OF_CUTS)
            if point.get(_PENALTY) != "none":
                yield _HOW_STRONG
        yield self._with_own(_CRITERION)
        yield self._with_own(_QUANTISER)
        if point.get(_VALUES) == _STEP:
            yield _HOW_FINE
        if self.target.bounds_accuracy:
            yield _SMALLER if self.target.sizes else _ANY_SIZE

    def _with_own(self, choice: Choice) -> Choice:
        """Return a dimension that has the base's own name too."""
        own = value_of(self.base, choice.key)
        if not isinstance(own, str) or own in choice.values:
            return choice
        return replace(choice, values=(*choice.values, own))

    def first(self) -> list[Point]:
        """Return the points that are tried before any is drawn.

        The configuration itself within the target's sizes, then the same that starts
        small, so that neither depends on a draw.
        """
        own = self._own({})
        return [own, self._own({RESTART: "fresh"})] if self.can_start_small else [own]

    def _own(self, start: Point) -> Point:
        """Return a point with the base's own values for the rest, where it has them."""
        point = dict(start)
        for one in self.dimensions(point):
            value = value_of(self.base, one.key)
            if one.key not in point and has(one, value):
                point[one.key] = value
        return point

    def holds(self, point: Point) -> bool:
        """Return whether a point lies in this space, which a record may only claim."""
        known = {one.key: one for one in self.dimensions(point)}
        return all(
            key in known and has(known[key], value) for key, value in point.items()
        )

    def settings(self, point: Point) -> dict[str, object]:
        """Return the keys that a point sets, as ``load_config`` takes them.

        Args:
            point: A point of this space.
        """
        found: dict[str, object] = {k: v for k, v in point.items() if k != WIDTHS}
        factor = float(point.get(WIDTHS, 1.0))
        found["prune.budget"] = self._budget(factor)
        return found | self._small_start() if starts_small(point) else found

    def _budget(self, factor: float) -> dict[str, float]:
        """Return the target's sizes, or else the base's budget, times a factor."""
        sizes = {SIZES[name]: bound for name, bound in self.target.sizes.items()}
        given = sizes or self.base.prune.budget.model_dump(exclude_none=True)
        return {kind: min(share * factor, 1.0) for kind, share in given.items()}

    def _small_start(self) -> dict[str, object]:
        """Return the keys of a small start: a short dense phase, a cut, fresh weights.

        It has as many rounds as the base.
        """
        rounds, mask = self.base.rounds, self.base.prune.mask
        warmup = min(rounds.warmup, max(rounds.total // _SHORT, 1))
        found: dict[str, object] = {
            "rounds.warmup": warmup,
            "rounds.sparsify": 1,
            "rounds.cuts": 1,
            "rounds.finetune": 0,
            "rounds.final": rounds.total - warmup - 1,
            "prune.step_cap": 1.0,
            _PENALTY: "none",
            _STRENGTH: 0.0,
        }
        # No mask is chosen by weights that were just drawn.
        late = (
            {"prune.mask.begin": 2} if mask.kind != "none" and mask.begin == 1 else {}
        )
        return found | late


def starts_small(point: Point) -> bool:
    """Return whether a point draws fresh weights of its final widths early."""
    return point.get(RESTART) == "fresh"


def point_text(point: Point) -> str:
    """Return a point as one line."""
    return ", ".join(
        f"{key} = {value:.3g}" if isinstance(value, float) else f"{key} = {value}"
        for key, value in point.items()
    )


def value_of(config: Config, key: str) -> Value:
    """Return a configuration's value for a dimension; its budget has the factor 1."""
    if key == WIDTHS:
        return 1.0
    if key == _PENALTY:
        return penalty_of(config)
    section, name = key.split(".")
    value: Value = getattr(getattr(config, section), name)
    return value


def has(dimension: Dimension, value: object) -> bool:
    """Return whether a value lies in a dimension."""
    if isinstance(dimension, Choice):
        return value in dimension.values
    return isinstance(value, float) and dimension.low <= value <= dimension.high
