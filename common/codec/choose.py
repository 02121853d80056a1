"""Which contexts an encoder uses; a decoder takes any of them."""

import numpy as np

from common.codec.levels import median
from common.codec.recipe import Known, Recipe
from common.messages import Indices, Vector

_PAYS = 0.9  # a shrink is predicted when it leaves less of the levels than this


def choose(known: Known, count: int) -> Recipe:
    """Return the contexts to use for a message of ``count`` entries."""
    base = bool(np.any(known.base))
    agreed = known.mask is not None
    return Recipe(
        base=base,
        last=base and known.last is not None,
        agreed=agreed,
        columns=not agreed and count > 8 * len(known.shape.column_lengths),
        row_grain=0 if agreed or not base else 1,
        size_grain=0,
        deep=base and count > 1 << 15,
    )


def choose_shrink(known: Known, indices: Indices, values: Vector) -> np.float32:
    """Return by how much the sparsifier has shrunk every weight, or 0.

    Args:
        known: What both ends hold.
        indices: Positions of the delta.
        values: What it holds there, float32[count].
    """
    step = max(1, len(indices) >> 16)
    weights = known.base[indices[::step]]
    alive = weights != 0
    moves = values[::step][alive] * np.sign(weights[alive])
    shrink = -median(moves)
    before, after = np.abs(moves), np.abs(moves + shrink)
    # Medians: a selection is exact, a sum depends on the order of the platform.
    return shrink if median(after) < np.float32(_PAYS) * median(before) else np.float32(0)

