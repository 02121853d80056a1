"""Consensus rules: one importance made of those of the clients."""

from math import ceil
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common.methods.kinds import CONSENSUS
from fedprune.common.methods.registry import method

Scores: TypeAlias = NDArray[np.float64]

# Share cut off at each end: robust against 3 of 10 colluders; the median against 4.
_TRIM = 0.25
_FEWEST = 3  # scores that have two ends and a middle


@method(CONSENSUS)
def mean(scores: Scores, num_examples: Scores) -> Scores:
    """Mean of the clients' scores, weighted by their examples."""
    # Not by BLAS, whose sums depend on its number of threads.
    total = (num_examples[:, None] * scores).sum(axis=0)
    weighted: Scores = total / num_examples.sum()
    return weighted


@method(CONSENSUS, laws=("robust",))
def median(scores: Scores) -> Scores:
    """Median of the clients' scores of each channel."""
    middle: Scores = np.median(scores, axis=0)
    return middle


@method(CONSENSUS, laws=("robust",))
def trimmed_mean(scores: Scores) -> Scores:
    """Mean of the middle half of the clients' scores of each channel.

    At least one client is cut off at each end, where there are three or more.
    """
    cut = ceil(_TRIM * len(scores)) if len(scores) >= _FEWEST else 0
    cut = min(cut, (len(scores) - 1) // 2)
    middle: Scores = np.sort(scores, axis=0)[cut : len(scores) - cut].mean(axis=0)
    return middle
