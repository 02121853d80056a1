"""Figures of a client as rows of length 1 at most: noise covers one whole row.

Losses beyond 4 nats, metrics beyond 1 and moments far from those that everybody knows
are brought within bounds.  Each row has a way back, for the mean of rows with noise.
"""

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from fedprune.common.messages import Statistics, Validation
from fedprune.common.pruning.importance import is_informative, normalise
from fedprune.common.spec import Vector

Row = NDArray[np.float64]

GRID = 2.0**24  # steps of the fixed point in which rows are added
REACH = 1.0 + 2.0**-20  # a delta is clipped in float32, and may be longer by as much
_LOSS = 4.0  # nats
_CHANGE = 0.5  # root mean square of a client's moments, in those of the round before
_SMALLEST = 1e-5  # variance of a channel that is all but constant


def within(row: Row, reach: float) -> Row:
    """Return a row over ``reach``, or over its own length if that is greater."""
    # Not by BLAS, whose sums depend on its number of threads, and so on the engine.
    shortened: Row = row / max(reach, float(np.sqrt(np.sum(row * row))))
    return shortened


def figures_row(loss: float, validation: Validation | None) -> Row:
    """Return training loss, validation loss and metric, float64[3]."""
    trained = float(np.clip(loss / _LOSS, 0.0, 1.0))
    validated = metric = 0.0
    if validation is not None and validation.count:
        mean = validation.loss_sum / validation.count
        validated = float(np.clip(mean / _LOSS, 0.0, 1.0))
        metric = float(np.clip(validation.metric_sum / validation.count, -1.0, 1.0))
    return np.array([trained, validated, metric]) / sqrt(3)


def loss_of(row: Row) -> float:
    """Return the training loss of a row of figures."""
    return float(max(row[0], 0.0)) * sqrt(3) * _LOSS


def validation_of(row: Row) -> Validation:
    """Return the validation of a row of figures, as of one example."""
    return Validation(
        loss_sum=float(max(row[1], 0.0)) * sqrt(3) * _LOSS,
        metric_sum=float(np.clip(row[2] * sqrt(3), -1.0, 1.0)),
        count=1,
    )


def scores_row(importance: Vector | None, units: int) -> Row:
    """Return a vote, float64[units]; zeros of a client that abstains."""
    if importance is None or not is_informative(importance):
        return np.zeros(units)
    return normalise(importance)


def scores_of(row: Row) -> Vector:
    """Return the importance of a row, float32[units], none below 0."""
    return np.maximum(row, 0.0).astype(np.float32)


def known_moments(before: Statistics | None, moments: int) -> tuple[Row, Row]:
    """Return mean and variance that everybody knows, float64[moments] each."""
    if before is None or not before.measured:
        return np.zeros(moments), np.ones(moments)
    variance = np.maximum(before.variance.astype(np.float64), _SMALLEST)
    return before.mean.astype(np.float64), variance


def moments_row(told: Statistics | None, known: tuple[Row, Row]) -> Row:
    """Return a client's moments as changes of known ones, float64[2 * moments]."""
    mean, variance = known
    if told is None:
        return np.zeros(2 * len(mean))
    offset = (told.mean.astype(np.float64) - mean) / np.sqrt(variance)
    squares = told.variance.astype(np.float64) / variance + offset**2 - 1.0
    row: Row = np.concatenate([offset, squares])
    reach = _CHANGE * sqrt(len(row))
    return within(row, reach)


def moments_of(row: Row, known: tuple[Row, Row]) -> Statistics:
    """Return the moments of a row of changes, as of one example."""
    mean, variance = known
    moved = row * _CHANGE * sqrt(len(row))
    offset, squares = moved[: len(mean)], moved[len(mean) :]
    left = np.maximum(1.0 + squares - offset**2, _SMALLEST)
    return Statistics(
        num_examples=1,
        mean=(mean + offset * np.sqrt(variance)).astype(np.float32),
        variance=(variance * left).astype(np.float32),
    )
