"""One importance out of many: no client may own the cut."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedprune.common.spec import Vector

# Share cut off at each end: holds against 3 of 10 colluders, the median against 4.
_TRIM = 0.25


def normalise(importance: Vector) -> NDArray[np.float64]:
    """Clamp at 0 and scale to sum 1 over ALL units.

    Loss-based scores are comparable across layers, so that one scale per client keeps
    what they say of layers; it also makes the scale of a client's loss irrelevant.
    All-zero scores stay zero: the client says nothing.
    """
    clamped = np.maximum(importance.astype(np.float64), 0.0)
    total = float(clamped.sum())
    return clamped / total if total > 0.0 else clamped


def consensus(
    importances: Mapping[str, Vector], weights: Mapping[str, int], rule: str
) -> Vector | None:
    """Return one importance for the kept units, or None when nobody scored.

    Non-finite scores never get here (the decoder refuses them).  Clients are taken in
    the order of their ids, so that the order of arrival does not matter.

    Args:
        importances: Client id -> float32[kept units].
        weights: Client id -> number of examples; used by "mean" only.
        rule: "mean" (weighted by examples), "median", or "trimmed-mean" (the mean of
            the middle half, at least one client cut off at each end of three).

    Returns:
        float32[kept units], summing to about 1.
    """
    informative = [
        c for c in sorted(importances) if float(importances[c].max(initial=0.0)) > 0.0
    ]
    if not informative:
        return None
    scores = np.stack([normalise(importances[c]) for c in informative])
    if rule == "mean":
        share = np.asarray([weights[c] for c in informative], dtype=np.float64)
        # Not by BLAS, whose sums depend on its number of threads.
        total = (share[:, None] * scores).sum(axis=0)
        weighted: Vector = (total / share.sum()).astype(np.float32)
        return weighted
    if rule == "median":
        return np.median(scores, axis=0).astype(np.float32)
    cut = int(np.ceil(_TRIM * len(scores))) if len(scores) > 2 else 0  # noqa: PLR2004
    cut = min(cut, (len(scores) - 1) // 2)
    ordered = np.sort(scores, axis=0)
    middle: NDArray[np.float64] = ordered[cut : len(scores) - cut]
    trimmed: Vector = middle.mean(axis=0).astype(np.float32)
    return trimmed


def smooth(earlier: Vector | None, fresh: Vector, weight: float) -> Vector:
    """Return the moving average of importances over cycles, float32[units].

    Args:
        earlier: Average so far over the ORIGINAL units, or None.
        fresh: This cycle's consensus over the original units.
        weight: Share of the earlier average, 0 <= weight < 1.
    """
    if earlier is None:
        return fresh
    return (weight * earlier + (1.0 - weight) * fresh).astype(np.float32)
