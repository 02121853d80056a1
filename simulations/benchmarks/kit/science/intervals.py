"""Intervals of paired differences, and what they say about a goal.

A difference is paired: two methods, the same seed, the same examples.  Its interval is
a bootstrap in two steps: seeds are drawn with replacement, then the examples of each
drawn seed.  A bootstrap over n seeds is too narrow for small n: by sqrt((n - 1) / n) in
the deviation, and as the normal distribution is beside Student's t.  So the deviation
that comes from the seeds is stretched by ``t / z * sqrt(n / (n - 1))`` (Hesterberg
2015, arXiv:1411.5279, on narrowness bias): by 2.7 for n = 3, by 1.1 for n = 20.  That
of the examples, which are many, is not.  One seed says nothing about other seeds: its
interval is not known, and no goal is resolved by it.
"""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student

from fedprune.common.errors import IntegrityError
from fedprune.simulations.benchmarks.kit.rows import Interval

LEVEL = 0.95
DRAWS = 4000

_SEED = 20_150_412  # of the generator of the draws: equal data, equal interval


def interval(
    differences: Sequence[ArrayLike], *, same_examples: bool = False
) -> Interval:
    """Return the mean of paired differences and its 95 % interval.

    Args:
        differences: For each seed the difference of each example, [examples]; one
            number where a seed has one figure, such as a correlation.
        same_examples: Whether all seeds have the same examples in the same order; then
            one draw of examples serves all seeds, which counts their noise once.

    Raises:
        ValueError: If there is no seed, or a seed without examples.
    """
    found = [np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in differences]
    if not found or any(len(one) == 0 for one in found):
        msg = "want the differences of one seed or more, and an example of each"
        raise ValueError(msg)
    count = len(found)
    mean = float(np.mean([one.mean() for one in found]))
    if count == 1:
        return Interval(mean=mean, low=-math.inf, high=math.inf, seeds=1)
    rng = np.random.Generator(np.random.PCG64(_SEED))
    means = _resampled(found, rng, same_examples=same_examples)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean=mean, low=float(low), high=float(high), seeds=count)


def paired(
    first: Mapping[int, NDArray[np.bool_]], second: Mapping[int, NDArray[np.bool_]]
) -> list[NDArray[np.float64]]:
    """Return first - second for each example of the seeds that both have.

    Raises:
        IntegrityError: If a seed has another number of examples in the two.
    """
    seeds = sorted(set(first) & set(second))
    for seed in seeds:
        if len(first[seed]) != len(second[seed]):
            msg = f"seed {seed} has {len(first[seed])} and {len(second[seed])} examples"
            msg += "; want the same examples of both methods"
            raise IntegrityError(msg)
    return [first[s].astype(np.float64) - second[s] for s in seeds]


def pack(correct: NDArray[np.bool_]) -> dict[str, object]:
    """Return which examples are right as JSON: their number, and bits in base64."""
    bits = base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")
    return {"count": len(correct), "bits": bits}


def unpack(stored: Mapping[str, object]) -> NDArray[np.bool_]:
    """Return the examples that ``pack`` stored, bool[count].

    Raises:
        IntegrityError: If it is nothing that ``pack`` returns.
    """
    count, text = stored.get("count"), stored.get("bits")
    try:
        data = base64.b64decode(str(text), validate=True)
    except binascii.Error as error:
        msg = f"bits of examples are no base64 ({error}); measure them again"
        raise IntegrityError(msg) from error
    if type(count) is not int or count < 0 or len(data) != (count + 7) // 8:
        msg = f"{len(data)} bytes of bits for {count} examples; measure them again"
        raise IntegrityError(msg)
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count)
    return bits.astype(np.bool_)


def _resampled(
    found: Sequence[NDArray[np.float64]],
    rng: np.random.Generator,
    *,
    same_examples: bool,
) -> NDArray[np.float64]:
    """Return the mean of each bootstrap draw, float64[DRAWS]."""
    each = np.array([one.mean() for one in found])
    chosen = rng.integers(len(found), size=(DRAWS, len(found)))
    by_seeds = each[chosen].mean(axis=1) - each.mean()
    noise = _shared if same_examples else _apart
    means: NDArray[np.float64] = each.mean() + _stretch(len(found)) * by_seeds
    return means + noise([one - one.mean() for one in found], chosen, rng)


def _apart(
    centred: Sequence[NDArray[np.float64]],
    chosen: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the deviation of each draw by examples drawn for each seed apart."""

    def drawn(values: NDArray[np.float64]) -> float:
        return float(values[rng.integers(len(values), size=len(values))].mean())

    found = [[drawn(centred[seed]) for seed in seeds] for seeds in chosen]
    means: NDArray[np.float64] = np.mean(found, axis=1)
    return means


def _shared(
    centred: Sequence[NDArray[np.float64]],
    chosen: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return it with one draw of examples for all seeds of a draw."""
    table = np.stack(centred)
    count = table.shape[1]
    found = np.empty(len(chosen))
    for place, seeds in enumerate(chosen):
        values = table[seeds].mean(axis=0)
        found[place] = values[rng.integers(count, size=count)].mean()
    return found


def _stretch(count: int) -> float:
    """Return the factor on the deviations of a bootstrap over ``count`` seeds."""
    end = (1 + LEVEL) / 2
    ratio = float(student.ppf(end, count - 1) / norm.ppf(end))
    return ratio * math.sqrt(count / (count - 1))
