"""A broadcast in the client store, as plain integers.

Never sent.  The entropy coder needs seconds for ten million levels, which a client
would spend twice in every round: to store a broadcast, and to read it again.
"""

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


def stored_plan(data: bytes) -> PrunePlan:
    """Return the prune plan of a stored broadcast, not checked against a structure.

    Raises:
        PayloadError: If the bytes are not a stored broadcast.
    """
    return read_plan(_items(data)[0], "stored.plan")


def decode_stored(data: bytes, spec: ModelSpec) -> GridWeights:
    """Return the grid of a stored broadcast.

    Args:
        data: What ``encode_stored`` returned.
        spec: Shapes of the network of its plan.

    Raises:
        PayloadError: If the bytes are not a stored broadcast, or of another size.
    """
    _, wide, codes, levels = _items(data)
    dtype = np.dtype("<i2" if checks.boolean(wide, "stored.wide") else np.int8)
    size = dtype.itemsize * spec.size
    steps = checks.blob(codes, "stored.codes", spec.rows)
    found = np.frombuffer(checks.blob(levels, "stored.levels", size), dtype=dtype)
    return GridWeights(
        codes=np.frombuffer(steps, dtype=np.uint8), levels=found.astype(np.int16)
    )


def _items(data: bytes) -> tuple[object, ...]:
    return checks.array(unseal(data, Kind.STORED, checks.MAX_STORED), "stored", _FIELDS)
