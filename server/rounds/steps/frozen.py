"""Frozen modules at the server: they keep their weights, whatever the clients send."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from fedprune.common.messages import Statistics
from fedprune.common.models.training import is_inside
from fedprune.common.spec import Mask, TensorSpec, Vector
from fedprune.common.structure.structure import MEAN, Structure


def keep_values(
    before: Vector,
    after: Vector,
    tensors: Sequence[TensorSpec],
    modules: Collection[str],
) -> Vector:
    """Return values after a step, with those of frozen modules as before it.

    Args:
        before: float32[n].
        after: float32[n].
        tensors: Names and shapes of the weights or running buffers.
        modules: Names of the frozen modules.
    """
    if not modules:
        return after
    kept = [np.full(t.size, is_inside(t.name, modules)) for t in tensors]
    return np.where(np.concatenate(kept), before, after)


def keep_moments(
    before: Statistics | None,
    measured: Statistics | None,
    structure: Structure,
    keep: Mask,
    modules: Collection[str],
) -> Statistics | None:
    """Return measured moments, with those of frozen modules as before the round.

    Args:
        before: Moments of the last round, which are those of the first network for
            frozen modules; None where no batch norm is frozen.
        measured: Pooled moments of this round, or None.
        structure: The original network.
        keep: Keep mask of the network, bool[units].
        modules: Names of the frozen modules.
    """
    if not modules or measured is None or before is None or not before.measured:
        return measured
    living = structure.living(keep)
    parts = [
        np.full(living.shape(one.name + MEAN, keep)[0], is_inside(one.name, modules))
        for one in living.moments
    ]
    kept = np.concatenate(parts)
    return replace(
        measured,
        mean=np.where(kept, before.mean, measured.mean),
        variance=np.where(kept, before.variance, measured.variance),
    )
