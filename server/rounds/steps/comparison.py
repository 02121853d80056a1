"""Two broadcasts compared by the clients' validation, with a standard error.

A client's validation part is the same in every round, so the comparison is paired:
each client's difference, and the spread of these differences over the clients.  Where
less than half of a cohort measured both broadcasts, the two means are compared as
they are.

With w examples of client c, d its value or difference, W the sum of the w, k clients::

    mean   = sum(w d) / W
    error2 = k / (k - 1) * sum(w^2 (d - mean)^2) / W^2             of k clients
    error2 = (v(before) + v(after)) / W                            of the W examples

The first is the variance of a ratio of sums over clusters (Cochran, Sampling
Techniques, 1977, chapter 6); pairs and clusters for the evaluation of networks: Miller
2024, arXiv:2411.00640.  Below ``FEW`` clients the larger one counts.  The second has no
pairs, since single losses do not travel; v is a rough variance of one example
(``loss_variance``, ``metric_variance``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from statistics import median_low
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedprune.server.rounds.records import Validations

FEW = 5  # clients below which their spread alone is too uncertain
_MAD = 1.4826  # of a normal distribution, standard deviation over median distance
_REACH = 3.0  # standard deviations from the median that a client counts in full
_MAJORITY = 3  # clients from which on one can be told to be far off

Values = NDArray[np.float64]
Variance = Callable[[float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A figure of two broadcasts.

    Attributes:
        before: Its mean for the earlier one.
        after: Its mean for the later one.
        error: Standard error of ``after - before``, >= 0.
        clients: Clients that count, >= 1: in both rounds, or in the smaller one.
        paired: Whether each client is compared with itself.
    """

    before: float
    after: float
    error: float
    clients: int
    paired: bool

    @property
    def comparison(self) -> Literal["paired", "unpaired"]:
        """Word for ``paired``."""
        return "paired" if self.paired else "unpaired"

    @property
    def rise(self) -> float:
        """The later mean minus the earlier one."""
        return self.after - self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mean:
    """A weighted mean over clients.

    Attributes:
        value: The mean.
        error2: Square of its standard error, by the spread over the clients.
    """

    value: float
    error2: float


def compare_losses(
    before: Validations, after: Validations, multiple: float
) -> Difference | None:
    """Compare the losses of two broadcasts; None where no client measured one.

    Args:
        before: Validations of the earlier broadcast.
        after: Those of the later one.
        multiple: ``robust.max_weight``, which bounds the count of one client; 0 =
            neither counts nor values are bounded.
    """
    return _compare(before, after, multiple, loss_variance, "losses")


def compare_metrics(
    before: Validations, after: Validations, multiple: float, *, higher: bool
) -> Difference | None:
    """Compare the headline metrics of two broadcasts, as ``compare_losses`` does.

    Args:
        before: Validations of the earlier broadcast.
        after: Those of the later one.
        multiple: ``robust.max_weight``.
        higher: Whether a higher metric is better.
    """

    def variance(mean: float) -> float:
        return metric_variance(mean, higher=higher)

    return _compare(before, after, multiple, variance, "metrics")


def loss_variance(mean: float) -> float:
    """Return a rough variance of the losses of single examples: that of Exp(mean)."""
    return mean * mean


def metric_variance(mean: float, *, higher: bool) -> float:
    """Return a rough variance of the metrics of single examples.

    A share is Bernoulli; of other metrics the distance to the best value (1, or 0
    where lower is better) is taken to spread as much as it is long.

    >>> metric_variance(0.5, higher=True), metric_variance(-1.0, higher=True)
    (0.25, 4.0)
    >>> metric_variance(0.5, higher=False)
    0.25
    """
    if not higher:
        return mean * mean
    if 0.0 <= mean <= 1.0:
        return mean * (1.0 - mean)
    return (1.0 - mean) ** 2


def _compare(
    before: Validations,
    after: Validations,
    multiple: float,
    variance: Variance,
    part: str,
) -> Difference | None:
    if not before.clients or not after.clients:
        return None
    both = sorted(set(before.clients) & set(after.clients))
    if 2 * len(both) >= max(len(before.clients), len(after.clients)):
        sides = (before.of(both), after.of(both))
        return _paired(*sides, multiple, variance, part)
    return _unpaired(before, after, multiple, variance, part)


def _paired(
    before: Validations,
    after: Validations,
    multiple: float,
    variance: Variance,
    part: str,
) -> Difference:
    """Compare the same clients, in the same order, each with itself."""
    old, new = getattr(before, part), getattr(after, part)
    weights = _weights(np.minimum(before.counts, after.counts), multiple)
    floor2 = _middle(old, variance) + _middle(new, variance)
    start = _mean(_bounded(old, weights, _middle(old, variance), multiple), weights)
    rise = _mean(_bounded(new - old, weights, floor2, multiple), weights)
    end = start.value + rise.value
    examples = (variance(start.value) + variance(end)) / weights.sum()
    return Difference(
        before=start.value,
        after=end,
        error=_error(rise.error2, float(examples), len(weights)),
        clients=len(weights),
        paired=True,
    )


def _unpaired(
    before: Validations,
    after: Validations,
    multiple: float,
    variance: Variance,
    part: str,
) -> Difference:
    """Compare two cohorts: the variances of their means add up."""
    means, examples = [], 0.0
    for side in (before, after):
        values, weights = getattr(side, part), _weights(side.counts, multiple)
        floor2 = _middle(values, variance)
        found = _mean(_bounded(values, weights, floor2, multiple), weights)
        means.append(found)
        examples += variance(found.value) / float(weights.sum())
    start, end = means
    clients = min(len(before.clients), len(after.clients))
    return Difference(
        before=start.value,
        after=end.value,
        error=_error(start.error2 + end.error2, examples, clients),
        clients=clients,
        paired=False,
    )


def _weights(counts: NDArray[np.int64], multiple: float) -> Values:
    """Return the counts, each at most ``multiple`` times the lower median one."""
    if multiple <= 0.0:
        return counts.astype(np.float64)
    most = max(int(multiple * median_low(counts.tolist())), 1)
    return np.minimum(counts, most).astype(np.float64)


def _middle(values: Values, variance: Variance) -> float:
    """Return the variance of one example of the client in the middle."""
    return variance(float(np.median(values)))


def _bounded(values: Values, weights: Values, floor2: float, multiple: float) -> Values:
    """Clip values to the median +- 3 standard deviations, from three clients on.

    The deviation is the robust one of the clients, and at least that of a client's own
    examples: where most clients agree to the last digit, the others still count.

    Args:
        values: One a client.
        weights: Its examples.
        floor2: Variance of a value of one example.
        multiple: ``robust.max_weight``; 0 = nothing is clipped.
    """
    if multiple <= 0.0 or len(values) < _MAJORITY:
        return values
    centre = float(np.median(values))
    robust = _MAD * float(np.median(np.abs(values - centre)))
    own = sqrt(floor2 / float(np.median(weights)))
    reach = _REACH * max(robust, own)
    clipped: Values = np.clip(values, centre - reach, centre + reach)
    return clipped


def _mean(values: Values, weights: Values) -> _Mean:
    """Return a weighted mean with the square of its error, 0 of one client."""
    total, count = float(weights.sum()), len(values)
    value = float((weights * values).sum()) / total
    if count == 1:
        return _Mean(value=value, error2=0.0)
    spread = float((((weights / total) * (values - value)) ** 2).sum())
    return _Mean(value=value, error2=count / (count - 1) * spread)


def _error(of_clients: float, of_examples: float, clients: int) -> float:
    """Return the standard error; of few clients the larger one."""
    return sqrt(max(of_clients, of_examples) if clients < FEW else of_clients)
