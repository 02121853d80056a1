"""Reconstruction at the server: what clients tell of layers' inputs, and its use."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedprune.common.messages import Covariances
from fedprune.common.pruning.reconstruction.inputs import Place, places
from fedprune.common.pruning.reconstruction.weights import Matrix, reconstruct
from fedprune.common.spec import Mask, Vector
from fedprune.server.rounds.influence import clip_columns
from fedprune.server.rounds.records import ClientRecord
from fedprune.server.rounds.state import RunSpec, ServerState
from fedprune.server.rounds.steps.frozen import keep_values


def rebuilt_weights(
    moved: ServerState, new: Mask, records: Sequence[ClientRecord], run_spec: RunSpec
) -> Vector:
    """Return the weights of the network that is cut, ready for the cut to ``new``.

    They are the state's own where no client told covariances (none are asked for
    without ``prune.reconstruct``).

    Args:
        moved: The state before the cut.
        new: Keep mask after it, bool[units].
        records: The accepted answers.
        run_spec: Structure, frozen modules, bounds.
    """
    config, structure = run_spec.config, run_spec.structure
    told = [r for r in sorted(records, key=lambda r: r.client_id) if r.covariances]
    if not told or np.array_equal(new, moved.keep):
        return moved.weights
    layout = tuple(places(structure, moved.keep))
    pooled = pool_covariances(told, layout, config.robust.max_moment)
    changed = reconstruct(moved.weights, structure, moved.keep, new, pooled)
    tensors = structure.spec(moved.keep).tensors
    return keep_values(moved.weights, changed, tensors, config.task.freeze)


def pool_covariances(
    records: Sequence[ClientRecord], layout: Sequence[Place], multiple: float
) -> Covariances:
    """Pool what clients tell, as if their examples were those of one client.

    Each client's numbers are clipped as batch-norm moments are (``pooled_moments``),
    and weigh as much as its delta.  A client that did not measure an input has no part
    in it.

    Args:
        records: Answers with covariances, in the order of their clients.
        layout: Where each input stands in them.
        multiple: ``robust.max_moment``; 0 = nothing is clipped.
    """
    told = [one.covariances for one in records if one.covariances is not None]
    mean, deviation, correlation = (
        clip_columns(np.stack(part).astype(np.float64), multiple)
        for part in (
            [one.mean for one in told],
            [one.deviation for one in told],
            [one.correlation for one in told],
        )
    )
    deviation, correlation = np.maximum(deviation, 0.0), np.clip(correlation, -1, 1)
    weights = np.asarray([r.num_examples for r in records], dtype=np.float64)
    found = Covariances(
        mean=np.zeros(mean.shape[1], dtype=np.float32),
        deviation=np.zeros(mean.shape[1], dtype=np.float32),
        correlation=np.zeros(correlation.shape[1], dtype=np.float32),
    )
    for place in layout:
        at, pairs = place.channels, place.pairs
        measured = deviation[:, at].any(axis=1)
        if measured.any():
            one = _pooled(
                mean[measured, at],
                deviation[measured, at],
                correlation[measured, pairs],
                weights[measured],
            )
            found.mean[at], found.deviation[at], found.correlation[pairs] = one
    return found


def _pooled(
    mean: Matrix, deviation: Matrix, correlation: Matrix, weights: NDArray[np.float64]
) -> tuple[Matrix, Matrix, Matrix]:
    """Return mean, deviation and correlations of one input over all examples."""
    share = weights / weights.sum()
    middle = (share[:, None] * mean).sum(axis=0)
    count = mean.shape[1]
    low = np.tril_indices(count, -1)
    variance, pairs = np.zeros(count), np.zeros(len(low[0]))
    for part, own, spread, alike in zip(
        share, mean - middle, deviation, correlation, strict=True
    ):
        variance += part * (spread**2 + own**2)
        pairs += part * (alike * spread[low[0]] * spread[low[1]])
        pairs += part * (own[low[0]] * own[low[1]])
    total = np.sqrt(variance)
    scale = np.divide(1.0, total, out=np.zeros(count), where=total > 0)
    return middle, total, np.clip(pairs * scale[low[0]] * scale[low[1]], -1.0, 1.0)
