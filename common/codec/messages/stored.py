"""A broadcast in the client store, as plain integers.

Never sent.  The entropy coder needs seconds for ten million levels, which a client
would spend twice in every round: to store a broadcast, and to read it again.
"""

from collections.abc import Callable

import numpy as np

from fedprune.common.codec import checks
from fedprune.common.codec.fields import plan_fields, read_plan
from fedprune.common.codec.frame import Kind, seal, unseal
from fedprune.common.messages import GridWeights
from fedprune.common.spec import ModelSpec, PrunePlan

_FIELDS = 4
_NARROW = 127  # levels up to this fit into a byte


def encode_stored(plan: PrunePlan, grid: GridWeights) -> bytes:
    """Return a grid and the prune plan that it belongs to as one message."""
    wide = int(np.abs(grid.levels).max(initial=0)) > _NARROW
    levels = grid.levels.astype("<i2" if wide else np.int8).tobytes()
    return seal(Kind.STORED, [plan_fields(plan), wide, grid.codes.tobytes(), levels])


def decode_stored(
    data: bytes, shapes: Callable[[PrunePlan], ModelSpec] | None = None
) -> tuple[PrunePlan, GridWeights]:
    """Return the prune plan and the grid of a stored broadcast.

    Args:
        data: What ``encode_stored`` returned.
        shapes: Checks the plan, and returns the shapes of its network; None = any
            number of weights and rows, to be shown only.

    Raises:
        PayloadError: If the bytes are not a stored broadcast, or of another size; and
            what ``shapes`` raises.
    """
    fields = unseal(data, Kind.STORED, checks.MAX_STORED)
    items, wide, codes, levels = checks.array(fields, "stored", _FIELDS)
    plan = read_plan(items, "stored.plan")
    spec = None if shapes is None else shapes(plan)
    dtype = np.dtype("<i2" if checks.boolean(wide, "stored.wide") else np.int8)
    rows = None if spec is None else spec.rows
    steps = checks.blob(codes, "stored.codes", rows)
    whole = len(checks.blob(levels, "stored.levels")) // dtype.itemsize
    size = dtype.itemsize * (whole if spec is None else spec.size)
    found = np.frombuffer(checks.blob(levels, "stored.levels", size), dtype=dtype)
    return plan, GridWeights(
        codes=np.frombuffer(steps, dtype=np.uint8), levels=found.astype(np.int16)
    )
