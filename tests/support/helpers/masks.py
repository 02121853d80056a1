"""Weights of four tensors, and the mask that a kind of masks makes of them."""

import numpy as np

from fedprune.common.config import MaskRule
from fedprune.common.methods.kinds import MASK
from fedprune.common.methods.registry import find
from fedprune.common.sparsity.masks import next_mask
from fedprune.common.spec import ModelSpec, TensorSpec, Vector, WeightMask

PLAN = b"p" * 16
SPEC = ModelSpec(
    tensors=(
        TensorSpec(name="conv", shape=(8, 16, 3, 3)),
        TensorSpec(name="bias", shape=(8,)),
        TensorSpec(name="fc", shape=(10, 24)),
        TensorSpec(name="odd", shape=(4, 6)),
    ),
    moments=0,
    units=0,
)
MATRICES = 8 * 16 * 9 + 240 + 24
FC = slice(1152 + 8, 1152 + 8 + 240)
ODD = slice(1152 + 8 + 240, None)


def weights(seed: int = 0) -> Vector:
    """Return normal weights, those of ``fc`` a hundred times smaller."""
    found = np.random.default_rng(seed).standard_normal(SPEC.size).astype(np.float32)
    found[FC] *= 0.01
    return found


def masked(
    kind: str,
    parent: WeightMask,
    values: Vector,
    density: float = 0.25,
    *,
    spec: ModelSpec = SPEC,
    **rule: int,
) -> WeightMask:
    """Return the mask that a registered kind makes, with blocks of 4 x 4."""
    settings = MaskRule(**{"block": 4} | rule)
    return next_mask(parent, spec, values, find(MASK, kind), settings, density)
